"""The packet rules of a machine's network namespace, as nft's JSON (libnftables-json(5)); pure, and typed words alone.

1. A frame goes further if it comes from the guest's MAC and address, to the gateway's MAC, as IPv4 without options and
   not as a fragment. Everything else is dropped before the kernel looks at it: ARP, IPv6, VLANs, forged addresses.
2. To the gateway's own link: DNS; and where the plan publishes ports, the answers of connections into the guest, whose
   ports no socket listens on.
3. TCP to what is taken, synthetic addresses and listed ranges at the ports of their rules, is handed to the gateway's
   socket as it is, so that a port that no rule has is refused before there is a connection: by TPROXY, which keeps no
   table of connections that a guest could fill (docs/adr/0038).
4. All else is refused at once, so that a program in the guest needn't wait: TCP with a reset, UDP with "port
   unreachable", the rest with "administratively prohibited". So many of these in a second are told to the gateway,
   which says why (refused_packets.py).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Final

from mvmnix.network.host import namespace_setup as setup
from mvmnix.network.policy.decisions import Rules
from mvmnix.plan.network import Action, Network
from mvmnix.plan.network_hosts import host_kind

LINK: Final = IPv4Network(f"{setup.GATEWAY}/{setup.PREFIX}", strict=False)
#: Refused packets that are told in a second, and at once.
REFUSED_PER_SECOND: Final = 20
_TABLE: Final = "mvm"
#: Bits of the fragment field: the offset, and that more come (RFC 791, section 3.1).
_FRAGMENT: Final = 0x3FFF
#: Words of 4 bytes in a header without options.
_PLAIN: Final = 5


@dataclass(frozen=True, slots=True)
class Taken:
    """Addresses whose connections the gateway gets: at these ports, or at all of them where there are none."""

    network: IPv4Network
    ports: tuple[int, ...] = ()


def taken_by(network: Network) -> tuple[Taken, ...]:
    """What a plan's rules need: synthetic addresses at the ports of the names that have them, and listed addresses."""
    named = (Taken(it, tuple(sorted(ports))) for ports, it in Rules(network).synthetic_networks.items())
    literal = [it for it in network.rules if it.action is Action.ALLOW and host_kind(it.host).is_literal]
    listed = (Taken(IPv4Network(it.host), (it.port,)) for it in literal if it.port is not None)
    return tuple(dict.fromkeys((*named, *listed)))


def ruleset(taken: Sequence[Taken], *, inbound: bool) -> bytes:
    """The rules for connections to these, and `inbound` ones into the guest."""
    return json.dumps({"nftables": [*_frames(), *_packets(taken, inbound=inbound)]}).encode()


def _frames() -> list[object]:
    conditions = (
        _match(_field("ether", "saddr"), setup.GUEST_MAC),
        _match(_field("ether", "daddr"), setup.GATEWAY_MAC),
        _match({"meta": {"key": "protocol"}}, "ip"),
        _match(_field("ip", "hdrlength"), _PLAIN),
        _match({"&": [_field("ip", "frag-off"), _FRAGMENT]}, 0),
        _match(_field("ip", "saddr"), setup.GUEST),
    )
    table = {"family": "netdev", "table": _TABLE, "chain": "frames"}
    hook = {"type": "filter", "hook": "ingress", "dev": setup.DEVICE, "prio": 0, "policy": "drop"}
    return [  # 1
        {"add": {"table": {"family": "netdev", "name": _TABLE}}},
        {"add": {"chain": {"family": "netdev", "table": _TABLE, "name": "frames", **hook}}},
        {"add": {"rule": {**table, "expr": [*conditions, {"accept": None}]}}},
    ]


def _packets(taken: Sequence[Taken], *, inbound: bool) -> list[object]:
    own, tcp, udp = _match(_field("ip", "daddr"), setup.GATEWAY), _protocol("tcp"), _protocol("udp")
    dns = [[own, _match(_field(name, "dport"), setup.DNS), {"accept": None}] for name in ("udp", "tcp")]
    answers = [own, _match(_field("tcp", "dport"), {"range": [setup.FIRST_LOCAL_PORT, 65535]}), {"accept": None}]
    link = _match(_field("ip", "daddr"), _prefix(LINK), "!=")
    handed = [{"tproxy": {"port": setup.PORT}}, {"accept": None}]
    given = [[link, _match(_field("ip", "daddr"), _prefix(it.network)), tcp, *_at(it.ports), *handed] for it in taken]
    refused = [
        [
            {"limit": {"rate": REFUSED_PER_SECOND, "per": "second", "burst": REFUSED_PER_SECOND}},
            {"log": {"group": setup.NFLOG_GROUP, "snaplen": setup.NFLOG_COPIED}},
        ],
        [tcp, {"reject": {"type": "tcp reset"}}],
        [udp, {"reject": {"type": "icmp", "expr": "port-unreachable"}}],
        [{"reject": {"type": "icmp", "expr": "admin-prohibited"}}],
    ]
    rules = (*dns, *([answers] if inbound else []), *given, *refused)  # 2, 3, 4
    arrives = {"type": "filter", "hook": "prerouting", "prio": -150, "policy": "drop"}
    forwarded = {"type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}
    return [
        {"add": {"table": {"family": "ip", "name": _TABLE}}},
        {"add": {"chain": {"family": "ip", "table": _TABLE, "name": "packets", **arrives}}},
        {"add": {"chain": {"family": "ip", "table": _TABLE, "name": "forwarded", **forwarded}}},
        *({"add": {"rule": {"family": "ip", "table": _TABLE, "chain": "packets", "expr": it}}} for it in rules),
    ]


def _field(protocol: str, name: str) -> dict[str, object]:
    return {"payload": {"protocol": protocol, "field": name}}


def _at(ports: Sequence[int]) -> list[dict[str, object]]:
    return [_match(_field("tcp", "dport"), {"set": list(ports)})] if ports else []


def _protocol(name: str) -> dict[str, object]:
    return _match({"meta": {"key": "l4proto"}}, name)


def _match(left: object, right: object, op: str = "==") -> dict[str, object]:
    return {"match": {"op": op, "left": left, "right": right}}


def _prefix(network: IPv4Network) -> dict[str, object]:
    return {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}
