"""Turns signals that stop a process into an error that is raised where its loop waits, and nowhere else."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mvmnix.errors import MvmnixError
from mvmnix.system.loop import Loop

_STOPPING: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


class StopRequestedError(MvmnixError):
    """The machine is to end, as if its supervisor had got the signal `number`; with `now` without asking its guest."""

    def __init__(self, number: int, *, now: bool = False) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number
        self.now = now
        self.exit_code = 128 + number


@contextmanager
def stopping_signals(loop: Loop) -> Iterator[None]:
    """Turn SIGHUP, SIGINT and SIGTERM into StopRequestedError, raised where `loop` waits and nowhere else.

    A handler that raised by itself would do so between any two instructions, in the middle of writing a receipt too.
    In the main thread only, which is where Python runs handlers.
    """
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)

    def readable() -> None:
        if (number := ours.recv(1)[0]) in _STOPPING:  # others have handlers of their own, which were called
            raise StopRequestedError(number)

    previous_fd = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    previous = {number: signal.signal(number, _ignore) for number in _STOPPING}
    loop.watch(ours.fileno(), read=readable)
    try:
        yield
    finally:
        loop.forget(ours.fileno())
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_fd)
        ours.close()
        theirs.close()


def _ignore(_number: int, _frame: object) -> None:
    """Python writes the signal's number to the wake-up descriptor; that is all that is wanted."""
