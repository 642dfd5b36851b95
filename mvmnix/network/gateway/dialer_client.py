"""Asks the dialer for connections, from the gateway: of one host so many at a time.

A host may be slow to resolve or to answer: others have their turn meanwhile. One that hasn't answered for a moment has
no more than so many connections that wait for their turn, since each of them is one of the machine's.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

from mvmnix.formats.strict import MalformedError
from mvmnix.network.dialer_messages import Ask, Reply
from mvmnix.network.gateway.opening import DeniedError
from mvmnix.network.policy.decisions import Denial
from mvmnix.network.sockets import PACKET_BYTES
from mvmnix.system.descriptors import received

#: Asks of one host that the dialer has at once.
_ASKS: Final = 8
#: Connections that wait for a silent host's turns, and the seconds until it counts as one.
_WAITING: Final = 64
_SILENT: Final = 2.0
#: Seconds until there is an answer, the turn's wait included.
_SECONDS: Final = 75.0
#: Seconds that the dialer has to end, once it is asked for nothing more.
_LAST: Final = 0.4
#: Of no use to what is done with a connection here, but for three questions to the kernel that it saves.
_TCP: Final = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)


@dataclass(frozen=True, slots=True)
class ServerConnection:
    """A connection of the dialer's: the number by which it was asked for, its address and its socket."""

    number: int
    address: str
    socket: socket.socket


type _Waiting = asyncio.Future[tuple[Reply, socket.socket | None]]


class _Turns:
    """Turns of a host: when one answered last, in the loop's seconds; how many wait."""

    def __init__(self, now: float) -> None:
        self.turns = asyncio.Semaphore(_ASKS)
        self.answered = now
        self.waiting = 0

    async def take_turn(self, end: float) -> bool:
        """Wait for a turn; False where there is none until `end`, or too many wait for silent ones."""
        if not self.turns.locked():
            return await self.turns.acquire()
        loop = asyncio.get_running_loop()
        self.waiting += 1
        try:
            while True:
                try:
                    async with asyncio.timeout_at(min(end, loop.time() + _SILENT)):
                        return await self.turns.acquire()
                except TimeoutError:
                    silent = loop.time() - self.answered > _SILENT
                    if loop.time() >= end or (silent and self.waiting > _WAITING):
                        return False
        finally:
            self.waiting -= 1


class DialerClient:
    """Asks the dialer; answers come in any order."""

    def __init__(self, end: socket.socket, gone: Callable[[], None], drop: Callable[[int], None]) -> None:
        """`gone` is called when the dialer has ended, or says what it never does.

        `drop` is called with the number of each connection that came too late, or without a descriptor.
        """
        self._end, self._gone, self._drop = end, gone, drop
        self._number = 0
        self._asked: dict[int, _Waiting] = {}
        self._hosts = WeakValueDictionary[str, _Turns]()  # those that are being dialed
        self._over = asyncio.Event()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listen to it."""
        self._end.setblocking(False)
        loop.add_reader(self._end.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            packet, fds, _ = received(self._end, PACKET_BYTES, 1)
            reply = Reply.parse(packet)  # an empty one is the end
        except BlockingIOError:
            return
        except (OSError, MalformedError):
            asyncio.get_running_loop().remove_reader(self._end.fileno())
            self._over.set()
            self._gone()
            return
        connection = socket.socket(*_TCP, fds[0]) if fds else None
        waiting = self._asked.pop(reply.number, None)
        if waiting is None or waiting.done():
            self._drop_reply(reply, connection)
        else:
            waiting.set_result((reply, connection))

    def _drop_reply(self, reply: Reply, connection: socket.socket | None) -> None:
        if connection is not None:
            connection.close()
        if reply.code is None:
            self._drop(reply.number)

    async def finish(self) -> None:
        """Ask for nothing more, and drop the connections that still come, until the dialer has ended."""
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_WR)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST):
                await self._over.wait()

    async def dial(self, rule: str, host: str, port: int) -> ServerConnection:
        """Raises DeniedError."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        end = begun + _SECONDS
        if (turns := self._hosts.get(host)) is None:
            turns = self._hosts[host] = _Turns(begun)
        if not await turns.take_turn(end):
            raise DeniedError(Denial.CONNECT_FAILED, rule)
        begun = loop.time()
        try:
            return await self._dial(rule, host, port, end)
        finally:
            turns.turns.release()
            if (now := loop.time()) - begun < _SILENT:
                turns.answered = now

    async def _dial(self, rule: str, host: str, port: int, end: float) -> ServerConnection:
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        loop = asyncio.get_running_loop()
        waiting: _Waiting = loop.create_future()
        self._asked[number] = waiting
        late = loop.call_at(end, _fail_late, waiting)
        try:
            self._end.send(Ask(number, rule, host, port).to_bytes())
            reply, connection = await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._drop_reply(*waiting.result())
            raise
        except TimeoutError as error:
            raise DeniedError(Denial.CONNECT_FAILED, rule) from error
        except OSError as error:  # BlockingIOError: it reads nothing any more
            raise DeniedError(Denial.GATEWAY_BUSY, rule) from error
        finally:
            late.cancel()
            self._asked.pop(number, None)
        if reply.code is not None or connection is None:
            self._drop_reply(reply, connection)
            # without a code there was one, and no descriptor is left to take it by
            raise DeniedError(reply.code or Denial.GATEWAY_BUSY, reply.rule or rule, reply.address)
        connection.setblocking(False)
        return ServerConnection(number, reply.address, connection)


def _fail_late(waiting: _Waiting) -> None:
    if not waiting.done():
        waiting.set_exception(TimeoutError())
