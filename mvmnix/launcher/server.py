"""The launcher's loop: accepts connections, and forks for each as soon as there is something to read; reads nothing.

So no caller's bytes come into the process that others are served from, and of its descriptors those alone that a
connection which ends leaves unread: they are closed apart (system/descriptors.py), for that may take as long as their
owner wants. What a fork does, how long it takes and how it ends is no matter of the launcher's.
"""

import array
import fcntl
import os
import select
import signal
import socket
import termios
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Final, NoReturn

from mvmnix.errors import MvmnixError
from mvmnix.launch.control.codec import encode
from mvmnix.launch.control.failure import Failure
from mvmnix.launcher.held_templates import HeldTemplates
from mvmnix.launcher.pools import Pools
from mvmnix.system.descriptors import close_listening, hang_up, send_packet

#: Seconds without a caller after which the launcher ends.
IDLE: Final = 60.0
#: Seconds within which a caller has to send its request.
_PATIENCE: Final = 10.0
#: The highest number of a descriptor, and one more.
_LAST: Final = 2**31 - 1
#: Connections that have sent nothing yet; the oldest makes room for one more.
MOST_SILENT: Final = 64
#: Seconds between two looks whether the launcher of a pool is still the one that callers find.
_LOOK: Final = 20.0
#: Seconds for which no connection is accepted when there is no descriptor or no memory for it.
_PAUSE: Final = 0.1


class Server:
    """Serves a listening socket; `serve` is called in a fork, with a connection, and answers its exit status.

    `wait` is called in a fork for each machine that is to wait, with its end of a connection and its plan. A launcher
    that isn't the one that callers find any more (`is_current`) keeps none waiting.
    """

    def __init__(
        self,
        listening: socket.socket,
        serve: Callable[[socket.socket], int],
        templates: HeldTemplates,
        pools: Pools,
        *,
        wait: Callable[[socket.socket, int], int],
        is_current: Callable[[], bool] = lambda: True,
        idle: float = IDLE,
    ) -> None:
        self._listening = listening
        self._templates = templates
        self._pools = pools
        self._serve = serve
        self._wait = wait
        self._is_current = is_current
        self._looked = time.monotonic()
        self._idle = idle
        self._silent: dict[int, tuple[socket.socket, float]] = {}
        self._is_stopped = False

    def run(self) -> None:
        """Serve callers until none has come for a while, or SIGTERM, then hang up. Forks go on by themselves."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps forks that end
        last = time.monotonic()
        while not self._is_stopped and (self._has_work or time.monotonic() - last < self._idle):
            if self._turn(last):
                last = time.monotonic()
            self._keep_waiting()
        self._pools.drop_all()
        for connection, _ in self._silent.values():
            hang_up(connection)
        close_listening(self._listening)

    @property
    def _has_work(self) -> bool:
        return bool(self._silent) or self._pools.are_set

    def _keep_waiting(self) -> None:
        """Start a machine that is to wait, where one is missing."""
        if self._pools.are_set and time.monotonic() - self._looked >= _LOOK:
            self._looked = time.monotonic()
            if not self._is_current():
                self._pools.drop_all()
        try:
            start = self._pools.next_start()
        except OSError:
            return
        if start is None:
            return
        end, plan = start
        with end:  # where there is no fork, the launcher's end hears of its close
            self._fork_for((end.fileno(), plan, *self._templates.descriptors), lambda: self._wait(end, plan))

    def _stop(self, _number: int, _frame: object) -> None:
        self._is_stopped = True

    def _turn(self, last: float) -> bool:
        """Wait for a connection or its first bytes, and deal with them; return whether there was anything."""
        poll = select.poll()
        poll.register(self._listening, select.POLLIN)
        poll.register(self._templates, select.POLLIN)
        waiting = self._pools.watched()
        for fd in waiting:
            poll.register(fd, select.POLLIN)
        for fd in self._silent:
            poll.register(fd, select.POLLIN)
        dues = [since + _PATIENCE for _, since in self._silent.values()]
        ends = [] if self._pools.are_set else [last + self._idle]
        left = max(0.0, min([time.monotonic() + 1.0, *ends, *dues]) - time.monotonic())
        ready = {fd for fd, _ in poll.poll(min(left, 1.0) * 1000)}  # a signal may come just before it
        if self._templates.fileno() in ready:
            self._templates.receive()
        for fd in ready & waiting.keys():
            self._pools.receive(waiting[fd])
        for fd in ready & self._silent.keys():  # forks know what was said before
            connection, _ = self._silent.pop(fd)
            if _has_data(connection):
                self._fork(connection)
            else:  # it has hung up
                hang_up(connection)
        if self._listening.fileno() in ready:
            self._accept()
        self._drop_late()
        return bool(ready)

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except BlockingIOError:
            return
        except OSError:
            time.sleep(_PAUSE)
            return
        if len(self._silent) >= MOST_SILENT:
            oldest, _ = self._silent.pop(next(iter(self._silent)))
            hang_up(oldest)
        connection.setblocking(False)
        self._silent[connection.fileno()] = (connection, time.monotonic())

    def _drop_late(self) -> None:
        now = time.monotonic()
        for fd in [fd for fd, (_, since) in self._silent.items() if now - since >= _PATIENCE]:
            hang_up(self._silent.pop(fd)[0])

    def _fork(self, connection: socket.socket) -> None:
        """Have a fork serve a connection, once this process has closed it, so that the last close is the fork's."""
        try:
            closed, closing = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            _dismiss(connection, error)
            return

        def serve() -> int:
            os.close(closing)
            os.read(closed, 1)
            os.close(closed)
            return self._serve(connection)

        kept = (connection.fileno(), closed, closing, *self._templates.descriptors, *self._pools.descriptors)
        try:
            if (failed := self._fork_for(kept, serve)) is not None:
                _dismiss(connection, failed)
            else:
                connection.close()
        finally:
            os.close(closing)
            os.close(closed)

    @staticmethod
    def _fork_for(kept: Iterable[int], work: Callable[[], int]) -> OSError | None:
        """Have a fork do this, that has these descriptors alone; why there is none."""
        try:
            child = os.fork()
        except OSError as error:
            return error
        if child == 0:
            _be_fork(kept, work)
        return None


def _be_fork(kept: Iterable[int], work: Callable[[], int]) -> NoReturn:
    """In the fork: have nothing but these descriptors, do the work, and end."""
    status = 125
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        _close_all_but(*kept)
        os.setsid()
        status = work()
    finally:
        os._exit(status)  # nothing of the launcher's is to be cleaned up here


def _close_all_but(*kept: int) -> None:
    """Close all descriptors but the standard ones and these."""
    for before, after in pairwise((2, *sorted(kept), _LAST)):
        os.closerange(before + 1, after)


def _dismiss(connection: socket.socket, error: OSError) -> None:
    """Tell a caller why there is no fork for it, and hang up."""
    hint = "wait until others have ended, or raise the limit on processes, memory or descriptors"
    failure = MvmnixError(f"the launcher can't fork: {error.strerror}", hint=hint)
    with suppress(OSError):
        send_packet(connection, encode(Failure.of(failure)))
    hang_up(connection)


def _has_data(connection: socket.socket) -> bool:
    """Return whether there is something to read, which stays unread (unix(7), SIOCINQ)."""
    size = array.array("i", [0])
    try:
        fcntl.ioctl(connection, termios.FIONREAD, size)
    except OSError:
        return False
    return size[0] > 0
