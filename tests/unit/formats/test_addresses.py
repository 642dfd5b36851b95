"""What an address is: each range at its edges, each way in which IPv6 carries IPv4, each cloud's metadata service."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.formats.addresses import (
    METADATA,
    RANGES,
    AddressKind,
    AddressRange,
    carried_by,
    facts_of,
    is_address_text,
    is_public,
    kind_of,
    kinds_within,
    metadata_within,
)

K = AddressKind


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        *((one, K.PUBLIC) for one in ("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255")),
        *((one, K.PUBLIC) for one in ("126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "100.128.0.0")),
        *((one, K.PUBLIC) for one in ("172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0", "198.17.255.255")),
        *((one, K.PUBLIC) for one in ("198.20.0.0", "223.255.255.255", "168.63.129.15", "168.63.129.17")),
        *((one, K.UNSPECIFIED) for one in ("0.0.0.0", "0.255.255.255", "::")),
        *((one, K.PRIVATE) for one in ("10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0")),
        *((one, K.PRIVATE) for one in ("192.168.255.255", "fc00::", "fdff:ffff::1", "fd00:ec1::1", "fd00:ec3::1")),
        *((one, K.SHARED) for one in ("100.64.0.0", "100.127.255.255", "100.100.100.199", "100.100.100.201")),
        *((one, K.LOOPBACK) for one in ("127.0.0.0", "127.0.0.1", "127.255.255.255", "::1")),
        *((one, K.LINK_LOCAL) for one in ("169.254.0.0", "169.254.255.255", "169.254.169.253", "fe80::", "febf::1")),
        ("fe80::1%eth0", K.LINK_LOCAL),
        *((one, K.MULTICAST) for one in ("224.0.0.0", "239.255.255.255", "ff00::", "ff02::1", "ffff::1")),
        *((one, K.DOCUMENTATION) for one in ("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1")),
        *((one, K.BENCHMARK) for one in ("198.18.0.0", "198.19.255.255", "2001:2::1")),
        *((one, K.RESERVED) for one in ("192.0.0.1", "192.0.0.9", "192.0.0.170", "192.88.99.1", "240.0.0.0")),
        *((one, K.RESERVED) for one in ("255.255.255.255", "fec0::1", "5f00::1", "100::1", "100:0:0:1::1", "4000::1")),
        *((one, K.RESERVED) for one in ("200::1", "e000::1", "2001:10::1", "2001:20::1", "2001:1::1", "fbff::1")),
        *((one, K.PUBLIC) for one in ("2000::", "2001:200::1", "2606:4700::1111", "2a00::1", "3fff:1000::1")),
    ],
)  # fmt: skip
def test_what_an_address_is(address: str, kind: AddressKind) -> None:
    assert kind_of(address) is kind
    assert is_public(address) is (kind is K.PUBLIC)


@pytest.mark.parametrize(
    ("address", "kind", "carried"),
    [
        # mapped
        ("::ffff:8.8.8.8", K.PUBLIC, "8.8.8.8"),
        ("::ffff:10.0.0.1", K.PRIVATE, "10.0.0.1"),
        ("::ffff:127.0.0.1", K.LOOPBACK, "127.0.0.1"),
        ("::ffff:0.0.0.0", K.UNSPECIFIED, "0.0.0.0"),
        ("::ffff:169.254.169.254", K.METADATA, "169.254.169.254"),
        ("::ffff:168.63.129.16", K.METADATA, "168.63.129.16"),
        # compatible, translated: never given out, whatever they carry
        ("::8.8.8.8", K.RESERVED, "8.8.8.8"),
        ("::127.0.0.1", K.RESERVED, "127.0.0.1"),
        ("::169.254.169.254", K.METADATA, "169.254.169.254"),
        ("::ffff:0:8.8.8.8", K.RESERVED, "8.8.8.8"),
        ("::ffff:0:169.254.169.254", K.METADATA, "169.254.169.254"),
        # NAT64
        ("64:ff9b::808:808", K.PUBLIC, "8.8.8.8"),
        ("64:ff9b::a00:1", K.PRIVATE, "10.0.0.1"),
        ("64:ff9b::6440:1", K.SHARED, "100.64.0.1"),
        ("64:ff9b::a9fe:a9fe", K.METADATA, "169.254.169.254"),
        ("64:ff9b:1::808:808", K.RESERVED, "8.8.8.8"),
        ("64:ff9b:1::a9fe:a9fe", K.METADATA, "169.254.169.254"),
        ("64:ff9b:1:a9fe:a9:fe00::", K.METADATA, "169.254.169.254"),
        ("64:ff9b:1:a9fe:ffa9:fe00::", K.METADATA, "169.254.169.254"),
        ("64:ff9b:1:a9:fe:a9fe::", K.METADATA, "169.254.169.254"),
        ("64:ff9b:1:0:a9:fea9:fe00:0", K.METADATA, "169.254.169.254"),
        # 6to4
        ("2002:808:808::1", K.PUBLIC, "8.8.8.8"),
        ("2002:7f00:1::1", K.LOOPBACK, "127.0.0.1"),
        ("2002:a9fe:a9fe::1", K.METADATA, "169.254.169.254"),
        # Teredo: the client, its bits turned round
        ("2001:0:808:808::f7f7:f7f7", K.PUBLIC, "8.8.8.8"),
        ("2001:0:a00:1::f7f7:f7f7", K.PUBLIC, "8.8.8.8"),
        ("2001:0:808:808::f5ff:fffe", K.PRIVATE, "10.0.0.1"),
        ("2001:0:808:808::5601:5601", K.METADATA, "169.254.169.254"),
        # ISATAP, under any prefix
        ("2606:4700::5efe:8.8.8.8", K.PUBLIC, "8.8.8.8"),
        ("2606:4700::200:5efe:8.8.8.8", K.PUBLIC, "8.8.8.8"),
        ("2606:4700::5efe:10.0.0.1", K.PRIVATE, "10.0.0.1"),
        ("2606:4700::200:5efe:192.168.1.1", K.PRIVATE, "192.168.1.1"),
        ("2606:4700::5efe:169.254.169.254", K.METADATA, "169.254.169.254"),
        ("fe80::5efe:8.8.8.8", K.LINK_LOCAL, "8.8.8.8"),
        # one in the other: ISATAP in 6to4
        ("2002:808:808::5efe:10.0.0.1", K.PRIVATE, "10.0.0.1"),
        ("2002:808:808::5efe:168.63.129.16", K.METADATA, "168.63.129.16"),
    ],
)
def test_what_an_address_of_ipv6_carries(address: str, kind: AddressKind, carried: str) -> None:
    assert kind_of(address) is kind
    assert IPv4Address(carried) in carried_by(IPv6Address(address))


@pytest.mark.parametrize("address", ["::", "::1", "2606:4700::1111", "fe80::1", "::1:0:0"])
def test_most_addresses_carry_none(address: str) -> None:
    assert not list(carried_by(IPv6Address(address)))


@pytest.mark.parametrize(
    "address",
    [
        *("169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "100.100.100.200", "192.0.0.192"),
        *("169.254.0.23", "169.254.42.42", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe"),
        *("fd00:42::42", "fd00:a9fe:a9fe::1", "fe80::a9fe:a9fe", "fe80::a9fe:a9fe%eth0", "fd00:100::100:200"),
    ],
)
def test_a_metadata_service(address: str) -> None:
    assert kind_of(address) is K.METADATA


@pytest.mark.parametrize("service", METADATA, ids=lambda it: str(it.network))
def test_a_metadata_service_is_listed_once_and_has_neighbours_of_another_kind(service: AddressRange) -> None:
    assert [it for it in METADATA if it.network.overlaps(service.network)] == [service]
    assert kind_of(service.network[0] - 1) is not K.METADATA
    assert kind_of(service.network[-1] + 1) is not K.METADATA


@pytest.mark.parametrize("one", [*RANGES, *METADATA], ids=lambda it: str(it.network))
def test_a_range_has_a_name_and_a_source(one: AddressRange) -> None:
    assert one.name
    assert one.source
    assert facts_of(one.network[0]).source


def stricter(address: IPv4Address | IPv6Address) -> bool:
    """Whether Python's own tables, made of the same registries, see nothing against an address that is public here."""
    return address.is_global and not address.is_multicast


@given(st.ip_addresses(v=4))
def test_what_is_public_is_public_for_python_too(address: IPv4Address) -> None:
    former = ip_network("192.88.99.0/24"), ip_network("192.0.0.8/29")
    known = stricter(address) and kind_of(address) is not K.METADATA and not any(address in it for it in former)
    assert is_public(address) is known


@pytest.mark.parametrize("one", RANGES, ids=lambda it: str(it.network))
def test_the_edges_of_ranges_are_no_more_public_than_for_python(one: AddressRange) -> None:
    first, last = int(one.network[0]), int(one.network[-1])
    most = int(ip_network("0.0.0.0/0" if one.network.version == 4 else "::/0")[-1])
    for number in {first, last, max(first - 1, 0), min(last + 1, most)}:
        address = IPv4Address(number) if one.network.version == 4 else IPv6Address(number)
        if is_public(address) and not (isinstance(address, IPv6Address) and list(carried_by(address))):
            assert stricter(address)


@given(st.ip_addresses(v=6))
def test_any_ipv6_address_has_a_kind(address: IPv6Address) -> None:
    assert not is_public(address) or address in ip_network("2000::/3") or list(carried_by(address))


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0", "64:ff9b::", "2002::", "2001::", "2606::5efe:0:0"]))
def test_what_carries_an_address_is_not_more_public(address: IPv4Address, prefix: str) -> None:
    number = int(address)
    shifted = {"2002::": number << 80, "2001::": ~number & 0xFFFFFFFF}.get(prefix, number)
    carrying = IPv6Address(int(ip_address(prefix)) | shifted)
    assert kind_of(carrying) is kind_of(address)


@pytest.mark.parametrize("text", ["", "1.2.3", "0x7f.1", "2130706433", "example.com", "1.2.3.4/32", "01.2.3.4"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        kind_of(text)


@pytest.mark.parametrize(
    ("network", "kinds"),
    [
        ("8.8.8.0/24", {K.PUBLIC}),
        ("10.1.0.0/16", {K.PRIVATE}),
        ("169.254.0.0/16", {K.LINK_LOCAL, K.METADATA}),
        ("169.254.169.254/32", {K.METADATA}),
        ("169.254.1.0/24", {K.LINK_LOCAL}),
        ("168.0.0.0/8", {K.PUBLIC, K.METADATA}),
        ("100.0.0.0/8", {K.PUBLIC, K.SHARED, K.METADATA}),
        ("192.0.0.0/16", {K.PUBLIC, K.RESERVED, K.DOCUMENTATION, K.METADATA}),
        ("fc00::/7", {K.PRIVATE, K.METADATA}),
        ("fd00:ec2::100/120", {K.METADATA}),
        ("192.0.0.0/2", set(AddressKind) - {K.UNSPECIFIED, K.LOOPBACK, K.LINK_LOCAL, K.SHARED}),
        ("224.0.0.0/3", {K.MULTICAST, K.RESERVED}),
        ("224.0.0.0/4", {K.MULTICAST}),
        ("240.0.0.0/4", {K.RESERVED}),
        ("8.8.8.8/32", {K.PUBLIC}),
        ("0.0.0.0/0", set(AddressKind)),
    ],
)
def test_what_a_network_has(network: str, kinds: set[AddressKind]) -> None:
    assert kinds_within(ip_network(network)) == kinds


@given(st.ip_addresses(v=4), st.integers(0, 32), st.data())
def test_each_address_of_a_network_is_of_one_of_its_kinds(start: IPv4Address, bits: int, data: st.DataObject) -> None:
    network = IPv4Network((start, bits), strict=False)
    inside = data.draw(st.ip_addresses(network=network))
    assert kind_of(inside) in kinds_within(network)
    assert bool(metadata_within(network)) is (K.METADATA in kinds_within(network))


def test_the_services_within_a_network() -> None:
    assert [it.name for it in metadata_within(IPv4Network("168.63.0.0/16"))] == ["wire server"]
    assert metadata_within(IPv4Network("8.0.0.0/8")) == ()
    assert len(metadata_within(IPv6Network("::/0"))) + len(metadata_within(IPv4Network("0.0.0.0/0"))) == len(METADATA)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        *((host, True) for host in ("127.0.0.1", "127.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "0x")),
        *((host, True) for host in ("127.0.0.1.", "::1", "[::1]", "example.1", "1.2.3.4.5", "example.0xA", "[", "a:b")),
        *((host, False) for host in ("example.com", "1.example", "1e100.example", "0x.example", "a1", "0xg", "", ".")),
    ],
)
def test_a_host_that_is_written_as_an_address(host: str, address: bool) -> None:
    assert is_address_text(host) is address
