"""The process that stands behind a machine: turns signals into an orderly end, and can leave its terminal; no daemon.

In the foreground the calling process is the supervisor. Detached, it is a fork of the process that verified the plan,
so that a verified plan never has to be written down; the caller hears when the guest is ready, or why it isn't.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn

from mvmnix.errors import MvmnixError
from mvmnix.launch.control.server import Control
from mvmnix.launch.control.start_notification import Failure, notify_start, read_start_notification
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.finalize import Ended
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.start import start_machine
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.system.loop import Loop

_STOPPING: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
#: Seconds that a guest gets to end its commands when its supervisor is told to stop.
GRACE: Final = 5.0
#: What is done with a machine once its guest is ready.
type Work = Callable[[Machine], ExitStatus]
#: A context around a machine's life; what it yields is told the machine's id once its guest is ready.
type Retain = Callable[[Host], AbstractContextManager[Callable[[str], None]]]


class StopRequestedError(MvmnixError):
    """The supervisor got a signal; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number
        self.exit_code = 128 + number


@dataclass(frozen=True, slots=True)
class SupervisedEnd:
    """How a supervised machine ended, and what the supervisor should exit with: the command's own, or 128 + signal."""

    exit_code: int
    ended: Ended


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


def supervise(plan: VerifiedPlan, host: Host, work: Work, *, name: str = "", created: str = "") -> SupervisedEnd:
    """Start a machine, do `work` with it once its guest is ready, stop it.

    The first stopping signal lets the guest end in order, the second ends it. Raises whatever `start` and `work` raise;
    StopRequestedError when a signal came before the guest was ready.
    """
    with stopping_signals(host.loop):
        machine = start_machine(plan, host, name=name, created=created)
        try:
            plan.kernel_loaded()
            with Control(machine):
                return _served(machine, work)
        finally:
            machine.kill()


def _served(machine: Machine, work: Work) -> SupervisedEnd:
    try:
        status = work(machine)
        return SupervisedEnd(status.exit_code, machine.stop(grace=GRACE))
    except StopRequestedError as request:
        return SupervisedEnd(128 + request.number, _stopped(machine))


def _stopped(machine: Machine) -> Ended:
    try:
        return machine.stop(grace=GRACE)
    except StopRequestedError:
        return machine.kill()


@contextmanager
def _kept(_host: Host) -> Iterator[Callable[[str], None]]:
    """Keep the machine until a user removes it."""
    yield lambda _machine: None


def _unlogged(_error: Exception) -> None:
    """What a failed start's children said is not kept."""


def detach(
    plan: VerifiedPlan,
    make_host: Callable[[], Host],
    *,
    name: str = "",
    created: str = "",
    retain: Retain = _kept,
    failed: Callable[[Exception], None] = _unlogged,
) -> str:
    """Run a machine in a process of its own; returns the machine's id once its guest is ready.

    `make_host` is called in that process: locks, loops and logs don't survive a fork. So are `retain`, and `failed`
    with an error before it is told here. The command's output goes to the machine's directory. Raises what the start
    raised there. To be called while there is one thread only.
    """
    if threading.active_count() != 1:
        raise RuntimeError("a process with several threads can't be forked safely")

    def start(work: Work) -> SupervisedEnd:
        host = make_host()
        with retain(host) as mark_ready:

            def begin(machine: Machine) -> ExitStatus:
                mark_ready(machine.id)
                return work(machine)

            return supervise(plan, host, begin, name=name, created=created)

    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        _leave(theirs, partial(_supervise, start, failed))
    theirs.close()
    os.waitpid(child, 0)
    with ours:
        return read_start_notification(ours)


def _leave(notification: socket.socket, supervise_it: Callable[[socket.socket], int]) -> NoReturn:
    """Fork once more, so that no caller has to reap the supervisor; then be it."""
    status = 125
    try:
        os.setsid()
        if os.fork() == 0:
            _let_go(notification.fileno())
            os.chdir("/")
            status = supervise_it(notification)
        else:
            status = 0
    finally:
        os._exit(status)  # nothing of the caller's is to be cleaned up twice


def _let_go(keep: int) -> None:
    """Close the terminal, and what a caller of mvm left open to its children: the reader of a pipe of it would wait."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for fd in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - numbers, not paths
        try:
            if fd > 2 and fd != keep and os.get_inheritable(fd):
                os.close(fd)
        except OSError:
            continue  # the directory's own descriptor


def _unwatched(_data: bytes) -> None:
    """A sink for output that is only kept."""


def _supervise(
    start: Callable[[Work], SupervisedEnd], failed: Callable[[Exception], None], notification: socket.socket
) -> int:
    def work(machine: Machine) -> ExitStatus:
        if not notify_start(notification, machine.id):
            raise StopRequestedError(signal.SIGHUP)  # the caller that asked for the machine is gone, without its id
        return machine.run(stdout=_unwatched, stderr=_unwatched, attached=False)

    try:
        return start(work).exit_code
    except Exception as error:  # noqa: BLE001 - the caller is told, and raises it
        failed(error)
        notify_start(notification, Failure.of(error))
        return 125
