"""Connections by the dialer's word, whatever a gateway that was taken over reports of them."""

from dataclasses import replace

import pytest

from mvmnix.formats.strict import MalformedError
from mvmnix.network.host import connections
from mvmnix.network.host.connections import Connections
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.plan.network import Network, parse_rules

_NETWORK = Network(parse_rules(["http://a.example/v1", "http://a.example/v2", "https://a.example"], []))
_OPENED = NetworkEvent(NetworkEventKind.OPENED, "allow-1", "", "a.example", "192.0.2.1", 80, connection=7)
_LOGGED = replace(_OPENED, protocol="http")
_CLOSED = replace(_OPENED, kind=NetworkEventKind.CLOSED, code="limit-bytes", sent=3, received=4)


@pytest.fixture
def known() -> Connections:
    made = Connections(_NETWORK)
    assert [*made.dial(_OPENED)] == [_LOGGED]
    return made


def test_a_connection_is_the_dialers_and_its_bytes_the_gateways(known: Connections) -> None:
    assert 7 in known
    assert [*known.report(_OPENED)] == []
    assert [*known.report(_CLOSED)] == [replace(_CLOSED, protocol="http")]
    assert 7 not in known
    assert [*known.finish()] == []


def test_a_connection_is_used_by_several_rules(known: Connections) -> None:
    second = replace(_OPENED, rule="allow-2")
    assert [*known.report(_OPENED), *known.report(second)] == [replace(second, protocol="http")]
    for rule in ("allow-1", "allow-2"):
        (closed,) = known.report(replace(_CLOSED, rule=rule))
        assert (closed.kind, closed.rule, closed.protocol) == (NetworkEventKind.CLOSED, rule, "http")
    assert 7 not in known


def test_a_connection_that_nobody_took_is_closed(known: Connections) -> None:
    assert [*known.report(NetworkEvent(NetworkEventKind.CLOSED, connection=7))] == [
        replace(_LOGGED, kind=NetworkEventKind.CLOSED)
    ]
    assert [*known.finish()] == []


LIES = {
    "a connection of another number": replace(_OPENED, connection=8),
    "an end of another number": replace(_CLOSED, connection=8),
    "another name": replace(_OPENED, name="b.example"),
    "another address": replace(_OPENED, address="192.0.2.2"),
    "another port": replace(_OPENED, port=443),
    "no name": replace(_OPENED, name=""),
    "a rule of another port": replace(_OPENED, rule="allow-3"),
    "no rule": replace(_OPENED, rule=""),
    "an end before its begin": _CLOSED,
    "an end by another name": replace(_CLOSED, name="b.example"),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_the_dialer_did_not_tell_is_forged(known: Connections, lie: str) -> None:
    assert [*known.report(LIES[lie])] == [replace(LIES[lie], kind=NetworkEventKind.FORGED)]
    assert [*known.finish()] == [replace(_LOGGED, kind=NetworkEventKind.UNREPORTED)]


def test_a_report_counts_once(known: Connections) -> None:
    assert [*known.report(_OPENED)] == []
    for lie in (_OPENED, replace(_CLOSED, rule="allow-2"), replace(_CLOSED, rule="")):
        assert [it.kind for it in known.report(lie)] == [NetworkEventKind.FORGED]
    (closed,) = known.report(_CLOSED)
    assert closed.kind is NetworkEventKind.CLOSED
    assert [it.kind for it in known.report(_CLOSED)] == [NetworkEventKind.FORGED]


def test_two_connections_by_one_number_are_forged(known: Connections) -> None:
    assert [it.kind for it in known.dial(_OPENED)] == [NetworkEventKind.OPENED, NetworkEventKind.FORGED]


def test_what_no_rule_admits_is_not_the_dialers() -> None:
    for told in (replace(_OPENED, rule="allow-9"), replace(_OPENED, name="b.example"), replace(_OPENED, port=81)):
        with pytest.raises(MalformedError):
            list(Connections(_NETWORK).dial(told))


def test_connections_that_are_hidden_take_a_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 2)
    known = Connections(_NETWORK)
    told = [it for number in range(4) for it in known.dial(replace(_OPENED, connection=number))]
    opened, unreported = NetworkEventKind.OPENED, NetworkEventKind.UNREPORTED
    assert [(it.kind, it.connection) for it in told] == [
        *((opened, 0), (opened, 1), (opened, 2), (unreported, 0), (opened, 3), (unreported, 1))
    ]
    assert [(it.kind, it.connection) for it in known.finish()] == [(unreported, 2), (unreported, 3)]


def test_what_is_made_after_the_gateway_was_asked_to_end_needs_no_report(known: Connections) -> None:
    known.begin_to_end()
    assert [*known.dial(replace(_OPENED, connection=8))] == [replace(_LOGGED, connection=8)]
    assert [*known.finish()] == [replace(_LOGGED, kind=NetworkEventKind.UNREPORTED)]


def test_connections_that_were_reported_stay_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 2)
    monkeypatch.setattr(connections, "MOST_REPORTED", 3)
    known = Connections(_NETWORK)
    told = [replace(_OPENED, connection=number) for number in range(6)]
    opened, unreported, forged = NetworkEventKind.OPENED, NetworkEventKind.UNREPORTED, NetworkEventKind.FORGED

    def kinds(number: int) -> list[tuple[NetworkEventKind, int]]:
        return [(it.kind, it.connection) for it in known.dial(told[number])]

    assert [*kinds(0), *known.report(told[0]), *kinds(1)] == [(opened, 0), (opened, 1)]
    assert kinds(2) == [(opened, 2), (unreported, 1)], "though another one is older"
    assert [*known.report(told[2])] == []
    assert [*kinds(3), *known.report(told[3])] == [(opened, 3)]
    assert kinds(4) == [(opened, 4), (forged, 4)]
    (closed,) = known.report(replace(_CLOSED, connection=0))
    assert closed.kind is NetworkEventKind.CLOSED
    assert kinds(5) == [(opened, 5)]
