"""Corpus: names, what a guest may look up, and where the names that it may look up lead when they are dialed."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.edns
import dns.message
import dns.rcode
import pytest

from mvmnix.network.host.namespace_setup import GATEWAY
from mvmnix.network.policy.decisions import Denial
from tests.hostile.network.clients import echo
from tests.hostile.network.corpus import Expected, allowed, assert_verdict, denied
from tests.hostile.network.servers import Answers, NameServer
from tests.hostile.network.world import HOST, HOST6, HOST6_TOO, HOST_TOO, OTHER, PUBLIC, Server, World, world
from tests.patience import EVENT_PATIENCE
from tests.unit.network import name_rows

pytestmark = pytest.mark.root("it makes network namespaces of its own")

RESOLVER, SIX, PRIVATE = "9.9.9.9", "2606:4700::1111", "10.0.0.7"
_ALLOW = (
    *name_rows.ALLOW,
    "https://api.example.net,id=net",
    "tcp:*.to.example.com:7,id=to",
    "tcp:*.lan.example.com:7,id=lan,acknowledge=private-addresses",
    f"tcp:{HOST}:7,id=host",
)
_DENY = (*name_rows.DENY, "151.101.0.0/16,id=range")


#: One for each code, and the questions that could carry data out; all ways to them are rows of
#: tests/unit/network/name_rows.py.
FIRST = (
    *("an allowed name", "a name below a wildcard", "a denied name below a wildcard"),
    *("a NUL byte behind an allowed name", "data in a name (DNS tunnelling)", "data asked for as TXT"),
)
_KNOWN = {it.tried: it for it in name_rows.QUESTIONS}
QUESTIONS = [_KNOWN[tried] for tried in FIRST]


def _answers(*answers: tuple[str, ...]) -> Answers:
    return answers


@dataclass(frozen=True, slots=True)
class Lead:
    """An allowed name, which of these labels stands below a rule's suffix, and what its server answers."""

    tried: str
    label: str
    answers: Answers
    expected: Expected


def _to(tried: str, address: str, *others: str, code: Denial = Denial.ADDRESS_NOT_PUBLIC) -> Lead:
    label = "a-" + "".join(it if it.isalnum() else "-" for it in "-".join((address, *others))) + "-z"
    return Lead(tried, f"{label}.to", _answers((address, *others)), denied(code, "to", address))


_METADATA = Denial.ADDRESS_METADATA
#: One for each code and each way to an address; all kinds of addresses are rows of `DIALED` in
#: tests/unit/network/policy/test_decisions.py.
LEADS = [
    Lead("a public address", "public.to", _answers((PUBLIC,)), allowed("to", PUBLIC)),
    Lead("a public address, by IPv6 alone", "six.to", _answers((SIX,)), allowed("to", SIX)),
    Lead("an alias of a name that no rule allows", "alias.to", _answers(("cdn.example.org",)), allowed("to", PUBLIC)),
    _to("the metadata service", "169.254.169.254", code=_METADATA),
    _to("loopback", "127.0.0.1"),
    _to("loopback, mapped", "::ffff:127.0.0.1"),
    _to("no address, which connects to this host", "0.0.0.0"),
    _to("private", PRIVATE),
    _to("another machine's synthetic addresses", "198.18.0.2"),
    _to("the gateway's link", GATEWAY),
    _to("the host's own public address", HOST),
    _to("the host's own public address, IPv6", HOST6),
    _to("an address of the host beside another of its network", HOST_TOO),
    _to("an address of the host beside another of its network, IPv6", HOST6_TOO),
    Lead(
        "public and private addresses, the private one last",
        "mixed.to",
        _answers((PUBLIC, PRIVATE)),
        denied(Denial.ADDRESS_NOT_PUBLIC, "to", PRIVATE),
    ),
    Lead(
        "a public address, and loopback by IPv6",
        "mixed-six.to",
        _answers((PUBLIC, "::1")),
        denied(Denial.ADDRESS_NOT_PUBLIC, "to", "::1"),
    ),
    Lead(
        "public addresses by UDP, and by TCP a private one besides",
        "long.to",
        _answers(("truncated", PUBLIC, PRIVATE)),
        denied(Denial.ADDRESS_NOT_PUBLIC, "to", PRIVATE),
    ),
    Lead(
        "an alias that leads to a private address",
        "alias-private.to",
        _answers(("inside.example.org",)),
        denied(Denial.ADDRESS_NOT_PUBLIC, "to", PRIVATE),
    ),
    Lead(
        "an alias that leads to the metadata service",
        "alias-metadata.to",
        _answers(("metadata.example.org",)),
        denied(_METADATA, "to", "169.254.169.254"),
    ),
    Lead("a denied range", "range.to", _answers((OTHER,)), denied(Denial.DENIED_BY_RULE, "range", OTHER)),
    Lead(
        "a denied range, mapped",
        "range-mapped.to",
        _answers((f"::ffff:{OTHER}",)),
        denied(Denial.DENIED_BY_RULE, "range", f"::ffff:{OTHER}"),
    ),
    Lead("nothing", "nothing.to", _answers(()), denied(Denial.RESOLVE_FAILED, "to")),
    Lead("a private address that the rule acknowledges", "index.lan", _answers((PRIVATE,)), allowed("lan", PRIVATE)),
    Lead("loopback, where private ones are meant", "own.lan", _answers(("127.0.0.1",)), _to("", "127.0.0.1").expected),
]
_ELSEWHERE: dict[str, Answers] = {
    "cdn.example.org": _answers((PUBLIC,)),
    "inside.example.org": _answers((PRIVATE,)),
    "metadata.example.org": _answers(("169.254.169.254",)),
    # answers that change
    "rebound.to.example.com": _answers((PUBLIC,), ("127.0.0.1",)),
    "bound-later.to.example.com": _answers(("127.0.0.1",), (PUBLIC,)),
    "cdn.to.example.com": _answers((PUBLIC,), (SIX,), (PUBLIC, SIX)),
    # names that other names become by a search list
    "gone.to.example.com.corp.example.net": _answers((PUBLIC,)),
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    addresses = (PUBLIC, OTHER, RESOLVER, SIX, PRIVATE)
    resolver = f"nameserver {RESOLVER}\nsearch corp.example.net"
    where = tmp_path_factory.mktemp("world")
    with world(where, _ALLOW, _DENY, addresses=addresses, resolver=resolver) as made:
        yield made


@pytest.fixture(scope="module")
def names(here: World) -> Iterator[NameServer]:
    known = {f"{it.label}.example.com": it.answers for it in LEADS}
    with NameServer(RESOLVER, known | _ELSEWHERE) as server:
        yield server


@pytest.fixture(autouse=True)
def forgotten(here: World, names: NameServer) -> None:
    here.forget()
    names.asked.clear()


@pytest.fixture(scope="module")
def everywhere(here: World) -> Iterator[tuple[Server, ...]]:
    """Servers at all addresses of the world, those of the host itself first."""
    with (
        Server("0.0.0.0", 7, echo) as own,
        Server("::1", 7, echo) as loopback,
        Server(HOST6, 7, echo) as six,
        Server(PUBLIC, 7, echo),
        Server(SIX, 7, echo),
        Server(OTHER, 7, echo) as other,
        Server(PRIVATE, 7, echo),
    ):
        yield own, loopback, six, other


def _asked(here: World, question: name_rows.Question) -> dns.message.Message:
    with here.guest.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(EVENT_PATIENCE)
        asking.connect((GATEWAY, 53))
        asking.send(question.query)
        return dns.message.from_wire(asking.recv(4096))


@pytest.mark.parametrize("row", QUESTIONS, ids=lambda it: it.tried)
def test_what_a_guest_may_look_up(here: World, names: NameServer, row: name_rows.Question) -> None:
    answer = _asked(here, row)
    assert_verdict(here, Expected(row.rule, row.code), names=True)
    row.assert_answered(answer)
    assert names.asked == [], "no question leaves the gateway"


def test_an_allowed_name_has_nothing_but_one_address(here: World, names: NameServer) -> None:
    """Of a record for HTTPS, no key of Encrypted ClientHello comes in."""
    kind = name_rows.NO_DATA["HTTPS"]
    answer = _asked(here, name_rows.ask("HTTPS", "https.of.wild.example.com", "wild", kind=kind))
    assert (answer.rcode(), answer.answer, answer.additional) == (dns.rcode.NOERROR, [], [])
    assert_verdict(here, allowed("wild"), names=True)
    assert names.asked == []


def _echoed(here: World, name: str, port: int = 7) -> bytes:
    """What a server at a name says to the guest; nothing where it is reset."""
    with here.guest.connect(here.find(name), port) as connection:
        connection.sendall(b"hello")
        try:
            return connection.recv(100)
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("row", LEADS, ids=lambda it: it.tried)
def test_where_an_allowed_name_may_lead(here: World, everywhere: tuple[Server, ...], row: Lead) -> None:
    rule = "lan" if row.label.endswith(".lan") else row.expected.rule
    said = _echoed(here, f"{row.label}.example.com")
    assert said == (b"hello" if row.expected.allowed else b"")
    assert_verdict(here, Expected(rule, row.expected.code, row.expected.address))
    assert [it.peers for it in everywhere] == [[]] * len(everywhere), "nothing reached the host or a denied address"


def test_an_answer_that_changes_after_the_check_is_not_asked_for(
    here: World, names: NameServer, everywhere: tuple[Server, ...]
) -> None:
    """Rebinding: what was judged is dialed, and a name is resolved once for each connection."""
    assert _echoed(here, "rebound.to.example.com") == b"hello"
    assert_verdict(here, allowed("to", PUBLIC))
    assert sorted(names.asked) == [("rebound.to.example.com", kind) for kind in ("A", "AAAA")]
    assert _echoed(here, "rebound.to.example.com") == b""
    assert_verdict(here, denied(Denial.ADDRESS_NOT_PUBLIC, "to", "127.0.0.1"))
    assert everywhere[0].peers == []


def test_an_answer_that_was_refused_is_asked_for_again(here: World, everywhere: tuple[Server, ...]) -> None:
    assert _echoed(here, "bound-later.to.example.com") == b""
    assert_verdict(here, denied(Denial.ADDRESS_NOT_PUBLIC, "to", "127.0.0.1"))
    assert _echoed(here, "bound-later.to.example.com") == b"hello"
    assert_verdict(here, allowed("to", PUBLIC))


def test_addresses_that_change_as_those_of_a_cdn_do(here: World, everywhere: tuple[Server, ...]) -> None:
    """An allowlist that was frozen to addresses failed here; the guest keeps its one synthetic address."""
    before = here.resolve("cdn.to.example.com")
    for address in (PUBLIC, SIX):
        assert _echoed(here, "cdn.to.example.com") == b"hello"
        assert_verdict(here, allowed("to", address))
    assert _echoed(here, "cdn.to.example.com") == b"hello"
    assert here.resolve("cdn.to.example.com") == before


def test_no_search_list_makes_another_name_of_it(
    here: World, names: NameServer, everywhere: tuple[Server, ...]
) -> None:
    assert _echoed(here, "gone.to.example.com") == b""
    assert_verdict(here, denied(Denial.RESOLVE_FAILED, "to"))
    assert {name for name, _ in names.asked} == {"gone.to.example.com"}


def test_the_hosts_own_address_takes_the_word_for_private_ones(here: World, everywhere: tuple[Server, ...]) -> None:
    with pytest.raises(ConnectionResetError), here.guest.connect(HOST, 7) as connection:
        connection.recv(1)
    assert_verdict(here, denied(Denial.ADDRESS_NOT_PUBLIC, "host", HOST))
    assert everywhere[0].peers == []


@pytest.mark.parametrize("port", [7, 53, 80, 443, 853])
@pytest.mark.parametrize("address", [PUBLIC, OTHER, RESOLVER])
def test_an_allowed_name_opens_no_address(here: World, everywhere: tuple[Server, ...], address: str, port: int) -> None:
    """An allowed domain let any address on its port through."""
    assert here.resolve("public.to.example.com") is not None
    with pytest.raises(ConnectionRefusedError):
        here.guest.connect(address, port)


def test_a_plan_without_rules_names_no_host(tmp_path: Path) -> None:
    """The strictest preset of another product still had hosts in it."""
    found = ("example.com", "host.internal", "registry.example.net", "a.b.c.d.e.f")
    with (
        world(tmp_path, [], ports=["8080:80"], hosts=f"{PUBLIC} {' '.join(found)}") as here,
        Server(PUBLIC, 443, echo) as server,
    ):
        for name in found:
            here.forget()
            assert here.resolve(name) is None
            assert_verdict(here, denied(Denial.NO_RULE), names=True)
        for address in (PUBLIC, "198.18.0.2", "198.18.0.3"):
            with pytest.raises((ConnectionRefusedError, ConnectionResetError)), here.guest.connect(address, 443) as it:
                it.recv(1)
        assert server.peers == []
