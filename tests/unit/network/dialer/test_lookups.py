"""Turns of names: which are looked up at a time, who gets whose answer, and who waits."""

from collections.abc import Sequence

import pytest

from mvmnix.network.dialer.lookups import OF_ALL, OF_DOMAIN, OF_RULE, Lookups, Turn
from mvmnix.network.dialer_messages import Ask
from mvmnix.network.sockets import MAX_CONNECTIONS

_HOSTS = {"wild": "*.example.com", "suffix": "*.co.uk", "all": "*", "one": "a.example"}


def _asks(rule: str, *hosts: str) -> list[Ask]:
    return [Ask(number, rule, host, 443) for number, host in enumerate(hosts)]


def _lookups(*, shares_answers: bool = True) -> Lookups:
    return Lookups(lambda rule: _HOSTS.get(rule, "a.example"), shares_answers=shares_answers)


def _now(lookups: Lookups, asks: Sequence[Ask]) -> int:
    return [lookups.begin(it) for it in asks].count(Turn.NOW)


@pytest.mark.parametrize(
    ("rule", "hosts", "now"),
    [
        ("wild", [f"{number}.a.example.com" for number in range(20)], OF_DOMAIN),
        ("wild", [f"{number}.example.com" for number in range(20)], 20),
        ("wild", [f"{number}.example.com" for number in range(99)], OF_RULE),
        ("suffix", [f"{number}.a.co.uk" for number in range(20)], OF_DOMAIN),
        ("all", [f"{number}.evil.example" for number in range(20)], OF_DOMAIN),
        ("all", [f"a.evil{number}.example" for number in range(99)], OF_RULE),
        ("one", ["a.example"] * 20, 1),
    ],
)
def test_shares(rule: str, hosts: Sequence[str], now: int) -> None:
    assert _now(_lookups(), _asks(rule, *hosts)) == now


def test_all_rules_together_leave_threads_that_read_on() -> None:
    lookups = _lookups()
    asks = [Ask(number, f"r{number}", f"{number}.example", 443) for number in range(150)]
    assert _now(lookups, asks) == OF_ALL
    following = [lookups.end(it) for it in asks[:OF_ALL]]
    assert following == [([], it) for it in asks[OF_ALL:]] + [([], None)] * (2 * OF_ALL - 150)


def test_one_answer_is_for_all_that_asked_meanwhile() -> None:
    lookups = _lookups()
    first, second, third = _asks("one", *["a.example"] * 3)
    assert [lookups.begin(it) for it in (first, second)] == [Turn.NOW, Turn.LATER]
    assert lookups.end(first) == ([second], None)
    assert lookups.begin(third) is Turn.NOW


def test_one_that_waits_has_others_wait_with_it() -> None:
    lookups = _lookups()
    asks = _asks("wild", *(f"{number}.a.example.com" for number in range(OF_DOMAIN + 1)))
    *busy, late = asks
    same = Ask(99, "wild", late.host, 443)
    assert _now(lookups, [*asks, same]) == OF_DOMAIN
    assert lookups.end(busy[0]) == ([], late)
    assert lookups.end(late) == ([same], None)


def test_a_proxy_is_asked_for_each() -> None:
    lookups = _lookups(shares_answers=False)
    asks = _asks("one", *["a.example"] * (OF_DOMAIN + 1))
    assert _now(lookups, asks) == OF_DOMAIN
    assert lookups.end(asks[0]) == ([], asks[-1])
    assert lookups.end(asks[1]) == ([], None)


def test_so_many_wait() -> None:
    lookups = _lookups()
    asks = _asks("one", *["a.example"] * (MAX_CONNECTIONS + 2))
    assert [lookups.begin(it) for it in asks][-2:] == [Turn.LATER, Turn.NEVER]
    same, _ = lookups.end(asks[0])
    assert len(same) == MAX_CONNECTIONS
    assert [lookups.begin(it) for it in asks[:2]] == [Turn.NOW, Turn.LATER]
