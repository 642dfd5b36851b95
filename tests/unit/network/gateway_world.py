"""A gateway in this process: the test is its guest, its dialer and its supervisor.

Connections are pairs of AF_UNIX sockets, which have what was sent at once; time is the loop's.
"""

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import override

import dns.message

from mvmnix.network.dialer_messages import Ask, Reply
from mvmnix.network.gateway.process import Gateway, Sockets
from mvmnix.network.policy.decisions import Denial
from mvmnix.network.sockets import PACKET_BYTES, RESET, pair
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.plan.network import Network, parse_rules
from tests.support.virtual_time import run

ADDRESS = "93.184.216.34"
_TURNS = 20


class Accepted(socket.socket):
    """The gateway's end of a guest's connection to an address and a port; `was_reset` says how it ended."""

    to = ("", 0)
    was_reset = False

    @override
    def getsockname(self) -> tuple[str, int]:
        return self.to

    @override
    def setsockopt(self, *arguments: object) -> None:
        if arguments == (socket.SOL_SOCKET, socket.SO_LINGER, RESET):
            self.was_reset = True


class Listener(socket.socket):
    """What a guest's connections are accepted from; without descriptors while `is_short`."""

    def __init__(self) -> None:
        self._knocks, near = socket.socketpair()
        super().__init__(fileno=near.detach())
        self.setblocking(False)
        self._waiting: list[Accepted] = []
        self.made: list[Accepted] = []
        self.options: list[tuple[object, ...]] = []
        self.is_short = False
        self.looked = 0

    def connect_guest(self, to: tuple[str, int]) -> socket.socket:
        """A connection to there; the guest's end."""
        near, far = socket.socketpair()
        accepted = Accepted(fileno=near.detach())
        accepted.to = to
        if not self._waiting:
            self._knocks.send(b"x")
        self._waiting.append(accepted)
        self.made.append(accepted)
        far.setblocking(False)
        return far

    @override
    def accept(self) -> tuple[socket.socket, object]:
        self.looked += 1
        if self.is_short:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if not self._waiting:
            raise BlockingIOError
        if len(self._waiting) == 1:
            self.recv(1)
        return self._waiting.pop(0), None

    @override
    def setsockopt(self, *arguments: object) -> None:
        self.options.append(arguments)

    @override
    def close(self) -> None:
        self._knocks.close()
        for one in self._waiting:
            one.close()
        super().close()


class World:
    """A gateway that serves by these rules, and what it has told."""

    def __init__(self, allow: tuple[str, ...], deny: tuple[str, ...]) -> None:
        self.connections, self.questions = Listener(), Listener()
        self.refused, refused = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._far, datagrams = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.dialer, dialer = pair()
        self.supervisor, events = pair()
        for one in (refused, datagrams, events, self.dialer, self.supervisor):
            one.setblocking(False)
        self._sockets = Sockets(self.connections, self.questions, datagrams, refused, dialer, events)
        self.gateway = Gateway(Network(parse_rules(allow, deny)), self._sockets)
        self.told: list[NetworkEvent] = []
        self._stack = ExitStack()

    async def play(self, scenario: Callable[["World"], Coroutine[object, object, None]]) -> None:
        """Serve until the scenario is over, and take what is told last."""
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)

        async def played() -> None:
            try:
                await self.turn()
                await scenario(self)
            finally:
                self.supervisor.shutdown(socket.SHUT_WR)

        with self._stack:
            playing = asyncio.create_task(played())
            await self.gateway.serve()
            self.hear()
            await playing
        given = self._sockets
        ours = (self.refused, self._far, self.dialer, self.supervisor)
        theirs = (given.refused, given.datagrams, given.events, given.dialer, self.connections, self.questions)
        for one in (*ours, *theirs):
            if one.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(one)
            one.close()

    async def turn(self) -> None:
        """Have the gateway do what it can at once."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def hear(self) -> None:
        """Take what has been told by now."""
        with suppress(BlockingIOError):
            while packet := self.supervisor.recv(PACKET_BYTES):
                self.told.append(NetworkEvent.parse(packet))

    async def events(self, *kinds: NetworkEventKind) -> list[NetworkEvent]:
        """What is told since the last time, of some kinds or of all."""
        await asyncio.sleep(0.05)
        self.hear()
        found, self.told = self.told, []
        return [it for it in found if it.kind in kinds or not kinds]

    def connect(self, host: str, port: int) -> socket.socket:
        """A connection of the guest's."""
        return self._stack.enter_context(self.connections.connect_guest((host, port)))

    async def resolve(self, name: str) -> str:
        """The address that a question by TCP is answered with."""
        query = dns.message.make_query(name, "A").to_wire()
        with self.questions.connect_guest(("198.19.255.1", 53)) as guest:
            guest.send(len(query).to_bytes(2) + query)
            await self.turn()
            (answer,) = dns.message.from_wire(guest.recv(4096)[2:]).answer
        return str(next(iter(answer)))

    def asked(self) -> list[Ask]:
        """What the dialer is asked since the last time."""
        found = []
        with suppress(BlockingIOError):
            while packet := self.dialer.recv(PACKET_BYTES):
                found.append(Ask.parse(packet))
        return found

    async def dial(self) -> socket.socket:
        """Answer the only ask with a connection; returns the server's end."""
        (ask,) = self.asked()
        near, far = socket.socketpair()
        with near:
            socket.send_fds(self.dialer, [Reply(ask.number, None, "", ADDRESS).to_bytes()], [near.fileno()])
        await self.turn()
        far.setblocking(False)
        return self._stack.enter_context(far)

    async def refuse_dial(self, code: Denial, address: str = "", rule: str = "") -> None:
        """Answer the only ask with a refusal."""
        (ask,) = self.asked()
        self.dialer.send(Reply(ask.number, code, rule, address).to_bytes())
        await self.turn()


def heard(guest: socket.socket) -> bytes | None:
    """What a guest, or a server, has been sent: b"" at the end, None where there is nothing yet."""
    try:
        return guest.recv(65536)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        return b""


def gateway_test(
    *allow: str, deny: tuple[str, ...] = ()
) -> Callable[[Callable[[World], Coroutine[object, object, None]]], Callable[[], None]]:
    """A test that is given a world by these rules."""

    def decorate(scenario: Callable[[World], Coroutine[object, object, None]]) -> Callable[[], None]:
        async def main() -> None:
            await World(allow, deny).play(scenario)

        return lambda: run(main)

    return decorate


@contextmanager
def many_descriptors() -> Iterator[None]:
    """As many as the machine lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
