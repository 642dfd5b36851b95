"""Answers a guest's questions of DNS, over UDP and TCP, from the plan's rules (resolver.py); asks no other server.

1. A name that the rules resolve has one synthetic address, for the machine's life.
2. Questions are bounded in a time: a guest that asks for more gets no answer.
3. Of each name the first answer and the first refusal is an event, up to a bound for each of both. What is beyond it,
   and that there were too many questions, is an event without a name, one in a second.

What reads a question takes longer to import than all else here, so it isn't before it is needed (process.py).
"""

import asyncio
import hashlib
import socket
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from mvmnix.network.policy.decisions import SYNTHETIC, Denial, Rules, Verdict, refused
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.network.token_bucket import TokenBucket

_FIRST: Final = 2  # no name has the network's own address, nor one that looks like a router's
#: Names of one machine; a wildcard has no end.
MOST_NAMES: Final = 16_384


class SyntheticAddresses:
    """Gives each name an address of the network for names of the same ports.

    The names that rules have in full have theirs from the beginning, the same in each machine of a plan: so a program
    that goes on from a snapshot finds the same name behind it. A name that a wildcard allows has one once it is asked
    for, by its hash. Where that is taken it has the next free one, which depends on what was asked before.
    """

    def __init__(
        self,
        networks: Mapping[frozenset[int], IPv4Network],
        names: Mapping[str, frozenset[int]],
        most: int = MOST_NAMES,
    ) -> None:
        self._most = most
        self._places = {
            ports: range(_FIRST + int(it.network_address), int(it.broadcast_address)) for ports, it in networks.items()
        }
        self._given = dict.fromkeys(networks, 0)
        self._by_name: dict[str, IPv4Address] = {}
        self._by_address: dict[IPv4Address, str] = {}
        for name, ports in names.items():
            self.address_of(name, ports)

    def address_of(self, name: str, ports: frozenset[int]) -> IPv4Address | None:
        """The address of a name that is allowed at these ports; None where there are no more."""
        known = self._by_name.get(name)
        if known is None and len(self._by_name) < self._most and self._given[ports] < len(self._places[ports]):
            self._given[ports] += 1
            known = self._by_name[name] = self._free(name, self._places[ports])
            self._by_address[known] = name
        return known

    def _free(self, name: str, places: range) -> IPv4Address:
        """The first free one from the place of the name's hash on; one is free."""
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
        while (found := IPv4Address(places[place % len(places)])) in self._by_address:
            place += 1
        return found

    def name_of(self, address: IPv4Address) -> str | None:
        """The name that has this address; None where none has it."""
        return self._by_address.get(address)

    def __contains__(self, address: IPv4Address) -> bool:
        return address in SYNTHETIC


_DATAGRAM: Final = 4096
#: Questions that are answered one after another before anything else is looked at.
_BATCH: Final = 64
#: Questions in a second, and at once.
_RATE: Final = 500.0
_BURST: Final = 2000.0
#: Names that are told apart in events, of those that are answered and of those that aren't; others in a second.
_MOST: Final = 4096
_NAMELESS: Final = 1.0
#: Seconds for which a connection may say nothing (RFC 7766, section 6.2.3), and questions by one.
_IDLE: Final = 10.0
_QUESTIONS: Final = 1000


class NameServer:
    """One machine's; events go to `tell`."""

    def __init__(
        self,
        rules: Rules,
        names: SyntheticAddresses,
        tell: Callable[[NetworkEvent], None],
        clock: Callable[[], float],
    ) -> None:
        self._rules, self._names, self._tell = rules, names, tell
        self._answered, self._refused = set[tuple[str, str]](), set[tuple[str, str]]()
        self._nameless = TokenBucket(_NAMELESS, 1, clock)
        self._questions = TokenBucket(_RATE, _BURST, clock)

    def start(self, loop: asyncio.AbstractEventLoop, datagrams: socket.socket) -> None:
        """Answer what comes by UDP."""
        loop.add_reader(datagrams.fileno(), self._readable, datagrams)

    def _readable(self, datagrams: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                query, peer = datagrams.recvfrom(_DATAGRAM)
                if message := self.answer(query):
                    datagrams.sendto(message, peer)
            except BlockingIOError:
                return
            except OSError:  # an error of ICMP that the guest made up, or no room
                continue

    async def serve(self, connection: socket.socket) -> None:
        """Answer what comes by TCP (RFC 1035, 4.2.2). Raises OSError, EOFError, TimeoutError."""
        loop = asyncio.get_running_loop()
        for _ in range(_QUESTIONS):
            async with asyncio.timeout(_IDLE):
                size = int.from_bytes(await _exactly(connection, 2))
                message = self.answer(await _exactly(connection, size))
                if not message:
                    return
                await loop.sock_sendall(connection, len(message).to_bytes(2) + message)

    def answer(self, query: bytes) -> bytes:
        """The answer to one message; empty for none."""
        if not self._questions.take():
            self._tell_once("", refused(Denial.LIMIT_LOOKUPS))
            return b""
        from mvmnix.network.gateway import resolver  # noqa: PLC0415 - a guest that boots asks nothing yet

        verdicts = list[Verdict]()
        reply = resolver.reply_to(query, partial(self._address_of, verdicts))
        if reply.is_blocked and not verdicts:
            verdicts.append(refused(Denial.BAD_NAME))
        for verdict in verdicts:
            self._tell_once(reply.asked[:_LONGEST], verdict)
        return reply.message

    def _address_of(self, verdicts: list[Verdict], name: str) -> IPv4Address | None:
        verdict = self._rules.resolves(name)
        address = self._names.address_of(name, self._rules.ports(name)) if verdict.allowed else None
        if verdict.allowed and address is None:  # a wildcard has more names than there are addresses
            verdict = refused(Denial.LIMIT_LOOKUPS, verdict.rule)
        verdicts.append(verdict)
        return address

    def _tell_once(self, name: str, verdict: Verdict) -> None:
        code, seen = verdict.code or "", self._answered if verdict.allowed else self._refused
        if (name, code) in seen:
            return
        if name and len(seen) < _MOST:
            seen.add((name, code))
        elif self._nameless.take():
            name = ""
        else:
            return
        kind = NetworkEventKind.NAME if verdict.allowed else NetworkEventKind.DENIED
        self._tell(NetworkEvent(kind, rule=verdict.rule, code=code, name=name))


_LONGEST: Final = 255


async def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await asyncio.get_running_loop().sock_recv(connection, size - len(data))
        if not more:
            raise EOFError
        data += more
    return data
