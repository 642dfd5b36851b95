"""Finds what makes a network rule one that is taken only by an explicit word in the plan, or not at all; pure.

When a plan is made and again when a machine starts. Suffixes under which strangers have names: public_suffixes.py. To
which addresses a name leads is known when it is dialed (decisions.py, step 5).
"""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network
from types import MappingProxyType
from typing import Final

from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.formats.addresses import AddressKind, kinds_within, metadata_within
from mvmnix.plan.network import Acknowledgement, Action, Network, NetworkRule
from mvmnix.plan.network_hosts import HostKind, covered_range, host_kind, is_private_name

#: Shorter prefixes stand for more addresses than any one network has (the largest blocks of RFC 1466).
_SHORTEST: Final = 8
#: What an acknowledged rule may name; a range of other kinds alone would let nothing through.
_DIALED: Final = frozenset({AddressKind.PUBLIC, AddressKind.PRIVATE, AddressKind.SHARED, AddressKind.METADATA})

#: What each word stands for, to be shown.
ACKNOWLEDGEMENT_MEANINGS: Final[Mapping[Acknowledgement, str]] = {
    Acknowledgement.ALL_HOSTS: "all hosts, or most addresses",
    Acknowledgement.PUBLIC_SUFFIX: "a suffix under which strangers register names",
    Acknowledgement.PRIVATE_ADDRESSES: "private addresses of this host's networks",
    Acknowledgement.METADATA: "a cloud's metadata service, which gives credentials to those who ask",
}


#: For each rule that no --allow names, by its id: the option that it comes from, as it was typed.
type RuleOptions = Mapping[str, str]
NO_OPTIONS: Final[RuleOptions] = MappingProxyType({})


def refuse_unacknowledged(network: Network, options: RuleOptions = NO_OPTIONS) -> None:
    """Raises RefusedError [network-forbidden] for each rule that stands for more than it acknowledges."""
    refuse_found(((it, word, why) for it in network.rules for word, why in _risks(it)), options)


def refuse_found(found: Iterator[tuple[NetworkRule, Acknowledgement | None, str]], options: RuleOptions) -> None:
    """Raises RefusedError [network-forbidden] for what rules don't acknowledge, with why; None: no word helps."""
    reasons = [
        Reason(
            ReasonCode.NETWORK_FORBIDDEN,
            f"the rule {it.id}",
            f"{why} [{word}]" if word else why,
            _hint(it, word, options.get(it.id, f"--allow {it.typed}")),
        )
        for it, word, why in found
        if word is None or word not in it.acknowledged
    ]
    if reasons:
        raise RefusedError(*reasons)


def _risks(rule: NetworkRule) -> Iterator[tuple[Acknowledgement | None, str]]:
    if rule.action is Action.DENY:
        return
    if host_kind(rule.host) is HostKind.ALL:
        yield Acknowledgement.ALL_HOSTS, "it allows every host that there is"
    if is_private_name(rule.host):
        yield Acknowledgement.PRIVATE_ADDRESSES, f"{rule.host} is a name of a private network"
    if (covered := covered_range(rule.host)) is not None:
        yield from _risks_of_range(covered)


def _risks_of_range(covered: IPv4Network) -> Iterator[tuple[Acknowledgement | None, str]]:
    kinds = kinds_within(covered)
    if not kinds & _DIALED:
        yield None, f"{covered} has {' and '.join(sorted(kinds))} addresses alone, and none of them is dialed"
        return
    if covered.prefixlen < _SHORTEST:
        yield Acknowledgement.ALL_HOSTS, f"{covered} has {covered.num_addresses:,} addresses"
    if services := metadata_within(covered):
        named = ", ".join(f"{it.network.network_address} ({it.name})" for it in services[:3])
        yield Acknowledgement.METADATA, f"{covered} has addresses of a cloud's own services: {named}"
    if found := sorted(kinds & {AddressKind.PRIVATE, AddressKind.SHARED}):
        yield Acknowledgement.PRIVATE_ADDRESSES, f"{covered} has {' and '.join(found)} addresses"


def _hint(rule: NetworkRule, word: Acknowledgement | None, option: str) -> str:
    if word is None:
        return "leave it out; a port of the guest's own is reached with --publish"
    narrower = {
        Acknowledgement.ALL_HOSTS: "name each host: --allow https://api.example.com, or --allow tcp:192.0.2.7:22",
        Acknowledgement.PUBLIC_SUFFIX: f"name hosts below it, such as NAME{rule.host.removeprefix('*')}",
        Acknowledgement.PRIVATE_ADDRESSES: "name public hosts alone",
        Acknowledgement.METADATA: "name a range without them",
    }[word]
    return f"{narrower}; if this one is meant, the plan says so: {option},acknowledge={word}"
