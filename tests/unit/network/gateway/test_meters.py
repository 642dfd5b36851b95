"""A rule's limits, by a clock of the test's; and synthetic addresses."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network

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


WEB, MAIL = frozenset({443}), frozenset({25, 443})
NAMES = [f"{letter}.example.com" for letter in "abcdef"]


def addresses(names: SyntheticAddresses, asked: Sequence[str]) -> dict[str, IPv4Address | None]:
    return {name: names.address_of(name, WEB) for name in asked}


def test_each_name_has_one_address_for_good() -> None:
    names = SyntheticAddresses({WEB: IPv4Network("198.18.0.0/29"), MAIL: IPv4Network("198.18.0.8/29")}, {})
    found = addresses(names, NAMES)
    assert {*map(str, found.values())} == {*(f"198.18.0.{number}" for number in range(2, 7)), "None"}
    assert addresses(names, NAMES) == found
    assert names.address_of("mail.example.com", MAIL) in IPv4Network("198.18.0.8/29")
    for name, address in found.items():
        assert address is None or names.name_of(address) == name
    assert names.name_of(IPv4Network("198.18.0.0/29")[7]) is None


def test_names_that_rules_have_in_full_have_the_same_addresses_whatever_was_asked_before() -> None:
    """So a guest that goes on from a snapshot reaches no other name by an address that it was told there."""
    networks = {WEB: IPv4Network("198.18.0.0/26")}
    one, other = (SyntheticAddresses(networks, dict.fromkeys(NAMES, WEB)) for _ in range(2))
    many = [f"{number}.example.com" for number in range(40)]
    addresses(one, many)
    found = addresses(one, NAMES)
    assert {other.name_of(it): it for it in found.values() if it is not None} == found
    addresses(other, many[::-1])
    assert addresses(other, NAMES) == found


def test_a_name_of_a_wildcard_has_an_address_by_its_hash() -> None:
    one, other = (SyntheticAddresses({WEB: IPv4Network("198.18.0.0/16")}, {}) for _ in range(2))
    assert addresses(one, NAMES) == addresses(other, NAMES[::-1])


def test_two_names_whose_hashes_fall_together_have_two_addresses() -> None:
    names = SyntheticAddresses({WEB: IPv4Network("198.18.0.0/26")}, {})
    many = [f"{number}.example.com" for number in range(61)]
    assert len({*addresses(names, many).values()}) == 61
    assert names.address_of("another.example.com", WEB) is None
