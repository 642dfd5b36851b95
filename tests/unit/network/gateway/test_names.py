"""Questions of DNS are counted, and bounded in a time; each name is told once."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import dns.edns
import dns.message
import dns.name
import dns.rcode
import pytest

from mvmnix.network.gateway.names import NameServer, SyntheticAddresses
from mvmnix.network.policy.decisions import Denial, Rules, Verdict
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.network.token_bucket import TokenBucket
from mvmnix.plan.network import Network, parse_rules
from tests.support.virtual_time import run
from tests.unit.network.name_rows import ALLOW, DENY, NO_DATA, QUESTIONS, Question, ask


@cache
def _query(name: str) -> bytes:
    return dns.message.make_query(name, "A").to_wire()


@dataclass
class Asking:
    """A name server, its clock and what it told."""

    now: float = 0.0
    most: int = 100_000
    told: list[NetworkEvent] = field(default_factory=list)
    allow: tuple[str, ...] = ("https://*.example.com",)
    deny: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rules = Rules(Network(parse_rules(self.allow, self.deny)))
        self.server = NameServer(
            rules, SyntheticAddresses(rules.synthetic_networks, {}, self.most), self._tell, lambda: self.now
        )

    def _tell(self, event: NetworkEvent) -> None:
        self.told.append(event)

    def ask(self, name: str) -> dns.rcode.Rcode | None:
        """None where nothing is answered."""
        answer = self.answer(_query(name))
        return answer.rcode() if answer else None

    def answer(self, query: bytes) -> dns.message.Message | None:
        data = self.server.answer(query)
        return dns.message.from_wire(data) if data else None


def test_more_questions_than_there_may_be_get_no_answer() -> None:
    asking = Asking()
    answered = [asking.ask("a.example.com") is not None for _ in range(2100)]
    assert answered == [True] * 2000 + [False] * 100
    asking.now = 0.25
    assert [asking.ask("a.example.com") is not None for _ in range(200)] == [True] * 125 + [False] * 75
    denied = [it for it in asking.told if it.kind is NetworkEventKind.DENIED]
    assert [(it.name, it.code) for it in denied] == [("", Denial.LIMIT_LOOKUPS)]
    asking.now = 1.0
    asking.server._questions = TokenBucket(0, 0, lambda: asking.now)
    assert asking.ask("a.example.com") is None
    assert [it.code for it in asking.told].count(Denial.LIMIT_LOOKUPS) == 2, "once in a second"


def test_each_name_is_told_once_and_very_many_without_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are refused take no place of those that are answered; what is beyond is told once in a second."""
    monkeypatch.setattr("mvmnix.network.gateway.names._MOST", 10)
    asking = Asking()
    for _ in range(3):
        assert asking.ask("a.example.com") == dns.rcode.NOERROR
        assert asking.ask("a.example.org") == dns.rcode.NXDOMAIN
    assert [(it.name, it.code, it.flag) for it in asking.told] == [
        ("a.example.com", "", ""),
        ("a.example.org", Denial.NO_RULE, "--allow https://a.example.org"),
    ]
    for number in range(20):
        assert asking.ask(f"{number}.example.org") == dns.rcode.NXDOMAIN
    assert [it.name for it in asking.told[2:]] == [*(f"{number}.example.org" for number in range(9)), ""]
    asking.now, asking.told = 1.5, []
    for number in range(20):
        assert asking.ask(f"{number}.example.com") == dns.rcode.NOERROR
    assert [it.name for it in asking.told] == [*(f"{number}.example.com" for number in range(9)), ""]
    assert [(it.kind, it.rule) for it in asking.told] == [(NetworkEventKind.NAME, "allow-1")] * 10


@pytest.mark.parametrize("row", QUESTIONS, ids=lambda it: it.tried)
def test_what_a_guest_may_look_up(row: Question) -> None:
    asking = Asking(allow=ALLOW, deny=DENY)
    answer = asking.answer(row.query)
    assert answer is not None
    kind = NetworkEventKind.NAME if row.code is None else NetworkEventKind.DENIED
    assert [(it.kind, it.rule, it.code) for it in asking.told] == [(kind, row.rule, row.code or "")]
    row.assert_answered(answer)


@pytest.mark.parametrize("kind", NO_DATA)
def test_an_allowed_name_has_nothing_but_one_address(kind: str) -> None:
    asking = Asking(allow=ALLOW, deny=DENY)
    answer = asking.answer(ask(kind, f"{kind.lower()}.of.wild.example.com", "wild", kind=NO_DATA[kind]).query)
    assert answer is not None
    assert (answer.rcode(), answer.answer, answer.additional) == (dns.rcode.NOERROR, [], [])
    assert [(it.kind, it.rule) for it in asking.told] == [(NetworkEventKind.NAME, "wild")]


def test_so_many_names_are_told() -> None:
    asking = Asking()
    for number in range(4097):
        asking.server._tell_once(f"{number}.example.com", Verdict(allowed=True, rule="allow-1"))
    assert [it.name for it in asking.told] == [*(f"{number}.example.com" for number in range(4096)), ""]


def test_a_name_that_no_rule_can_have_is_told_in_part() -> None:
    """Its escapes may be longer than an event has room for."""
    asking = Asking()
    question = dns.message.make_query(dns.name.Name([b"\1" * 63, b"\1" * 63, b""]), "A").to_wire()
    assert dns.message.from_wire(asking.server.answer(question)).rcode() == dns.rcode.NXDOMAIN
    (told,) = asking.told
    assert (told.kind, told.code, told.flag) == (NetworkEventKind.DENIED, Denial.BAD_NAME, "")
    assert told.name == f"{'\\001' * 63}.{'\\001' * 63}"[:255]
    assert NetworkEvent.parse(told.to_bytes()) == told


def test_what_says_nothing_about_a_name_is_not_told() -> None:
    asking = Asking()
    assert asking.ask("a.example.com") == dns.rcode.NOERROR
    asking.told.clear()
    assert asking.server.answer(bytes(12)) != b""
    refused = dns.message.make_query("a.example.org", "A", "CH").to_wire()
    assert dns.message.from_wire(asking.server.answer(refused)).rcode() == dns.rcode.REFUSED
    assert asking.told == []


def test_a_name_for_which_no_address_is_left() -> None:
    asking = Asking(most=1)
    assert asking.ask("a.example.com") == dns.rcode.NOERROR
    assert asking.ask("b.example.com") == dns.rcode.NXDOMAIN
    assert [(it.name, it.rule, it.code) for it in asking.told] == [
        ("a.example.com", "allow-1", ""),
        ("b.example.com", "allow-1", Denial.LIMIT_LOOKUPS),
    ]


@contextmanager
def udp() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A guest's socket, connected to the server's."""
    with socket.socket(type=socket.SOCK_DGRAM) as guest, socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        guest.connect(server.getsockname())
        for one in (guest, server):
            one.setblocking(False)
        yield guest, server


def _count(end: socket.socket) -> int:
    count = 0
    while True:
        try:
            end.recv(4096)
        except BlockingIOError:
            return count
        count += 1


def test_questions_by_udp_are_answered_so_many_at_a_time() -> None:
    async def answered() -> list[int]:
        with udp() as (guest, server):
            Asking().server.start(asyncio.get_running_loop(), server)
            for _ in range(100):
                guest.send(_query("a.example.com"))
            guest.send(b"none")
            found = []
            for _ in range(3):
                await asyncio.sleep(0)
                found.append(_count(guest))
            asyncio.get_running_loop().remove_reader(server)
            return found

    assert [it for it in run(answered) if it] == [64, 36]


async def _exchange(guest: socket.socket, sent: bytes, *, ends: bool) -> bytes:
    """What a server says to this until it lets go; the guest may end first."""
    loop, received = asyncio.get_running_loop(), b""

    async def write() -> None:
        await loop.sock_sendall(guest, sent)
        if ends:
            guest.shutdown(socket.SHUT_WR)

    writing = asyncio.create_task(write())
    while more := await loop.sock_recv(guest, 65536):
        received += more
    await writing
    return received


def _by_tcp(sent: bytes, *, ends: bool = True) -> tuple[bytes, str]:
    """What is said, and why it ends."""

    async def both() -> tuple[bytes, str]:
        guest, server = socket.socketpair()
        for one in (guest, server):
            one.setblocking(False)

        async def serve() -> str:
            try:
                await Asking().server.serve(server)
            except (OSError, EOFError) as error:
                return type(error).__name__
            finally:
                server.close()
            return ""

        with guest:
            serving = asyncio.create_task(serve())
            return await _exchange(guest, sent, ends=ends), await serving

    return run(both)


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(2) + message


def test_questions_by_tcp_are_answered_until_there_are_too_many() -> None:
    answer = _framed(Asking().server.answer(_query("a.example.com")))
    question = _framed(_query("a.example.com"))
    assert _by_tcp(question * 3) == (answer * 3, "EOFError")
    assert _by_tcp(question * 1000, ends=False) == (answer * 1000, "")


@pytest.mark.parametrize(
    ("sent", "ends"),
    [(b"\0", "EOFError"), (_framed(_query("a.example.com"))[:-1], "EOFError"), (b"\0\4none", "")],
    ids=["half a length", "less than its length", "no message"],
)
def test_what_is_no_question_by_tcp_has_no_answer(sent: bytes, ends: str) -> None:
    assert _by_tcp(sent) == (b"", ends)


def test_a_connection_that_says_nothing_is_ended() -> None:
    async def seconds() -> float:
        guest, server = socket.socketpair()
        server.setblocking(False)
        with guest, server, pytest.raises(TimeoutError):
            await Asking().server.serve(server)
        return asyncio.get_running_loop().time()

    assert run(seconds) == 10.0
