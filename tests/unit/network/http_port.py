"""The port by which HTTP is tried: rules and a guest's socket go in, sockets to a server and events come out.

Rows and tests know nothing else of what carries HTTP: another process is tried by them once `Carrier.serve` hands it
these sockets.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mvmnix.network.gateway.dialer_client import ServerConnection
from mvmnix.network.gateway.http_relay import HttpRelay
from mvmnix.network.gateway.meters import RuleMeter
from mvmnix.network.gateway.opening import DeniedError, portion, refuse
from mvmnix.network.policy.decisions import Rules
from mvmnix.network.sockets import reset
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.plan.network import Network, parse_rules
from tests.patience import EVENT_PATIENCE

#: Where all servers are, as events tell it.
ADDRESS = "93.184.216.34"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a connection: what was told, and all that the client got."""

    events: tuple[NetworkEvent, ...]
    answer: bytes

    @property
    def verdict(self) -> tuple[str, str]:
        """The rule and the code of the last request, "" for one that was allowed."""
        denied = [(it.rule, it.code) for it in self.events if it.kind is NetworkEventKind.DENIED]
        opened = [(it.rule, "") for it in self.events if it.kind is NetworkEventKind.OPENED]
        return [*opened, *denied][-1]

    def closed(self) -> dict[str, NetworkEvent]:
        """The end of each rule's use."""
        return {it.rule: it for it in self.events if it.kind is NetworkEventKind.CLOSED}


class Carrier:
    """What carries the connections of one machine by a plan's rules."""

    def __init__(self, allow: Sequence[str], deny: Sequence[str] = ()) -> None:
        self._rules = Rules(Network(parse_rules(tuple(allow), tuple(deny))))
        self._meters: dict[str, RuleMeter] = {}

    def _meter(self, rule: str) -> RuleMeter:
        if rule not in self._meters:
            self._meters[rule] = RuleMeter(self._rules.rule(rule).limits, asyncio.get_running_loop().time)
        return self._meters[rule]

    async def serve(
        self,
        guest: socket.socket,
        host: str,
        port: int,
        connect: Callable[[str], socket.socket],
        tell: Callable[[NetworkEvent], None],
    ) -> None:
        """Carry a guest's connection to a host's port, which `connect` leads to by a rule, and end it."""

        async def dial(rule: str) -> ServerConnection:
            server = connect(rule)
            server.setblocking(False)
            return ServerConnection(1, ADDRESS, server)

        deadline = asyncio.get_running_loop().time() + EVENT_PATIENCE
        relay = HttpRelay(self._rules, host, port, meter=self._meter, dial=dial, tell=tell, leave=socket.socket.close)
        try:
            await relay.serve(guest, await portion(guest, deadline), deadline)
        except DeniedError as denied:
            found = self._rules.names(host, port)
            rule = denied.rule or (found[0].id if isinstance(found, tuple) else "")
            tell(NetworkEvent(NetworkEventKind.DENIED, rule, denied.code, host, "", port))
            await refuse(guest, denied, f"[{denied.code}]")
        except OSError:
            reset(guest)
        finally:
            guest.close()

    @asynccontextmanager
    async def open(
        self, host: str, connect: Callable[[str], socket.socket], port: int = 80
    ) -> AsyncIterator[tuple[socket.socket, list[NetworkEvent]]]:
        """A client whose connection is carried, and what is told; both have ended in the end."""
        events = list[NetworkEvent]()
        client, guest = socket.socketpair()
        for end in (client, guest):
            end.setblocking(False)
        with client:
            serving = asyncio.create_task(self.serve(guest, host, port, connect, events.append))
            yield client, events
        await serving

    async def exchange(
        self, said: Sequence[bytes], host: str, connect: Callable[[str], socket.socket], port: int = 80
    ) -> Outcome:
        """What comes of a client that says these, each but the first once something was answered, and then no more."""
        async with asyncio.timeout(EVENT_PATIENCE), self.open(host, connect, port) as (client, events):
            answer = await _converse(client, said)
        return Outcome(tuple(events), answer)


async def _converse(client: socket.socket, said: Sequence[bytes]) -> bytes:
    loop, answer = asyncio.get_running_loop(), b""
    try:
        for number, one in enumerate(said):
            if number:
                answer += await loop.sock_recv(client, 1 << 16)
            await loop.sock_sendall(client, one)
        client.shutdown(socket.SHUT_WR)
        while data := await loop.sock_recv(client, 1 << 16):
            answer += data
    except OSError:  # it was reset
        pass
    return answer
