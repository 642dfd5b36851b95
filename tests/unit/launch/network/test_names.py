"""Questions of DNS are counted, and bounded in a time; each name is told once."""

from dataclasses import dataclass, field
from functools import cache

import dns.edns
import dns.message
import dns.rcode
import pytest

from mvmnix.launch.network.decisions import Denial, Rules
from mvmnix.launch.network.messages import NetworkEvent, NetworkEventKind
from mvmnix.launch.network.names import NameServer
from mvmnix.launch.network.rules import SYNTHETIC
from mvmnix.launch.network.synthetic import SyntheticAddresses
from mvmnix.launch.plan import Network
from mvmnix.launch.plan.network import parse_rules
from tests.unit.launch.network.name_rows import ALLOW, DENY, NO_DATA, QUESTIONS, Question, ask


@cache
def _query(name: str) -> bytes:
    return dns.message.make_query(name, "A").to_wire()


@dataclass
class Asking:
    """A name server, its clock and what it told."""

    now: float = 0.0
    told: list[NetworkEvent] = field(default_factory=list)
    allow: tuple[str, ...] = ("https://*.example.com",)
    deny: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rules = Rules(Network(parse_rules(self.allow, self.deny)))
        self._server = NameServer(rules, SyntheticAddresses(SYNTHETIC), self, lambda: self.now)

    def tell(self, event: NetworkEvent) -> None:
        self.told.append(event)

    def ask(self, name: str) -> dns.rcode.Rcode | None:
        """None where nothing is answered."""
        answer = self.answer(_query(name))
        return answer.rcode() if answer else None

    def answer(self, query: bytes) -> dns.message.Message | None:
        data = self._server.answer(query)
        return dns.message.from_wire(data) if data else None


def test_more_questions_than_there_may_be_get_no_answer() -> None:
    asking = Asking()
    answered = [asking.ask("a.example.com") is not None for _ in range(2100)]
    assert answered == [True] * 2000 + [False] * 100
    asking.now = 0.25
    assert [asking.ask("a.example.com") is not None for _ in range(200)] == [True] * 125 + [False] * 75
    denied = [it for it in asking.told if it.kind is NetworkEventKind.DENIED]
    assert [(it.name, it.code) for it in denied] == [("", Denial.LIMIT_LOOKUPS)]


def test_each_name_is_told_once_and_very_many_without_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are refused take no place of those that are answered; what is beyond is told once in a second."""
    monkeypatch.setattr("mvmnix.launch.network.names._MOST", 10)
    asking = Asking()
    for _ in range(3):
        assert asking.ask("a.example.com") == dns.rcode.NOERROR
        assert asking.ask("a.example.org") == dns.rcode.NXDOMAIN
    assert [(it.name, it.code) for it in asking.told] == [("a.example.com", ""), ("a.example.org", Denial.NO_RULE)]
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
    if row.code is None:
        assert answer.rcode() == dns.rcode.NOERROR
        assert str(answer.answer[0][0]).startswith("198.18.")
    else:
        assert (answer.rcode(), answer.answer) == (dns.rcode.NXDOMAIN, [])
        assert [it.code for it in answer.options if isinstance(it, dns.edns.EDEOption)] == [dns.edns.EDECode.BLOCKED]


@pytest.mark.parametrize("kind", NO_DATA)
def test_an_allowed_name_has_nothing_but_one_address(kind: str) -> None:
    asking = Asking(allow=ALLOW, deny=DENY)
    answer = asking.answer(ask(kind, f"{kind.lower()}.of.wild.example.com", "wild", kind=NO_DATA[kind]).query)
    assert answer is not None
    assert (answer.rcode(), answer.answer, answer.additional) == (dns.rcode.NOERROR, [], [])
    assert [(it.kind, it.rule) for it in asking.told] == [(NetworkEventKind.NAME, "wild")]
