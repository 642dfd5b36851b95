"""Plays a guest by the tap's descriptor: writes and reads Ethernet frames, with headers of its own making; no VM."""

import os
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from mvmnix.network.host.namespace_setup import GATEWAY_MAC, GUEST, GUEST_MAC
from mvmnix.system.process import is_readable
from tests.patience import EVENT_PATIENCE

#: struct virtio_net_hdr, of which the kernel wants 10 bytes (linux/if_tun.h, TUNSETVNETHDRSZ).
_HEADER = bytes(10)
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
ICMP, TCP, UDP, SCTP = 1, 6, 17, 132
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def checksum(data: bytes) -> int:
    """RFC 1071."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def mac(text: str) -> bytes:
    """Six bytes."""
    return bytes.fromhex(text.replace(":", ""))


def frame(payload: bytes, *, kind: int = IPV4, source: str = GUEST_MAC, to: str = GATEWAY_MAC) -> bytes:
    """An Ethernet frame."""
    return mac(to) + mac(source) + struct.pack(">H", kind) + payload


def ip(
    payload: bytes, to: str, *, protocol: int, source: str = GUEST, options: bytes = b"", fragment: int = 0
) -> bytes:
    """An IPv4 packet (RFC 791)."""
    words = 5 + len(options) // 4
    size = 4 * words + len(payload)
    addresses = socket.inet_aton(source) + socket.inet_aton(to)
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, size, 1, fragment, 64, protocol, 0) + addresses + options
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def _pseudo(source: str, to: str, protocol: int, size: int) -> bytes:
    return socket.inet_aton(source) + socket.inet_aton(to) + struct.pack(">BBH", 0, protocol, size)


def tcp(
    to: str,
    port: int,
    *,
    flags: int = SYN,
    seq: int = 1,
    ack: int = 0,
    own: int = 40000,
    source: str = GUEST,
    data: bytes = b"",
) -> bytes:
    """A TCP segment in a packet (RFC 9293)."""
    head = struct.pack(">HHIIBBHHH", own, port, seq, ack, 5 << 4, flags, 65535, 0, 0) + data
    total = checksum(_pseudo(source, to, TCP, len(head)) + head)
    return ip(head[:16] + struct.pack(">H", total) + head[18:], to, protocol=TCP, source=source)


def udp(to: str, port: int, data: bytes = b"x", *, own: int = 40000, source: str = GUEST) -> bytes:
    """A UDP datagram in a packet (RFC 768)."""
    head = struct.pack(">HHHH", own, port, 8 + len(data), 0) + data
    total = checksum(_pseudo(source, to, UDP, len(head)) + head)
    return ip(head[:6] + struct.pack(">H", total) + head[8:], to, protocol=UDP, source=source)


def echo(to: str) -> bytes:
    """An ICMP echo request in a packet (RFC 792)."""
    head = struct.pack(">BBHHH", 8, 0, 0, 7, 1) + b"ping"
    return ip(head[:2] + struct.pack(">H", checksum(head)) + head[4:], to, protocol=ICMP)


@dataclass(frozen=True, slots=True)
class Packet:
    """What came to the guest: an IPv4 packet's addresses, protocol and payload."""

    source: str
    to: str
    protocol: int
    payload: bytes

    @property
    def flags(self) -> int:
        """Of TCP."""
        return self.payload[13]

    @property
    def seq(self) -> int:
        """Of TCP."""
        return int.from_bytes(self.payload[4:8])

    @property
    def icmp(self) -> tuple[int, int]:
        """Type and code."""
        return self.payload[0], self.payload[1]


class RawGuest:
    """The guest's end of a tap."""

    def __init__(self, tap: int) -> None:
        self.tap = tap

    def send(self, packet: bytes) -> None:
        """An IPv4 packet, in a frame as it should be."""
        self.send_frame(frame(packet))

    def send_frame(self, data: bytes) -> None:
        """Any frame."""
        os.write(self.tap, _HEADER + data)

    def frames(self, seconds: float = EVENT_PATIENCE) -> Iterator[bytes]:
        """What comes, until nothing did for so long."""
        while is_readable(self.tap, seconds):
            yield os.read(self.tap, 65536)[len(_HEADER) :]

    def packets(self, seconds: float = EVENT_PATIENCE) -> Iterator[Packet]:
        """Of these, IPv4."""
        for data in self.frames(seconds):
            if data[12:14] == struct.pack(">H", IPV4):
                packet = data[14:]
                size = 4 * (packet[0] & 0x0F)
                source, to = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
                yield Packet(source, to, packet[9], packet[size : int.from_bytes(packet[2:4])])

    def answer(self, packet: bytes, seconds: float = EVENT_PATIENCE) -> Packet | None:
        """What comes first after this packet; None where nothing does."""
        self.send(packet)
        return next(self.packets(seconds), None)

    def connect(self, to: str, port: int, *, own: int = 40000) -> Packet:
        """Shake hands (RFC 9293, section 3.5); the answer to SYN."""
        answer = self.answer(tcp(to, port, own=own))
        assert answer is not None
        if answer.flags & SYN:
            self.send(tcp(to, port, flags=ACK, seq=2, ack=answer.seq + 1, own=own))
        return answer


def wait(seconds: float) -> None:
    """For what the kernel does by itself."""
    time.sleep(seconds)
