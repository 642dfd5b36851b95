"""Answers a guest's questions of DNS, over UDP and TCP, from the plan's rules (resolver.py); asks no other server.

1. A name that the rules resolve has one synthetic address, for the machine's life.
2. Questions are bounded in a time: a guest that asks for more gets no answer.
3. Of each name the first answer and the first refusal is an event, up to a bound for each of both. What is beyond it,
   and that there were too many questions, is an event without a name, one in a second.

What reads a question takes longer to import than all else here, so it isn't before it is needed (gateway.py).
"""

import asyncio
import socket
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final, Protocol

from mvmnix.launch.network.decisions import Denial, Rules, Verdict, missing_flag
from mvmnix.launch.network.messages import NetworkEvent, NetworkEventKind
from mvmnix.launch.network.synthetic import SyntheticAddresses

if TYPE_CHECKING:
    pass

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_network

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

#: Seconds for which an answer may be kept.
TTL: Final = 60
#: Bytes of a UDP message that this resolver takes (RFC 9715, 3.2).
PAYLOAD: Final = 1232
#: Bytes of a query, by TCP too, where a longer one could have thousands of options.
MAX_QUERY: Final = 4096
_HEADER: Final = 12
_BLOCKED_TEXT: Final = "no rule of this machine allows the name"
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_REVERSE: Final = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.in-addr\.arpa")
_OURS: Final = ip_network("198.18.0.0/15")


class Outcome(StrEnum):
    """What became of a query."""

    ANSWERED = "answered"
    NO_DATA = "no-data"
    BLOCKED = "blocked"
    REFUSED = "refused"
    NOT_IMPLEMENTED = "not-implemented"
    BAD_VERSION = "bad-version"
    MALFORMED = "malformed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, for the log: a name in lower case, in the escapes of RFC 1035, 5.1, and a type."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The message to send back, empty for none; and what was asked, as far as it could be read."""

    outcome: Outcome
    message: bytes = b""
    asked: Asked | None = None


#: The synthetic address of an allowed name, which is in lower case and has no dot at its end; None for other names.
type AddressOf = Callable[[str], IPv4Address | None]


def reply_to(query: bytes, address_of: AddressOf) -> Reply:
    """The answer to one message. Never raises but what `address_of` does.

    `address_of` is asked for host names alone: letters, digits and hyphens.
    """
    # 1. a query
    if len(query) < _HEADER or query[2] & 0x80:
        return Reply(Outcome.DROPPED)
    # 2. its form
    if query[2] >> 3 & 0xF != dns.opcode.QUERY:
        return Reply(Outcome.NOT_IMPLEMENTED, _header(query, dns.rcode.NOTIMP))
    parsed = _parsed(query)
    if parsed is None:
        return Reply(Outcome.MALFORMED, _header(query, dns.rcode.FORMERR))
    question = parsed.question[0]
    asked = Asked(question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype))
    answer = _empty_answer(parsed, question)
    outcome = _decide(parsed, question, answer, address_of)
    return Reply(outcome, answer.to_wire(), asked)


def _parsed(query: bytes) -> dns.message.Message | None:
    """A query with one question and nothing else but EDNS, or None."""
    counts = [int.from_bytes(query[at : at + 2]) for at in range(4, _HEADER, 2)]
    if counts[:3] != [1, 0, 0] or counts[3] > 1 or len(query) > MAX_QUERY:
        return None
    try:
        parsed = dns.message.from_wire(query)
    except (dns.exception.DNSException, ValueError):
        return None
    if counts[3] and parsed.edns < 0:  # another record than OPT
        return None
    return parsed


def _header(query: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """An answer without its question: identifier, operation and RD of the query."""
    return query[:2] + bytes((0x80 | query[2] & 0x79, 0x80 | rcode)) + bytes(8)


def _empty_answer(query: dns.message.Message, question: dns.rrset.RRset) -> dns.message.Message:
    answer = dns.message.Message(id=query.id)
    answer.flags = dns.flags.QR | dns.flags.RA | query.flags & (dns.flags.RD | dns.flags.CD)
    answer.question.append(question)
    if query.edns >= 0:
        answer.use_edns(0, query.ednsflags & dns.flags.DO, PAYLOAD)
    return answer


def _decide(
    query: dns.message.Message, question: dns.rrset.RRset, answer: dns.message.Message, address_of: AddressOf
) -> Outcome:
    """Complete an empty answer."""
    if query.edns > 0:
        answer.set_rcode(dns.rcode.BADVERS)
        return Outcome.BAD_VERSION
    # 3. class and type
    if question.rdclass != dns.rdataclass.IN or _is_meta(question.rdtype):
        answer.set_rcode(dns.rcode.REFUSED)
        return Outcome.REFUSED
    # 4. a name that is allowed
    name = _host_name(question.name)
    address = address_of(name) if name else None
    if address is not None and question.rdtype == dns.rdatatype.A:
        record = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.A, address.packed, 0, 4)
        answer.answer.append(dns.rrset.from_rdata(question.name, TTL, record))
        return Outcome.ANSWERED
    if address is not None or _is_ours(name):
        return Outcome.NO_DATA
    # 5. any other
    answer.set_rcode(dns.rcode.NXDOMAIN)
    if query.edns == 0:
        blocked = dns.edns.EDEOption(dns.edns.EDECode.BLOCKED, _BLOCKED_TEXT)
        answer.use_edns(0, query.ednsflags & dns.flags.DO, PAYLOAD, options=[blocked])
    return Outcome.BLOCKED


def _is_meta(kind: dns.rdatatype.RdataType) -> bool:
    """RFC 6895, 3.1: OPT, and 128 to 254, which are no types of data; 255, ANY, asks for what there is."""
    return kind == dns.rdatatype.OPT or 128 <= kind < dns.rdatatype.ANY


def _host_name(name: dns.name.Name) -> str:
    """In lower case, without the dot at its end; empty if it is no host name."""
    labels = [label.decode("latin-1").lower() for label in name.labels[:-1]]
    return ".".join(labels) if labels and all(_LABEL.fullmatch(label) for label in labels) else ""


def _is_ours(name: str) -> bool:
    """Whether it stands for an address of the gateway or a synthetic one (RFC 1035, 3.5)."""
    found = _REVERSE.fullmatch(name)
    if found is None or any(int(part) > 255 or str(int(part)) != part for part in found.groups()):
        return False
    return IPv4Address(".".join(reversed(found.groups()))) in _OURS


_DATAGRAM: Final = 4096
#: Questions that are answered one after another before anything else is looked at.
_BATCH: Final = 64
#: Questions in a second, and at once.
_RATE: Final = 500.0
_BURST: Final = 2000.0
#: Names that are told apart in events, of those that are answered and of those that aren't; seconds between others.
_MOST: Final = 4096
_BETWEEN: Final = 1.0
#: Seconds for which a connection may say nothing (RFC 7766, section 6.2.3), and questions by one.
_IDLE: Final = 10.0
_QUESTIONS: Final = 1000


class Told(Protocol):
    """Where events go."""

    def tell(self, event: NetworkEvent) -> None:
        """Send it, or keep it until that is possible."""


class NameServer:
    """One machine's."""

    def __init__(self, rules: Rules, names: SyntheticAddresses, events: Told, clock: Callable[[], float]) -> None:
        self._rules, self._names, self._events, self._clock = rules, names, events, clock
        self._datagrams: socket.socket | None = None
        self._answered, self._refused = set[tuple[str, str]](), set[tuple[str, str]]()
        #: When an event without a name was told last.
        self._nameless = clock() - _BETWEEN
        self._left, self._since = _BURST, clock()
        self._verdict: Verdict | None = None

    def start(self, loop: asyncio.AbstractEventLoop, datagrams: socket.socket) -> None:
        """Answer what comes by UDP."""
        self._datagrams = datagrams
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
        if not self._may_ask():
            self._once("", Denial.LIMIT_LOOKUPS, Verdict(allowed=False, code=Denial.LIMIT_LOOKUPS))
            return b""
        self._verdict = None

        reply = reply_to(query, self._address_of)
        self._tell(reply, blocked=reply.outcome is Outcome.BLOCKED)
        return reply.message

    def _may_ask(self) -> bool:
        now = self._clock()
        self._left = min(_BURST, self._left + (now - self._since) * _RATE)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _address_of(self, name: str) -> IPv4Address | None:
        self._verdict = self._rules.resolves(name)
        if not self._verdict.allowed:
            return None
        address = self._names.address_of(name)
        if address is None:  # a wildcard has more names than there are addresses
            self._verdict = Verdict(allowed=False, rule=self._verdict.rule, code=Denial.LIMIT_LOOKUPS)
        return address

    def _tell(self, reply: "Reply", *, blocked: bool) -> None:
        if reply.asked is None or (self._verdict is None and not blocked):
            return
        verdict = self._verdict or Verdict(allowed=False, code=Denial.BAD_NAME)
        self._once(reply.asked.name[:_LONGEST], verdict.code or "", verdict)

    def _once(self, name: str, code: str, verdict: Verdict) -> None:
        seen = self._answered if verdict.allowed else self._refused
        if (name, code) in seen:
            return
        if name and len(seen) < _MOST:
            seen.add((name, code))
        elif (now := self._clock()) - self._nameless >= _BETWEEN:
            self._nameless, name = now, ""
        else:
            return
        kind = NetworkEventKind.NAME if verdict.allowed else NetworkEventKind.DENIED
        flag = missing_flag(name, _USUAL_PORT) if verdict.code is Denial.NO_RULE else ""
        self._events.tell(NetworkEvent(kind, rule=verdict.rule, code=code, name=name, flag=flag))


_LONGEST: Final = 255
#: A name that is asked for has no port yet.
_USUAL_PORT: Final = 443


async def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await asyncio.get_running_loop().sock_recv(connection, size - len(data))
        if not more:
            raise EOFError
        data += more
    return data
