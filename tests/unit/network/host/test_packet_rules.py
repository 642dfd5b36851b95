"""The packet rules as nft gets them: what varies are addresses and ports, by type."""

import json
import subprocess
from ipaddress import IPv4Network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mvmnix.network.host.namespace import NFT
from mvmnix.network.host.packet_rules import Taken, ruleset, taken_by
from mvmnix.network.policy.decisions import SYNTHETIC
from mvmnix.plan.network import Network, parse_rules
from mvmnix.plan.network_endpoints import PublishedPort
from mvmnix.sandbox.trusted_executables import locate

_NETWORKS = st.builds(
    lambda address, bits: IPv4Network((address, bits), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32)
)
_TAKEN = st.lists(st.builds(Taken, _NETWORKS, st.lists(st.integers(1, 65535), max_size=3).map(tuple)), max_size=8)


def _texts(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {*value, *(text for each in value.values() for text in _texts(each))}
    if isinstance(value, list):
        return {text for each in value for text in _texts(each)}
    return {value} if isinstance(value, str) else set()


@given(_TAKEN, st.booleans())
def test_nothing_but_addresses_and_ports_varies(taken: list[Taken], inbound: bool) -> None:
    constants = _texts(json.loads(ruleset([Taken(SYNTHETIC, (1,))], inbound=True)))
    found = _texts(json.loads(ruleset(taken, inbound=inbound)))
    assert found - constants <= {str(it.network.network_address) for it in taken}


def test_nft_takes_them() -> None:
    """Checked, and not put in force: in a namespace of its own, as the user who runs the tests."""
    rules = ruleset([Taken(SYNTHETIC), Taken(IPv4Network("192.0.2.0/24"), (22, 25))], inbound=True)
    nft = ("/usr/bin/unshare", "--user", "--map-root-user", "--net", locate(NFT), "--check", "--json", "--file", "-")
    done = subprocess.run(nft, input=rules, capture_output=True, check=False)
    assert b"No such file or directory" in done.stderr or done.returncode == 0, done.stderr  # the device isn't there


def test_a_plans_listed_addresses_are_taken_at_their_ports_alone() -> None:
    rules = parse_rules(
        ["https://a.example.com", "tcp:192.0.2.0/24:22", "tcp:192.0.2.9:80", "tcp:a.example.com:9"], ["10.0.0.0/8"]
    )
    assert taken_by(Network(rules)) == (
        Taken(IPv4Network("198.18.0.0/16"), (9, 443)),
        Taken(IPv4Network("192.0.2.0/24"), (22,)),
        Taken(IPv4Network("192.0.2.9/32"), (80,)),
    )


def test_names_are_taken_at_their_own_ports_alone() -> None:
    allowed = ["https://*.example.com", "tcp:db.example.com:5432", "http://a.example.com", "https://b.example.com"]
    rules = parse_rules([*allowed, "https://other.example.org"], ["c.example.com"])
    assert taken_by(Network(rules)) == (
        Taken(IPv4Network("198.18.0.0/18"), (80, 443)),
        Taken(IPv4Network("198.18.64.0/18"), (443,)),
        Taken(IPv4Network("198.18.128.0/18"), (443, 5432)),
    )
    assert taken_by(Network((), (PublishedPort.parse("8080:80"),))) == ()
