"""Waits for a descriptor so that no signal comes too early, as it can for a system call that blocks."""

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def attentive() -> Iterator[Callable[[int], None]]:
    """What returns once a descriptor can be read, and runs the handlers of signals whenever they come.

    A signal between the last instruction and the system call would only be heard with the next one; here it rings a
    bell that is waited for as well (signal.set_wakeup_fd). In the main thread only, which runs the handlers.
    """
    bell, rope = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    previous = signal.set_wakeup_fd(rope, warn_on_full_buffer=False)

    def attend(fd: int) -> None:
        poll = select.poll()
        for each in (bell, fd):
            poll.register(each, select.POLLIN)
        while True:
            ready = {each for each, _ in poll.poll()}
            if bell in ready:
                os.read(bell, 4096)  # its handler has been called, or is before the next instruction
            if fd in ready:
                return

    try:
        yield attend
    finally:
        signal.set_wakeup_fd(previous)
        os.close(bell)
        os.close(rope)
