"""Frames of a guest with raw sockets that have no road, and how the guest is told: rows for a real kernel's rules."""

import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from mvmnix.network.host.namespace_setup import FIRST_LOCAL_PORT, GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC, PORT
from tests.unit.network.raw_guest import (
    ACK,
    ARP,
    FIN,
    ICMP,
    IPV4,
    IPV6,
    PSH,
    RST,
    SCTP,
    SYN,
    TCP,
    UDP,
    checksum,
    echo,
    frame,
    mac,
    tcp,
    udp,
)
from tests.unit.network.raw_guest import ip as packet

#: Addresses that are global: of servers, and the host's own.
PUBLIC, OTHER, HOST, HOST6 = "93.184.216.34", "151.101.1.140", "185.199.108.9", "2a04:4e42::9"
#: An address that stands for a name; one of a private network; the MAC of all.
SYNTHETIC, PRIVATE, _ALL = "198.18.0.2", "10.0.0.7", "ff:ff:ff:ff:ff:ff"
#: How a packet is refused.
RESET, UNREACHABLE, PROHIBITED = "a reset", "port unreachable", "administratively prohibited"
#: A question that is refused each time: once it is, what was sent before it has been decided.
LAST = udp(GATEWAY, 54, b"last", own=40404)


@dataclass(frozen=True, slots=True)
class Probe:
    """A frame, and how the guest is told: dropped without a word where there is none.

    The kernel doesn't tell of errors of ICMP (RFC 1122, 3.2.2), or of what has no checksum of the kind it looks for.
    """

    tried: str
    frame: bytes
    told: str = ""


def _ip(tried: str, data: bytes, told: str = "") -> Probe:
    return Probe(tried, frame(data), told)


def _quic() -> bytes:
    """How QUIC begins: a long header of an Initial packet (RFC 9000, 17.2.2), filled up."""
    return (b"\xc3\0\0\0\1\x08" + os.urandom(8)).ljust(1200, b"\0")


def _icmp(kind: int, code: int, body: bytes, to: str = GATEWAY, source: str = GUEST) -> bytes:
    data = struct.pack(">BBH", kind, code, 0) + body
    return packet(data[:2] + struct.pack(">H", checksum(data)) + data[4:], to, protocol=ICMP, source=source)


def _arp(operation: int, source: str, to: str, hardware: str = GUEST_MAC, at: str = _ALL) -> bytes:
    head = struct.pack(">HHBBH", 1, IPV4, 6, 4, operation)
    return frame(head + mac(hardware) + socket.inet_aton(source) + bytes(6) + socket.inet_aton(to), kind=ARP, to=at)


def _ipv6(kind: int, data: bytes, to: str, source: str = "fe80::6d:76ff:fe6d:2", at: str = GATEWAY_MAC) -> bytes:
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, to)
    if kind == 58:
        pseudo = addresses + struct.pack(">II", len(data), kind)
        data = data[:2] + struct.pack(">H", checksum(pseudo + data)) + data[4:]
    return frame(struct.pack(">IHBB", 6 << 28, len(data), kind, 255) + addresses + data, kind=IPV6, to=at)


def _advertisement() -> bytes:
    """A router that offers itself, a prefix and a resolver (RFC 4861, 4.2; RFC 8106)."""
    prefix = struct.pack(">BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + socket.inet_pton(socket.AF_INET6, "2001:db8::")
    resolver = struct.pack(">BBHI", 25, 3, 0, 3600) + socket.inet_pton(socket.AF_INET6, "2001:db8::53")
    return struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix + resolver


_SEGMENT = tcp(SYNTHETIC, 443)[20:]
_QUESTION = udp(GATEWAY, 53)[20:]
_INNER = udp(PUBLIC, 53)
_ROUTE = socket.inet_aton(PUBLIC)
_ROUTERS, _NODES = "33:33:00:00:00:02", "33:33:00:00:00:01"
PROBES = [
    # ICMP and other protocols
    _ip("ping a server", echo(PUBLIC), PROHIBITED),
    _ip("ping the host", echo(HOST), PROHIBITED),
    _ip("ping an allowed name", echo(SYNTHETIC), PROHIBITED),
    _ip("ping the gateway", echo(GATEWAY), PROHIBITED),
    _ip("data in pings", _icmp(8, 0, bytes(4) + os.urandom(1000), PUBLIC), PROHIBITED),
    _ip("a ping that is an answer", _icmp(0, 0, bytes(4) + os.urandom(100), PUBLIC), PROHIBITED),
    _ip("ICMP redirect", _icmp(5, 1, _ROUTE + tcp(PUBLIC, 443)[:28])),
    _ip("ICMP redirect, as the gateway", _icmp(5, 1, _ROUTE + tcp(PUBLIC, 443)[:28], GUEST, GATEWAY)),
    _ip("ICMP, fragmentation needed", _icmp(3, 4, struct.pack(">HH", 0, 68) + tcp(GUEST, 443)[:28])),
    _ip("ICMP, port unreachable", _icmp(3, 3, bytes(4) + udp(GUEST, 53)[:28])),
    _ip("ICMP, a question for the time", _icmp(13, 0, bytes(16), PUBLIC), PROHIBITED),
    _ip("ICMP, router advertisement", _icmp(9, 0, b"\1\2\7\x08" + _ROUTE + bytes(4))),
    _ip("SCTP", packet(bytes(20), PUBLIC, protocol=SCTP), PROHIBITED),
    _ip("GRE with a packet in it", packet(b"\0\0\x08\0" + _INNER, PUBLIC, protocol=47), PROHIBITED),
    _ip("a packet in a packet", packet(_INNER, PUBLIC, protocol=4)),
    _ip("a packet in a packet to the gateway", packet(_INNER, GATEWAY, protocol=4)),
    _ip("IPv6 in IPv4", packet(bytes(40), PUBLIC, protocol=41), PROHIBITED),
    _ip("ESP", packet(os.urandom(40), PUBLIC, protocol=50), PROHIBITED),
    _ip("IGMP", packet(b"\x16\0\xe9\xff" + bytes(4), PUBLIC, protocol=2), PROHIBITED),
    _ip("UDP-Lite", packet(bytes(16), PUBLIC, protocol=136), PROHIBITED),
    _ip("a protocol without a number", packet(os.urandom(40), PUBLIC, protocol=255)),
    # UDP
    _ip("DNS, to another resolver", udp("8.8.8.8", 53), UNREACHABLE),
    _ip("DNS, to the host's resolver", udp(HOST, 53), UNREACHABLE),
    _ip("QUIC", udp(PUBLIC, 443, _quic()), UNREACHABLE),
    _ip("QUIC to an allowed name", udp(SYNTHETIC, 443, _quic()), UNREACHABLE),
    _ip("time (NTP)", udp(PUBLIC, 123, b"\x23" + bytes(47)), UNREACHABLE),
    _ip("WireGuard", udp(PUBLIC, 51820, b"\1\0\0\0" + os.urandom(144)), UNREACHABLE),
    _ip("a datagram with a port of 0", udp(PUBLIC, 0), UNREACHABLE),
    _ip(
        "a leading zero checksum",
        packet(struct.pack(">HHHH", 40000, 53, 12, 0) + b"data", PUBLIC, protocol=UDP),
        UNREACHABLE,
    ),
    _ip("a service of the host's by the gateway's address", udp(GATEWAY, 123), UNREACHABLE),
    _ip("DHCP at the gateway", udp(GATEWAY, 67, bytes(240)), UNREACHABLE),
    Probe("DHCP to all", frame(udp("255.255.255.255", 67, bytes(240), source="0.0.0.0"), to=_ALL)),
    Probe("mDNS", frame(udp("224.0.0.251", 5353, bytes(12)), to="01:00:5e:00:00:fb")),
    Probe("SSDP", frame(udp("239.255.255.250", 1900, b"M-SEARCH * HTTP/1.1\r\n\r\n"), to="01:00:5e:7f:ff:fa")),
    Probe("NetBIOS, to all of the link", frame(udp("198.19.255.3", 137, bytes(50)), to=_ALL)),
    _ip("to all of the link, by the gateway's MAC", udp("198.19.255.3", 137, bytes(50)), UNREACHABLE),
    # TCP beside what is taken
    _ip("a server that no rule names", tcp(OTHER, 443), RESET),
    _ip("another port of an address that a rule names", tcp(PUBLIC, 8), RESET),
    _ip("the host's address", tcp(HOST, 22), RESET),
    _ip("the metadata service", tcp("169.254.169.254", 80), RESET),
    _ip("a private address", tcp(PRIVATE, 22), RESET),
    _ip("the gateway's address", tcp(GATEWAY, 22), RESET),
    _ip("the gateway's own port for connections", tcp(GATEWAY, PORT), RESET),
    _ip("ports of connections into a guest", tcp(GATEWAY, FIRST_LOCAL_PORT), RESET),
    _ip("DNS by TCP, to another resolver", tcp("8.8.8.8", 53), RESET),
    _ip("DNS over TLS", tcp("8.8.8.8", 853), RESET),
    _ip("data in a SYN (TCP fast open)", tcp(OTHER, 443, data=b"from the guest"), RESET),
    _ip("a segment of no connection", tcp(OTHER, 443, flags=ACK | PSH, data=b"from the guest"), RESET),
    _ip("SYN and FIN", tcp(OTHER, 443, flags=SYN | FIN), RESET),
    _ip("no flags", tcp(OTHER, 443, flags=0), RESET),
    _ip("all flags but RST", tcp(OTHER, 443, flags=0x3B), RESET),
    _ip("a reset", tcp(OTHER, 443, flags=RST)),
    _ip("a segment of no connection to what is taken", tcp(SYNTHETIC, 443, flags=ACK, data=b"from the guest"), RESET),
    Probe("a connection to all", frame(tcp("255.255.255.255", 80), to=_ALL)),
    _ip("a connection to a group", tcp("224.0.0.1", 80), RESET),
    # forged sources
    _ip("from the gateway's address", tcp(SYNTHETIC, 443, source=GATEWAY)),
    _ip("from the host's address", tcp(SYNTHETIC, 443, source=HOST)),
    _ip("from a server's address", udp(GATEWAY, 53, source=PUBLIC)),
    _ip("from loopback", udp(GATEWAY, 53, source="127.0.0.1")),
    _ip("from no address", udp(GATEWAY, 53, source="0.0.0.0")),
    _ip("from another machine's synthetic address", tcp(SYNTHETIC, 443, source="198.18.0.9")),
    _ip("from a group", udp(GATEWAY, 53, source="224.0.0.1")),
    Probe("from the gateway's MAC", frame(tcp(SYNTHETIC, 443), source=GATEWAY_MAC)),
    Probe("from another MAC", frame(tcp(SYNTHETIC, 443), source="02:00:00:00:00:09")),
    Probe("from the MAC of all", frame(tcp(SYNTHETIC, 443), source=_ALL)),
    Probe("to another MAC", frame(tcp(SYNTHETIC, 443), to="02:00:00:00:00:09")),
    _ip("to loopback", tcp("127.0.0.1", 80)),
    _ip("to no address", tcp("0.0.0.0", 80), RESET),
    # ARP
    Probe("ARP: who has the gateway", _arp(1, GUEST, GATEWAY)),
    Probe("ARP: I am the gateway", _arp(2, GATEWAY, GATEWAY)),
    Probe("ARP: the gateway has the guest's MAC", _arp(2, GATEWAY, GUEST, GUEST_MAC, GATEWAY_MAC)),
    Probe("ARP: I have a server's address", _arp(2, PUBLIC, GATEWAY, GUEST_MAC, GATEWAY_MAC)),
    Probe("ARP: who has a private address", _arp(1, GUEST, PRIVATE)),
    # IPv6
    Probe("IPv6: a router that offers itself", _ipv6(58, _advertisement(), "ff02::1", at=_NODES)),
    Probe("IPv6: who routes", _ipv6(58, struct.pack(">BBHI", 133, 0, 0, 0), "ff02::2", at=_ROUTERS)),
    Probe(
        "IPv6: I have the host's address",
        _ipv6(58, struct.pack(">BBHI", 136, 0, 0, 0x20000000) + socket.inet_pton(socket.AF_INET6, HOST6), "ff02::1"),
    ),
    Probe("IPv6: ping all", _ipv6(58, struct.pack(">BBHHH", 128, 0, 0, 1, 1), "ff02::1", at=_NODES)),
    Probe("IPv6: the host's address", _ipv6(6, _SEGMENT, HOST6, "2001:db8::2")),
    Probe("IPv6: a server", _ipv6(17, udp(PUBLIC, 53)[20:], "2606:4700::1111", "2001:db8::2")),
    Probe("IPv6: a mapped address", _ipv6(6, _SEGMENT, f"::ffff:{PUBLIC}", f"::ffff:{GUEST}")),
    Probe("IPv6: a routing header", _ipv6(43, b"\6\2\0\1" + bytes(20) + _SEGMENT, HOST6, "2001:db8::2")),
    Probe("IPv6: a fragment", _ipv6(44, b"\6\0\0\1" + bytes(4) + _SEGMENT, HOST6, "2001:db8::2")),
    Probe("IPv6: a redirect", _ipv6(58, struct.pack(">BBHI", 137, 0, 0, 0) + bytes(32), "ff02::1")),
    # fragments and options
    _ip("a first fragment", packet(_SEGMENT, SYNTHETIC, protocol=TCP, fragment=0x2000)),
    _ip("a later fragment", packet(_SEGMENT, SYNTHETIC, protocol=TCP, fragment=1)),
    _ip("a fragment that ends past 64 KiB", packet(os.urandom(64), PUBLIC, protocol=ICMP, fragment=0x1FFF)),
    _ip("a fragment of 8 bytes", packet(_SEGMENT[:8], SYNTHETIC, protocol=TCP, fragment=0x2000)),
    _ip("loose source routing", packet(_SEGMENT, SYNTHETIC, protocol=TCP, options=b"\x83\7\4" + _ROUTE + b"\0")),
    _ip("strict source routing", packet(_SEGMENT, GATEWAY, protocol=TCP, options=b"\x89\7\4" + _ROUTE + b"\0")),
    _ip("record route", packet(_SEGMENT, SYNTHETIC, protocol=TCP, options=b"\7\7\4" + bytes(5))),
    _ip("a time stamp", packet(_SEGMENT, SYNTHETIC, protocol=TCP, options=b"\x44\x08\5\0" + bytes(4))),
    _ip("router alert", packet(_SEGMENT, SYNTHETIC, protocol=TCP, options=b"\x94\4\0\0")),
    # other frames
    Probe("a VLAN's tag", frame(struct.pack(">HH", 1, IPV4) + tcp(SYNTHETIC, 443), kind=0x8100)),
    Probe("two VLANs' tags", frame(struct.pack(">HHHH", 1, 0x8100, 1, IPV4) + tcp(SYNTHETIC, 443), kind=0x88A8)),
    Probe("MPLS", frame(b"\0\0\x11\xff" + tcp(PUBLIC, 443), kind=0x8847)),
    Probe("PPPoE", frame(b"\x11\x09\0\0\0\4\1\1\0\0", kind=0x8863, to=_ALL)),
    Probe("EAP over LAN", frame(b"\1\1\0\0", kind=0x888E, to="01:80:c2:00:00:03")),
    Probe("LLDP", frame(b"\2\7\4" + mac(GUEST_MAC), kind=0x88CC, to="01:80:c2:00:00:0e")),
    Probe("spanning tree", frame(b"\x42\x42\3" + bytes(35), kind=38, to="01:80:c2:00:00:00")),
    Probe("a MAC's control frame (pause)", frame(b"\0\1\xff\xff", kind=0x8808, to="01:80:c2:00:00:01")),
    Probe("IPv4 of another version", frame(b"\x65" + tcp(SYNTHETIC, 443)[1:])),
    Probe("IPv4 with a header that is too short", frame(b"\x44" + tcp(SYNTHETIC, 443)[1:])),
    Probe("IPv4 that is longer than its frame", frame(b"\x45\0\xff\xff" + tcp(SYNTHETIC, 443)[4:])),
    Probe("IPv4 with a wrong checksum", frame(tcp(OTHER, 443)[:10] + b"\0\0" + tcp(OTHER, 443)[12:])),
    Probe("IPv4 that is shorter than its header", frame(b"\x45\0\0\x14")),
    Probe("IPv4 that is cut", frame(tcp(SYNTHETIC, 443)[:30])),
    Probe("record route of a question", frame(packet(_QUESTION, GATEWAY, protocol=UDP, options=b"\7\7\4" + bytes(5)))),
    Probe("nothing", frame(b"")),
]


def refusals(frames: Iterable[bytes]) -> list[str]:
    """How a guest is told of what it sent before `LAST`, by the frames that come to it."""
    found: list[str] = []
    for answer in frames:
        # RFC 792: an error quotes the begin of the guest's own packet
        quoted = answer[14 + 20 + 8 :]
        if quoted[:8] == LAST[:8] and quoted[20:22] == LAST[20:22]:
            return found
        found.append(_refusal(answer))
    raise AssertionError(f"the guest's device carries nothing any more: {found}")


def _refusal(answer: bytes) -> str:
    if int.from_bytes(answer[12:14]) != IPV4:
        return "a frame of another kind"
    data = answer[14:]
    payload = data[4 * (data[0] & 15) :]
    if data[9] == TCP and payload[13] & RST:
        return RESET
    if data[9] == ICMP and payload[0] == 3:
        return {3: UNREACHABLE, 13: PROHIBITED}.get(payload[1], f"unreachable, code {payload[1]}")
    return f"a packet of protocol {data[9]}"
