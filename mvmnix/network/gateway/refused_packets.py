"""Reads what the packet rules tell of a packet that they refused: for what, so that there is a verdict for it; pure.

The kernel writes messages of NFLOG (linux/netfilter/nfnetlink_log.h) with the first bytes of the packet, which are the
guest's. It is IPv4 without options and not a fragment (host/packet_rules.py); what isn't so, or is cut, is left out.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

#: Of the messages of netlink(7), NFLOG's: NFNL_SUBSYS_ULOG and NFULNL_MSG_PACKET; its attribute NFULA_PAYLOAD.
_PACKET: Final = 4 << 8
_PAYLOAD: Final = 9
_HEAD: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
#: Behind the head of a message: struct nfgenmsg.
_GENERAL: Final = 4
_KIND: Final = 0x3FFF
_IPV4: Final = struct.Struct(">BxHxxxxxB2x4x4s")
_PORTS: Final = struct.Struct(">2xH")
_PLAIN: Final = 0x45
TCP: Final = 6
_WITH_PORTS: Final = frozenset({TCP, 17, 33, 132, 136})


@dataclass(frozen=True, slots=True)
class RefusedPacket:
    """Where a packet was to go: `protocol` is IANA's number (RFC 791), `port` 0 where the protocol has none."""

    address: IPv4Address
    protocol: int
    port: int


def refused_packets(data: bytes) -> Iterator[RefusedPacket]:
    """Those that one datagram of the kernel's tells of."""
    for kind, message in _blocks(data, _HEAD):
        if kind == _PACKET:
            for attribute, payload in _blocks(message[_GENERAL:], _ATTRIBUTE):
                if attribute & _KIND == _PAYLOAD and (found := _packet(payload)) is not None:
                    yield found


def _blocks(data: bytes, head: struct.Struct) -> Iterator[tuple[int, bytes]]:
    """The kinds and contents of netlink's messages or attributes, each of which is padded to 4 bytes."""
    while len(data) >= head.size:
        size, kind, *_ = head.unpack_from(data)
        if not head.size <= size <= len(data):
            return
        yield kind, data[head.size : size]
        data = data[(size + 3) & ~3 :]


def _packet(data: bytes) -> RefusedPacket | None:
    if len(data) < _IPV4.size:
        return None
    first, _, protocol, address = _IPV4.unpack_from(data)
    if first != _PLAIN:
        return None
    port = 0
    if protocol in _WITH_PORTS and len(data) >= _IPV4.size + _PORTS.size:
        (port,) = _PORTS.unpack_from(data, _IPV4.size)
    return RefusedPacket(IPv4Address(address), protocol, port)
