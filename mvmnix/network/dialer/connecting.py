"""Connects to the first of a host's addresses that answers, without a thread that waits for a silent one.

1. Each address gets a moment in the caller's own thread: most answer within one.
2. One that doesn't is waited for by a thread for all of them, so many seconds; then the next address has its turn.

So many wait at a time; the caller's thread waits itself for what is beyond that.
"""

import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from mvmnix.network.sockets import set_options

#: Seconds for one address; those of them in the caller's thread; addresses that are tried.
_SECONDS: Final = 10.0
_MOMENT: Final = 0.05
_ADDRESSES: Final = 6
#: How many are waited for, each with a descriptor (host/setup.py has what there are), and the seconds between two looks
#: at whose time is over.
_WAITING: Final = 256
_TICK: Final = 0.5
#: Is told the address that answered and a connection to it, which doesn't block; or None.
type Connected = Callable[[tuple[str, socket.socket] | None], None]


class ConnectionAttempt:
    """One host's addresses, of which the first that answers is looked for."""

    def __init__(self, addresses: Sequence[str], port: int) -> None:
        self._rest = iter(addresses[:_ADDRESSES])
        self._port = port
        self._address = ""
        self._connection: socket.socket | None = None
        self._end = 0.0

    def begin(self) -> bool:
        """Begin to connect to the next address; False where there is none any more."""
        for address in self._rest:
            if (connection := _begun(address, self._port)) is not None:
                self._address, self._connection, self._end = address, connection, time.monotonic() + _SECONDS
                return True
        return False

    def fileno(self) -> int:
        """The connection that has begun."""
        return -1 if self._connection is None else self._connection.fileno()

    @property
    def left(self) -> float:
        """Seconds until the address counts as silent."""
        return max(0.0, self._end - time.monotonic())

    def answered(self, seconds: float) -> bool:
        """Whether the address has answered within so many seconds, in whatever way."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def found(self) -> tuple[str, socket.socket] | None:
        """The address and its connection, where it has answered with one; else it is closed."""
        connection, self._connection = self._connection, None
        if connection is None:
            return None
        try:
            if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                connection.getpeername()  # it isn't connected where its time was over
                set_options(connection)
                return self._address, connection
        except OSError:
            pass
        connection.close()
        return None

    def wait(self) -> tuple[str, socket.socket] | None:
        """What comes of it, in this thread."""
        while self.fileno() >= 0 or self.begin():
            self.answered(self.left)
            if (found := self.found()) is not None:
                return found
        return None


class Connecting:
    """Has any number of threads connect; a thread of its own waits for what is slow, while there is such."""

    def __init__(self, failed: Callable[[], None]) -> None:
        """`failed` is called when that thread can't go on."""
        self._failed = failed
        self._lock = threading.Lock()
        self._poll = select.epoll()
        self._slow = dict[int, tuple[ConnectionAttempt, Connected]]()
        self._serves = False

    def connect(self, addresses: Sequence[str], port: int, told: Connected) -> None:
        """Have `told` called once with what came of it, in this thread or in another."""
        attempt = ConnectionAttempt(addresses, port)
        while attempt.begin():  # 1
            if not attempt.answered(_MOMENT):
                if not self._takes(attempt, told):
                    told(attempt.wait())
                return
            if (found := attempt.found()) is not None:
                told(found)
                return
        told(None)

    def _takes(self, attempt: ConnectionAttempt, told: Connected) -> bool:
        with self._lock:
            if len(self._slow) >= _WAITING:
                return False
            if not self._serves:
                try:
                    threading.Thread(target=self._serve, daemon=True).start()
                except RuntimeError:  # there is none left
                    return False
                self._serves = True
            self._watch(attempt, told)
        return True

    def _watch(self, attempt: ConnectionAttempt, told: Connected) -> None:
        self._slow[attempt.fileno()] = attempt, told
        self._poll.register(attempt.fileno(), select.EPOLLOUT)

    def _serve(self) -> None:
        """2; ends when nothing is slow any more."""
        ended = False
        try:
            while not ended:
                answered = {fd for fd, _ in self._poll.poll(_TICK)}
                with self._lock:
                    over = answered | {fd for fd, (it, _) in self._slow.items() if it.left == 0}
                    ready = [self._slow.pop(fd) for fd in over]
                    for fd in over:
                        self._poll.unregister(fd)
                for attempt, told in ready:
                    self._look(attempt, told)
                with self._lock:
                    ended = not self._slow
                    self._serves = not ended
        finally:
            if not ended:
                self._failed()

    def _look(self, attempt: ConnectionAttempt, told: Connected) -> None:
        found = attempt.found()
        if found is None and attempt.begin():
            with self._lock:
                self._watch(attempt, told)
        else:
            told(found)


def _begun(address: str, port: int) -> socket.socket | None:
    """A connection that doesn't block; None where it fails at once."""
    try:
        connection = socket.socket(address_family(address), socket.SOCK_STREAM)
    except OSError:
        return None
    connection.setblocking(False)
    try:
        connection.connect((address, port))
    except BlockingIOError:
        return connection
    except OSError:
        connection.close()
        return None
    return connection


def address_family(address: str) -> socket.AddressFamily:
    """Of an address as text."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET
