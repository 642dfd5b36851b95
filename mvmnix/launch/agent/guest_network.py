"""What CONFIG says of a machine's network: the addresses of its one link, as bytes; no I/O."""

import socket
from dataclasses import dataclass
from typing import Final

from mvmnix.launch.agent.encoding import Writer

_PREFIXES: Final = range(8, 31)
#: The least is what every host takes (RFC 791, section 3.1), the most a large Ethernet frame's.
_MTUS: Final = range(576, 9001)
_LOOPBACK: Final = 127
_MULTICAST: Final = 224
_MAC_BYTES: Final = 6


def _number(address: str) -> int:
    """An address that one host has. Raises ValueError."""
    try:
        packed = socket.inet_pton(socket.AF_INET, address)
    except (OSError, ValueError):
        packed = bytes(4)
    if packed[0] in {0, _LOOPBACK} or packed[0] >= _MULTICAST:
        raise ValueError(f"not an IPv4 address of a host: {address[:80]!r}")
    return int.from_bytes(packed)


def _mac(text: str) -> bytes:
    """An Ethernet address of one station. Raises ValueError."""
    try:
        packed = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        packed = b""
    if len(packed) != _MAC_BYTES or packed.hex(":") != text or packed[0] & 1 or not any(packed):
        raise ValueError(f"not the hardware address of a gateway: {text[:80]!r}")
    return packed


@dataclass(frozen=True, slots=True)
class GuestNetwork:
    """A machine's link as the guest's agent is told it. Raises ValueError for what the guest would refuse.

    IPv4 addresses as text, `prefix` the length of their subnet's in bits, `gateway_mac` as `02:…`, `mtu` in bytes. The
    gateway is the machine's one neighbour, and all that it sends goes there; `resolver` is what its programs ask for
    names, over DNS.
    """

    address: str
    prefix: int
    gateway: str
    gateway_mac: str
    mtu: int
    resolver: str

    def __post_init__(self) -> None:
        if self.prefix not in _PREFIXES or self.mtu not in _MTUS:
            raise ValueError(f"not a subnet and a size of packets: /{self.prefix}, {self.mtu} bytes")
        own, gateway, hosts = _number(self.address), _number(self.gateway), (1 << (32 - self.prefix)) - 1
        if own == gateway or own & ~hosts != gateway & ~hosts or {own & hosts, gateway & hosts} & {0, hosts}:
            raise ValueError(f"not two hosts of one subnet: {self.address}/{self.prefix}, {self.gateway}")
        _number(self.resolver)
        _mac(self.gateway_mac)


def write(out: Writer, network: GuestNetwork) -> None:
    """Append it."""
    out.pack("IBI", _number(network.address), network.prefix, _number(network.gateway))
    out.raw(_mac(network.gateway_mac)).pack("HI", network.mtu, _number(network.resolver))
