"""A rule's limits, by a clock of the test's; and synthetic addresses."""

from ipaddress import IPv4Network

from mvmnix.network.gateway.meters import RuleMeter
from mvmnix.network.gateway.names import SyntheticAddresses
from mvmnix.plan.network import NO_RULE_LIMITS, RuleLimits


def test_bytes_of_all_connections_count_together() -> None:
    meter = RuleMeter(RuleLimits(bytes=100), lambda: 0.0)
    assert [(meter.take(count), meter.is_spent) for count in (60, 39, 1)] == [(0.0, False), (0.0, False), (0.0, True)]
    assert meter.debt == 0.0
    assert meter.take(1) is None


def test_a_rate_is_kept_over_time() -> None:
    now = 0.0
    meter = RuleMeter(RuleLimits(bytes_per_second=1024), lambda: now)
    assert meter.debt == 0.0
    assert meter.take(1024) == 1.0
    assert meter.debt == 1.0
    now = 1.0
    assert meter.debt == 0.0
    assert meter.take(512) == 0.5
    assert not meter.is_spent
    now = 100.0
    assert meter.take(256) == 0.0, "a quarter of a second's bytes at once"
    assert meter.take(1024) == 1.0


def test_connections_at_a_time() -> None:
    meter = RuleMeter(RuleLimits(connections=2), lambda: 0.0)
    assert [meter.open() for _ in range(3)] == [True, True, False]
    meter.close()
    assert meter.open()
    assert all(RuleMeter(NO_RULE_LIMITS, lambda: 0.0).open() for _ in range(10))


def test_each_name_has_one_address_for_good() -> None:
    web, mail = frozenset({443}), frozenset({25, 443})
    names = SyntheticAddresses({web: IPv4Network("198.18.0.0/29"), mail: IPv4Network("198.18.0.8/29")})
    found = [names.address_of(f"{letter}.example.com", web) for letter in "abcdef"]
    assert list(map(str, found)) == [*(f"198.18.0.{number}" for number in range(2, 7)), "None"]
    assert names.address_of("a.example.com", web) == found[0]
    assert str(names.address_of("mail.example.com", mail)) == "198.18.0.10"
    assert found[1] is not None
    assert names.name_of(found[1]) == "b.example.com"
    assert names.name_of(IPv4Network("198.18.0.0/29")[7]) is None
