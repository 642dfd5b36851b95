"""Carries bytes between two connected sockets, both ways, without looking at them: splice(2), in an asyncio loop.

1. A direction holds at most one pipe's bytes. It reads again only when all of them were written, so a slow reader is
   waited for by its own writer alone. It has the pipe while there are bytes in it; an empty one is kept for the next
   that has some, since to make one and close it costs as much as to carry a message.
2. The end of one direction is passed on as it is (half-close), the other goes on; a reset is passed on as a reset.
3. Both sockets are kept until their peers have acknowledged all that was sent, so that they count as connections of the
   machine: one that acknowledges nothing for a minute, or not all in ten, is reset, and the kernel is left no orphan.
4. A `RuleMeter` counts the bytes, says how long to wait where a rule has a rate, and ends both where they are spent.
"""

import asyncio
import os
import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from mvmnix.network.gateway.meters import RuleMeter
from mvmnix.network.sockets import RESET, release, reset

#: Bytes that are moved at once: an ordinary pipe's (pipe(7)).
_CHUNK: Final = 1 << 16
#: Bytes that an empty pipe takes whatever it was made smaller to.
_PAGE: Final = 4096
#: Seconds for which one direction may go on once the other has ended, without a byte.
_HALF_CLOSED: Final = 600.0
#: Seconds for which a peer may acknowledge nothing of what was sent last.
_UNACKNOWLEDGED: Final = 60.0
#: Seconds for all of it, however slowly it is acknowledged.
_SETTLED: Final = 600.0
#: Seconds between two looks at that: the first, and at most. All connections are looked at at the same times.
_FIRST_LOOK, _LAST_LOOK = 0.01, 1.0
#: struct tcp_info (linux/tcp.h): the state, and how many bytes the peer has acknowledged.
_TCP_INFO: Final = struct.Struct("=B119xQ")
#: FIN-WAIT-1, LAST-ACK and CLOSING: our end isn't acknowledged yet (RFC 9293, section 3.3.2).
_UNSETTLED: Final = frozenset({4, 9, 11})
#: Empty pipes that are kept.
_KEPT: Final = 16
_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class SpentError(ConnectionAbortedError):
    """The rule's bytes are spent."""


class Pipes:
    """Pipes for bytes on their way; what is given back is empty."""

    def __init__(self) -> None:
        self._free: list[tuple[int, int]] = []

    def take(self) -> tuple[int, int]:
        """One to read from, and to write to. Raises OSError."""
        return self._free.pop() if self._free else os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def give_back(self, pipe: tuple[int, int]) -> None:
        """It is for others, and has nothing in it."""
        if len(self._free) < _KEPT:
            self._free.append(pipe)
        else:
            self.destroy(pipe)

    @staticmethod
    def destroy(pipe: tuple[int, int]) -> None:
        """With what is in it."""
        for end in pipe:
            os.close(end)


class Direction:
    """Bytes from one socket to another."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: socket.socket,
        to: socket.socket,
        meter: RuleMeter,
        pipes: Pipes,
        *,
        at_end: Callable[[OSError | None], None],
    ) -> None:
        """`at_end` is called with an error, or None."""
        self.count = 0
        self.ended = False
        self._loop, self._source, self._to, self._meter, self._pipes = loop, source, to, meter, pipes
        self._at_end = at_end
        #: While there are so many bytes in it.
        self._pipe: tuple[int, int] | None = None
        self._left = 0
        self._timer: asyncio.TimerHandle | None = None
        self._reads = self._writes = False

    def start(self) -> None:
        """Begin."""
        self._reads = True
        self._loop.add_reader(self._source.fileno(), self.advance)

    async def begin_with(self, said: bytes) -> None:
        """Begin with bytes that were read from the source already."""
        while (debt := self._meter.debt) > 0:  # noqa: ASYNC110 - others' bytes make it longer meanwhile
            await asyncio.sleep(debt)
        self.count += len(said)
        wait = self._meter.take(len(said))
        if wait is None:
            self._end(SpentError())
            return
        try:
            if said:
                await self._loop.sock_sendall(self._to, said)
        except OSError as error:
            self._end(error)
            return
        if wait > 0:
            self._pause(wait)
        else:
            self.start()
            self.advance()  # what the source said while the other was dialed is there already

    def advance(self) -> None:
        """Move what there is to read, once it was started."""
        if (debt := self._meter.debt) > 0:
            self._pause(debt)
            return
        moved = 0
        try:
            pipe = self._pipes.take()
            try:
                moved = self._moved(pipe[1])
            finally:
                if moved == 0:
                    self._pipes.give_back(pipe)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if moved == 0:
            self._finish()
            return
        self.count += moved
        self._pipe, self._left = pipe, moved
        wait = self._meter.take(moved)
        if wait is None:
            self._end(SpentError())
        elif not self._drained():
            self._read_no_more()
            self._writes = True
            self._loop.add_writer(self._to.fileno(), self._writable, wait)
        elif wait > 0 and not self.ended:
            self._pause(wait)

    def _moved(self, pipe: int) -> int:
        """Move bytes into an empty pipe; 0 at their end. Raises OSError, BlockingIOError where there are none now.

        A mark of urgent data (tcp(7)) looks like the end to splice(2), or like nothing to read; recv(2) goes past it.
        """
        try:
            if moved := os.splice(self._source.fileno(), pipe, _CHUNK, flags=_FLAGS):
                return moved
        except BlockingIOError:
            pass
        data = self._source.recv(_PAGE, socket.MSG_DONTWAIT)
        return os.write(pipe, data) if data else 0

    def _drained(self) -> bool:
        """Write what is in the pipe; whether all of it is gone, or the direction has ended."""
        while self._pipe is not None:
            try:
                self._left -= os.splice(self._pipe[0], self._to.fileno(), self._left, flags=_FLAGS)
            except BlockingIOError:
                return False
            except OSError as error:
                self._end(error)
                return True
            if self._left == 0:
                self._pipes.give_back(self._pipe)
                self._pipe = None
        return True

    def _writable(self, wait: float) -> None:
        if not self._drained() or self.ended:
            return
        self._write_no_more()
        if wait > 0:
            self._pause(wait)
        else:
            self.start()

    def _pause(self, seconds: float) -> None:
        self._read_no_more()
        self._timer = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        """Read on, but not for a reader that is gone: what it doesn't get would take the rate of others."""
        poll = select.poll()
        poll.register(self._to, 0)
        if poll.poll(0):
            self._end(ConnectionResetError())
        else:
            self.start()

    def _read_no_more(self) -> None:
        if self._reads:
            self._reads = False
            self._loop.remove_reader(self._source.fileno())

    def _write_no_more(self) -> None:
        if self._writes:
            self._writes = False
            self._loop.remove_writer(self._to.fileno())

    def _finish(self) -> None:
        error: OSError | None = None
        try:
            self._to.shutdown(socket.SHUT_WR)
        except OSError as failed:
            error = failed
        self._end(error)

    def _end(self, error: OSError | None) -> None:
        if not self.ended:
            self.close()
            self._at_end(error)

    def close(self) -> None:
        """Let go of everything but the sockets."""
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._read_no_more()
        self._write_no_more()
        if self._pipe is not None:
            self._pipes.destroy(self._pipe)
            self._pipe = None


class Relay:
    """Both directions between a guest and a server, whose sockets it takes over."""

    def __init__(self, guest: socket.socket, server: socket.socket, meter: RuleMeter, pipes: Pipes) -> None:
        loop = asyncio.get_running_loop()
        self._loop, self._ends = loop, (guest, server)
        self.sent = Direction(loop, guest, server, meter, pipes, at_end=self._ended)
        self.received = Direction(loop, server, guest, meter, pipes, at_end=self._ended)
        self._done: asyncio.Future[OSError | None] = loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._seen = 0

    async def run(self, said: bytes = b"") -> OSError | None:
        """Carry until both directions have ended, what the guest has said before first; the error that ended them.

        Where there is none, the sockets are left for `settle`.
        """
        error: OSError | None = ConnectionAbortedError()
        try:
            self.received.start()
            await self.sent.begin_with(said)
            error = await self._done
            return error
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for one in (self.sent, self.received):
                one.close()
            if error is not None:
                for end in self._ends:
                    end.close()

    def _ended(self, error: OSError | None) -> None:
        if self._done.done():
            return
        if error is not None:
            for end in self._ends:  # 2
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._done.set_result(error)
        elif self.sent.ended and self.received.ended:
            self._done.set_result(None)
        else:
            self._seen = self.sent.count + self.received.count
            self._timer = self._loop.call_later(_HALF_CLOSED, self._late)

    def _late(self) -> None:
        if (seen := self.sent.count + self.received.count) == self._seen:
            self._ended(TimeoutError("one direction has ended, and the other says nothing"))
        else:
            self._seen = seen
            self._timer = self._loop.call_later(_HALF_CLOSED, self._late)


async def settle(*connections: socket.socket) -> None:
    """Close connections whose end was sent (shutdown(2)), each once its peer has acknowledged it (3)."""
    loop, left = asyncio.get_running_loop(), list(connections)
    pause, end, before = _FIRST_LOOK, 0.0, -1
    last = loop.time() + _SETTLED
    try:
        while True:
            acknowledged = 0
            for one in list(left):
                if (count := _acknowledged(one)) is None:
                    release(one)
                    left.remove(one)
                else:
                    acknowledged += count
            if acknowledged != before:
                before, end = acknowledged, min(last, loop.time() + _UNACKNOWLEDGED)
            if not left or loop.time() >= end:
                return
            await asyncio.sleep(pause - loop.time() % pause)
            pause = min(2 * pause, _LAST_LOOK)
    finally:
        for one in left:
            reset(one)


def _acknowledged(connection: socket.socket) -> int | None:
    """Bytes that the peer has acknowledged; None once these are all of them, or where it has gone."""
    try:
        state, count = _TCP_INFO.unpack(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))
    except (OSError, struct.error):
        return None
    return count if state in _UNSETTLED else None
