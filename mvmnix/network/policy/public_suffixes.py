"""Finds wildcards over suffixes under which strangers register names (the Public Suffix List), when a plan is made.

The list is the one that the package publicsuffixlist carries, and as old as that: it knows `co.uk`, and suffixes of
companies such as those of hosted pages and buckets. It reads that file, and nothing else; no launch imports this.
"""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Final

import publicsuffixlist

from mvmnix.network.policy.risk_checks import NO_OPTIONS, RuleOptions, refuse_found
from mvmnix.plan.network import Acknowledgement, Action, Network, NetworkRule
from mvmnix.plan.network_hosts import HostKind, host_kind

#: So many suffixes beneath one are named.
_NAMED: Final = 3
_FILE: Final = "public_suffix_list.dat"


def refuse_public_suffixes(network: Network, options: RuleOptions = NO_OPTIONS) -> None:
    """Raises RefusedError [network-forbidden] for each wildcard over such a suffix without an acknowledgement."""
    found = (
        (it, Acknowledgement.PUBLIC_SUFFIX, why)
        for it in network.rules
        if it.action is Action.ALLOW and host_kind(it.host) is HostKind.WILDCARD
        for why in _strangers(it)
    )
    refuse_found(found, options)


def _strangers(rule: NetworkRule) -> Iterator[str]:
    """Why strangers may have names that the rule allows, if they may."""
    suffix = rule.host.removeprefix("*.")
    if _list().is_public(suffix):
        yield f"anyone can register names below {suffix}, a public suffix"
        return
    beneath = [it for it in _suffixes() if it.endswith(f".{suffix}")]
    if beneath:
        named = ", ".join(beneath[:_NAMED]) + (f" and {len(beneath) - _NAMED} more" if len(beneath) > _NAMED else "")
        yield f"anyone can register names below public suffixes that it allows: {named}"


@cache
def _list() -> publicsuffixlist.PublicSuffixList:
    return publicsuffixlist.PublicSuffixList()


@cache
def _suffixes() -> tuple[str, ...]:
    """The list's suffixes, sorted, those of a wildcard without its `*.`: `*.ck` makes all of `ck` one."""
    text = files(publicsuffixlist).joinpath(_FILE).read_text("utf-8")
    rules = (line.split(" ")[0].strip() for line in text.splitlines())
    named = (it.removeprefix("*.") for it in rules if it and not it.startswith(("//", "!")))
    return tuple(sorted({it if it.isascii() else it.encode("idna").decode() for it in named}))
