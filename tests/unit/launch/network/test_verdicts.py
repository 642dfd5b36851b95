"""What the supervisor makes of events, whatever processes that were taken over say."""

from mvmnix.launch.network.messages import NetworkEvent, NetworkEventKind
from mvmnix.launch.network.verdicts import Verdicts
from mvmnix.launch.plan import Network, parse_rules


def made() -> tuple[Verdicts, list[int], list[str]]:
    used, said = list[int](), list[str]()
    rules = parse_rules(["https://a.example.com", "https://b.example.com"], ["c.example.com"])
    return Verdicts(Network(rules), "0123456789ab", used.append, said.append), used, said


def denied(code: str, name: str = "x.example.com", rule: str = "") -> NetworkEvent:
    flag = f"--allow https://{name}"
    return NetworkEvent(NetworkEventKind.DENIED, rule=rule, code=code, name=name, port=443, flag=flag)


def test_the_first_use_of_each_rule_is_told_once() -> None:
    verdicts, used, said = made()
    for rule in ("allow-2", "allow-1", "allow-2", "no-such-rule", ""):
        verdicts.take(NetworkEvent(NetworkEventKind.OPENED, rule=rule))
    assert (used, said, verdicts.denials) == ([2, 1], [], {})


def test_denials_are_counted_by_rule_and_code_and_told_once() -> None:
    verdicts, _, said = made()
    flag = "--allow https://c.example.com"
    for _ in range(3):
        verdicts.take(denied("no-rule"))
    verdicts.take(denied("denied-by-rule", "c.example.com", "deny-1"))
    assert verdicts.denials == {("network-no-rule",): 3, ("network-denied-by-rule", "rule-3"): 1}
    assert said == [
        "0123456789ab: x.example.com:443 is refused (no-rule); --allow https://x.example.com would allow it",
        f"0123456789ab: c.example.com:443 is refused (denied-by-rule, deny-1); {flag} would allow it",
    ]


def test_whatever_is_said_takes_a_bounded_room() -> None:
    verdicts, _, said = made()
    for number in range(1000):
        letters = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        verdicts.take(denied(letters, f"n{number}.example.com"))
    assert len(verdicts.denials) == 65
    assert verdicts.denials["network-others",] == 1000 - 64
    assert len(said) == 16


def test_a_connection_that_ran_out_of_bytes_counts_as_a_denial() -> None:
    verdicts, _, _ = made()
    verdicts.take(NetworkEvent(NetworkEventKind.CLOSED, rule="allow-1", code="limit-bytes"))
    assert verdicts.denials == {("network-limit-bytes", "rule-1"): 1}
