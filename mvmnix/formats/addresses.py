"""Says what an IP address is: public, or which of the kinds that a name of the Internet may not lead to; pure.

1. An address of a cloud's own services is METADATA, whatever else it is. So is any address that carries one of these.
2. Of the rest, the narrowest range of IANA's registries that has it says its kind. IPv6 outside of 2000::/3 is reserved
   unless a range says otherwise: it isn't given out.
3. An IPv6 address that carries an IPv4 address (mapped, NAT64, 6to4, Teredo, ISATAP) is public only if both are.

Sources are the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890) and the RFC that each range names. A
NAT64 prefix that an operator took from its own addresses can't be told from them, so what it carries is not seen.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

type Address = IPv4Address | IPv6Address
type Network = IPv4Network | IPv6Network


class AddressKind(StrEnum):
    """What an address is for."""

    PUBLIC = "public"
    PRIVATE = "private"
    SHARED = "shared"
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    UNSPECIFIED = "unspecified"
    MULTICAST = "multicast"
    METADATA = "metadata"
    DOCUMENTATION = "documentation"
    BENCHMARK = "benchmark"
    RESERVED = "reserved"


@dataclass(frozen=True, slots=True)
class AddressRange:
    """Addresses of one kind, with what they are called and the document that says so."""

    network: Network
    kind: AddressKind
    name: str
    source: str


@dataclass(frozen=True, slots=True)
class AddressFacts:
    """What an address is: its kind, and the range that decides it, by its name and source."""

    kind: AddressKind
    name: str
    source: str

    @property
    def public(self) -> bool:
        """Whether a name of the Internet may lead there."""
        return self.kind is AddressKind.PUBLIC


def _range(network: str, kind: AddressKind, name: str, source: str) -> AddressRange:
    return AddressRange(ip_network(network), kind, name, source)


#: Services that clouds offer their machines at a fixed address: what reaches one can have the machine's credentials.
METADATA: Final = tuple(
    _range(network, AddressKind.METADATA, name, source)
    for network, name, source in (
        (
            "169.254.169.254/32",
            "instance metadata",
            "AWS, Azure, Google Cloud (metadata.google.internal), OpenStack, …",
        ),
        ("169.254.170.2/32", "task credentials", "Amazon ECS Developer Guide, Task IAM role"),
        ("169.254.170.23/32", "pod credentials", "Amazon EKS User Guide, EKS Pod Identity Agent"),
        ("fd00:ec2::/32", "instance metadata (::254), pod credentials (::23)", "AWS, EC2 and EKS User Guides"),
        ("168.63.129.16/32", "wire server", "Azure, What is IP address 168.63.129.16"),
        ("fd20:ce::254/128", "instance metadata", "Google Cloud, About VM metadata (IPv6)"),
        ("100.100.100.200/32", "instance metadata", "Alibaba Cloud, ECS User Guide, Instance metadata"),
        ("fd00:100::100:200/128", "instance metadata", "cloud-init, Alibaba Cloud data source (IPv6)"),
        ("192.0.0.192/32", "instance metadata", "Oracle Cloud Infrastructure Classic"),
        ("fd00:c1::a9fe:a9fe/128", "instance metadata", "Oracle Cloud Infrastructure (IPv6)"),
        ("169.254.0.23/32", "instance metadata", "Tencent Cloud, CVM (metadata.tencentyun.com)"),
        ("169.254.42.42/32", "instance metadata", "cloud-init, Scaleway data source"),
        ("fd00:42::42/128", "instance metadata", "cloud-init, Scaleway data source (IPv6)"),
        ("fd00:a9fe:a9fe::1/128", "instance metadata", "cloud-init, Akamai data source (IPv6)"),
        ("fe80::a9fe:a9fe/128", "instance metadata", "OpenStack Nova, Metadata service (IPv6)"),
    )
)

_MAPPED: Final = ip_network("::ffff:0:0/96")
_TRANSLATED: Final = ip_network("::ffff:0:0:0/96")
_COMPATIBLE: Final = ip_network("::/96")
_NAT64: Final = ip_network("64:ff9b::/96")
_NAT64_LOCAL: Final = ip_network("64:ff9b:1::/48")
_TEREDO: Final = ip_network("2001::/32")
_SIX_TO_FOUR: Final = ip_network("2002::/16")
#: The 32 bits before the IPv4 address in an interface identifier of ISATAP, with and without the bit for "global".
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})

#: What isn't public, and the blocks of which that carry public addresses; the narrowest range counts.
RANGES: Final = (
    _range("0.0.0.0/0", AddressKind.PUBLIC, "unicast", "IANA IPv4 Address Space Registry"),
    _range("0.0.0.0/8", AddressKind.UNSPECIFIED, "this network", "RFC 791, 3.2"),
    _range("10.0.0.0/8", AddressKind.PRIVATE, "private use", "RFC 1918"),
    _range("100.64.0.0/10", AddressKind.SHARED, "shared address space (carrier-grade NAT)", "RFC 6598"),
    _range("127.0.0.0/8", AddressKind.LOOPBACK, "loopback", "RFC 1122, 3.2.1.3"),
    _range("169.254.0.0/16", AddressKind.LINK_LOCAL, "link local", "RFC 3927"),
    _range("172.16.0.0/12", AddressKind.PRIVATE, "private use", "RFC 1918"),
    _range("192.0.0.0/24", AddressKind.RESERVED, "IETF protocol assignments", "RFC 6890, 2.1"),
    _range("192.0.2.0/24", AddressKind.DOCUMENTATION, "documentation (TEST-NET-1)", "RFC 5737"),
    _range("192.88.99.0/24", AddressKind.RESERVED, "former 6to4 relay anycast", "RFC 7526"),
    _range("192.168.0.0/16", AddressKind.PRIVATE, "private use", "RFC 1918"),
    _range("198.18.0.0/15", AddressKind.BENCHMARK, "benchmarking", "RFC 2544"),
    _range("198.51.100.0/24", AddressKind.DOCUMENTATION, "documentation (TEST-NET-2)", "RFC 5737"),
    _range("203.0.113.0/24", AddressKind.DOCUMENTATION, "documentation (TEST-NET-3)", "RFC 5737"),
    _range("224.0.0.0/4", AddressKind.MULTICAST, "multicast", "RFC 5771"),
    _range("240.0.0.0/4", AddressKind.RESERVED, "reserved", "RFC 1112, 4"),
    _range("255.255.255.255/32", AddressKind.RESERVED, "limited broadcast", "RFC 919, 7"),
    _range("::/0", AddressKind.RESERVED, "not given out", "IANA IPv6 Address Space Registry"),
    _range("2000::/3", AddressKind.PUBLIC, "global unicast", "RFC 3587"),
    AddressRange(_COMPATIBLE, AddressKind.RESERVED, "IPv4-compatible", "RFC 4291, 2.5.5.1"),
    _range("::/128", AddressKind.UNSPECIFIED, "unspecified", "RFC 4291, 2.5.2"),
    _range("::1/128", AddressKind.LOOPBACK, "loopback", "RFC 4291, 2.5.3"),
    AddressRange(_MAPPED, AddressKind.PUBLIC, "IPv4-mapped", "RFC 4291, 2.5.5.2"),
    AddressRange(_TRANSLATED, AddressKind.RESERVED, "IPv4-translated", "RFC 2765, 2.1"),
    AddressRange(_NAT64, AddressKind.PUBLIC, "NAT64", "RFC 6052, 2.1"),
    AddressRange(_NAT64_LOCAL, AddressKind.RESERVED, "NAT64 of local use", "RFC 8215"),
    _range("100::/64", AddressKind.RESERVED, "discard only", "RFC 6666"),
    _range("2001::/23", AddressKind.RESERVED, "IETF protocol assignments", "RFC 2928"),
    AddressRange(_TEREDO, AddressKind.PUBLIC, "Teredo", "RFC 4380, 4"),
    _range("2001:2::/48", AddressKind.BENCHMARK, "benchmarking", "RFC 5180"),
    _range("2001:db8::/32", AddressKind.DOCUMENTATION, "documentation", "RFC 3849"),
    AddressRange(_SIX_TO_FOUR, AddressKind.PUBLIC, "6to4", "RFC 3056, 2"),
    _range("3fff::/20", AddressKind.DOCUMENTATION, "documentation", "RFC 9637"),
    _range("5f00::/16", AddressKind.RESERVED, "segment routing (SRv6)", "RFC 9602"),
    _range("fc00::/7", AddressKind.PRIVATE, "unique local", "RFC 4193"),
    _range("fe80::/10", AddressKind.LINK_LOCAL, "link local", "RFC 4291, 2.5.6"),
    _range("fec0::/10", AddressKind.RESERVED, "former site local", "RFC 3879"),
    _range("ff00::/8", AddressKind.MULTICAST, "multicast", "RFC 4291, 2.7"),
)
_NARROWEST_FIRST: Final = tuple(sorted(RANGES, key=lambda it: -it.network.prefixlen))

#: The last label of what is read as an IPv4 address: inet_aton(3); WHATWG, URL, "ends in a number".
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


def facts_of(address: Address | str) -> AddressFacts:
    """What an address is; a text may have a zone, as in `fe80::1%eth0`. Raises ValueError for what is no address.

    >>> facts_of("64:ff9b::a9fe:a9fe")
    AddressFacts(kind=<AddressKind.METADATA: 'metadata'>, name='instance metadata', \
source='AWS, Azure, Google Cloud (metadata.google.internal), OpenStack, …')
    """
    parsed = _without_zone(address)
    carried = tuple(carried_by(parsed)) if isinstance(parsed, IPv6Address) else ()
    # 1. metadata
    for one in (parsed, *carried):
        for service in METADATA:
            if one in service.network:
                return AddressFacts(service.kind, service.name, service.source)
    # 2. the registries
    own = _range_of(parsed)
    facts = AddressFacts(own.kind, own.name, own.source)
    # 3. what it carries
    for inside in map(_range_of, carried if facts.public else ()):
        if inside.kind is not AddressKind.PUBLIC:
            return AddressFacts(inside.kind, f"{inside.name}, as {own.name}", f"{own.source}; {inside.source}")
    return facts


def kind_of(address: Address | str) -> AddressKind:
    """The kind of an address. Raises ValueError for what is no address.

    >>> kind_of("2001:db8::1"), kind_of("::ffff:10.0.0.1"), kind_of("2606:4700::1111")
    (<AddressKind.DOCUMENTATION: 'documentation'>, <AddressKind.PRIVATE: 'private'>, <AddressKind.PUBLIC: 'public'>)
    """
    return facts_of(address).kind


def is_public(address: Address | str) -> bool:
    """Whether a name of the Internet may lead to an address. Raises ValueError for what is no address."""
    return facts_of(address).public


def kinds_within(network: Network) -> frozenset[AddressKind]:
    """The kinds of the addresses of a network. What IPv6 addresses carry is not looked at.

    >>> sorted(kinds_within(ip_network("169.254.0.0/16")))
    [<AddressKind.LINK_LOCAL: 'link-local'>, <AddressKind.METADATA: 'metadata'>]
    """
    if any(_within(network, it.network) for it in METADATA):
        return frozenset({AddressKind.METADATA})
    inside = [it for it in (*RANGES, *METADATA) if _within(it.network, network)]
    around = next(it for it in _NARROWEST_FIRST if _within(network, it.network))
    outermost = (it.network for it in inside if sum(_within(it.network, other.network) for other in inside) == 1)
    covered = sum(it.num_addresses for it in outermost) == network.num_addresses
    return frozenset({it.kind for it in inside} | (set() if covered else {around.kind}))


def metadata_within(network: Network) -> tuple[AddressRange, ...]:
    """The services of clouds that a network has an address of."""
    return tuple(it for it in METADATA if it.network.version == network.version and it.network.overlaps(network))


def is_address_text(host: str) -> bool:
    """Whether a host is written as an address, in any form that a resolver takes for one: not a name then.

    >>> [is_address_text(host) for host in ("127.1", "0x7f000001", "[::1]", "1.2.3.4.", "example.com", "3com.example")]
    [True, True, True, True, False, False]
    """
    return ":" in host or "[" in host or _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]) is not None


def carried_by(address: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for, or through which its packets go to where it leads."""
    bits = int(address)
    if any(address in network for network in (_MAPPED, _TRANSLATED, _NAT64)) or (address in _COMPATIBLE and bits > 1):
        yield IPv4Address(bits & 0xFFFFFFFF)
    elif address in _NAT64_LOCAL:
        yield from _translated_locally(bits)
    elif address in _SIX_TO_FOUR:
        yield IPv4Address(bits >> 80 & 0xFFFFFFFF)
    elif address in _TEREDO:  # the client's, its bits turned round; the server only helps to find it
        yield IPv4Address(~bits & 0xFFFFFFFF)
    if bits >> 32 & 0xFFFFFFFF in _ISATAP:  # RFC 5214, 6.1
        yield IPv4Address(bits & 0xFFFFFFFF)


def _translated_locally(bits: int) -> Iterator[IPv4Address]:
    """By RFC 6052, 2.2: a prefix of 96, 64, 56 or 48 bits, and the IPv4 address around the 8 bits from 64 on."""
    yield IPv4Address(bits & 0xFFFFFFFF)
    without = (bits >> 64 << 56) | (bits & ((1 << 56) - 1))
    for prefix in (64, 56, 48):
        yield IPv4Address(without >> 120 - prefix - 32 & 0xFFFFFFFF)


def _range_of(address: Address) -> AddressRange:
    return next(it for it in _NARROWEST_FIRST if address in it.network)


def _without_zone(address: Address | str) -> Address:
    parsed = ip_address(address) if isinstance(address, str) else address
    return IPv6Address(int(parsed)) if isinstance(parsed, IPv6Address) else parsed


def _within(inner: Network, outer: Network) -> bool:
    """Whether the whole of one network is part of another."""
    return inner.version == outer.version and inner[0] in outer and inner[-1] in outer
