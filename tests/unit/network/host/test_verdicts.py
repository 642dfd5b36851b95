"""What the supervisor makes of events, whatever processes that were taken over say."""

import pytest

from mvmnix.network.host.verdicts import Verdicts
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.plan.network import Network, parse_rules


def made() -> tuple[Verdicts, list[int], list[str]]:
    used, said = list[int](), list[str]()
    rules = parse_rules(["https://a.example.com", "https://b.example.com"], ["c.example.com"])
    return Verdicts(Network(rules), "0123456789ab", used.append, said.append), used, said


def denied(code: str, name: str = "x.example.com", rule: str = "") -> NetworkEvent:
    return NetworkEvent(NetworkEventKind.DENIED, rule=rule, code=code, name=name, port=443)


def test_the_first_use_of_each_rule_is_told_once() -> None:
    verdicts, used, said = made()
    for rule in ("no-such-rule", "", "allow-2", "allow-1", "allow-2"):
        verdicts.take(NetworkEvent(NetworkEventKind.OPENED, rule=rule))
    assert (used, said, verdicts.denials.counts) == ([2, 1], [], {})


def test_denials_are_counted_by_rule_and_code_and_told_once() -> None:
    verdicts, used, said = made()
    for _ in range(3):
        verdicts.take(denied("no-rule"))
    verdicts.take(denied("denied-by-rule", "c.example.com", "deny-1"))
    assert verdicts.denials.counts == {("network-no-rule",): 3, ("network-denied-by-rule", "rule-3"): 1}
    assert used == []
    assert said == [
        "0123456789ab: x.example.com:443 is refused (no-rule); --allow https://x.example.com would allow it",
        "0123456789ab: c.example.com:443 is refused (denied-by-rule, deny-1)",
    ]


def test_a_gateway_that_lies_is_counted_and_told() -> None:
    verdicts, used, said = made()
    for kind in (NetworkEventKind.BREACH, NetworkEventKind.FORGED, NetworkEventKind.UNREPORTED):
        verdicts.take(NetworkEvent(kind, rule="allow-1", name="a.example.com", address="192.0.2.1", port=443))
    assert verdicts.denials.counts == {(f"network-{kind}", "rule-1"): 1 for kind in ("breach", "forged", "unreported")}
    assert used == []
    assert said == [
        "0123456789ab: the gateway asked for a connection that no rule allows: a.example.com:443 at 192.0.2.1",
        "0123456789ab: the gateway reported a connection that was not made: a.example.com:443 at 192.0.2.1",
        "0123456789ab: the gateway did not report a connection that was made: a.example.com:443 at 192.0.2.1",
    ]


@pytest.mark.parametrize(
    ("event", "would"),
    [
        (NetworkEvent(NetworkEventKind.DENIED, code="no-rule", name="b.example"), "--allow https://b.example"),
        (NetworkEvent(NetworkEventKind.DENIED, code="no-rule", address="8.8.8.8", port=53), "--allow tcp:8.8.8.8:53"),
        (
            NetworkEvent(
                *(NetworkEventKind.DENIED, "allow-1", "method", "a.example", "", 80), protocol="http", method="PUT"
            ),
            "--allow http://a.example,method=PUT",
        ),
        (NetworkEvent(NetworkEventKind.DENIED, code="method", name="a.example", port=80, method="$(id)"), ""),
        (NetworkEvent(NetworkEventKind.DENIED, code="no-rule", name="`id`", port=80), ""),
        (NetworkEvent(NetworkEventKind.DENIED, code="sni-mismatch", name="a.example", port=443), ""),
    ],
)
def test_the_option_is_made_of_validated_fields(event: NetworkEvent, would: str) -> None:
    assert event.flag == would
    verdicts, _, said = made()
    verdicts.take(event)
    assert said[0].partition("; ")[2] == (f"{would} would allow it" if would else "")


def test_whatever_is_said_takes_a_bounded_room() -> None:
    verdicts, _, said = made()
    for number in range(1000):
        letters = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        verdicts.take(denied(letters, f"n{number}.example.com"))
    assert len(verdicts.denials.counts) == 65
    assert verdicts.denials.counts["network-others",] == 1000 - 64
    assert len(said) == 16
    verdicts.take(denied("a", "n0.example.com"))
    assert verdicts.denials.counts["network-a",] == 2, "what was told apart before is counted still"


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            NetworkEvent(NetworkEventKind.DENIED, code="address-not-public", name="a.example", address="10.0.0.1"),
            "a.example at 10.0.0.1 is refused (address-not-public)",
        ),
        (
            NetworkEvent(NetworkEventKind.DENIED, rule="deny-1", code="x", address="192.0.2.1", port=1),
            "192.0.2.1:1 is refused (x, deny-1)",
        ),
        (NetworkEvent(NetworkEventKind.DENIED, code="x"), "an address without a name is refused (x)"),
        (NetworkEvent(NetworkEventKind.DENIED, code="x", name="\x1b[2J"), r"\u001b[2J is refused (x)"),
    ],
)
def test_a_line_says_what_is_known(event: NetworkEvent, line: str) -> None:
    verdicts, _, said = made()
    verdicts.take(event)
    assert said == [f"0123456789ab: {line}"]


def test_a_connection_that_ran_out_of_bytes_counts_as_a_denial() -> None:
    verdicts, _, _ = made()
    verdicts.take(NetworkEvent(NetworkEventKind.CLOSED, rule="allow-1", code="limit-bytes"))
    assert verdicts.denials.counts == {("network-limit-bytes", "rule-1"): 1}


def test_no_refusals_hide_what_is_said_of_the_gateway() -> None:
    verdicts, _, said = made()
    for number in range(100):
        letters = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        verdicts.take(denied(letters, f"n{number}.example.com"))
    del said[:]
    alarms = NetworkEventKind.BREACH, NetworkEventKind.FORGED, NetworkEventKind.UNREPORTED
    for kind in alarms:
        for port in (1, 2):
            verdicts.take(NetworkEvent(kind, rule="allow-1", code="no-rule", name="a.example.com", port=port))
        assert verdicts.denials.counts[f"network-{kind}", "rule-1"] == 2
    assert [line.rpartition(" ")[2] for line in said] == ["a.example.com:1"] * 3
