"""What the kernel tells of a refused packet: its first bytes, which a guest wrote."""

import struct
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.network.gateway.refused_packets import RefusedPacket, refused_packets

_ADDRESS = IPv4Address("8.8.8.8")
_LOG, _PAYLOAD, _MARK = 4 << 8, 9, 2


def packet(protocol: int = 17, ports: bytes = bytes((0, 1, 0, 53)), first: int = 0x45) -> bytes:
    """The beginning of an IPv4 packet to 8.8.8.8."""
    head = struct.pack(">BBHHHBBH4s4s", first, 0, 28, 0, 0, 64, protocol, 0, bytes((198, 19, 255, 2)), _ADDRESS.packed)
    return head + ports


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(*attributes: bytes, kind: int = _LOG) -> bytes:
    body = struct.pack(">BBH", 2, 0, 1) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (packet(), RefusedPacket(_ADDRESS, 17, 53)),
        (packet(6, bytes((0, 1, 1, 187))), RefusedPacket(_ADDRESS, 6, 443)),
        (packet(1, b"\x08\x00\xff\xff"), RefusedPacket(_ADDRESS, 1, 0)),
        (packet(47, b""), RefusedPacket(_ADDRESS, 47, 0)),
        (packet(6, b"\0"), RefusedPacket(_ADDRESS, 6, 0)),
        (packet(first=0x46), None),
        (packet(first=0x60), None),
        (packet()[:19], None),
        (b"", None),
    ],
)
def test_a_packet(data: bytes, expected: RefusedPacket | None) -> None:
    told = message(attribute(_MARK, bytes(4)), attribute(_PAYLOAD, data))
    assert list(refused_packets(told)) == ([] if expected is None else [expected])


def test_messages_of_other_kinds_and_what_is_cut() -> None:
    one = message(attribute(_PAYLOAD, packet()))
    done = message(kind=3)
    assert len(list(refused_packets(one + one + done))) == 2
    assert list(refused_packets(message(attribute(_PAYLOAD, packet()), kind=_LOG + 1))) == []
    for size in range(len(one)):
        assert list(refused_packets(one[:size])) == []


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_no_bytes_are_an_error(data: bytes, payload: bytes) -> None:
    list(refused_packets(data))
    list(refused_packets(message(attribute(_PAYLOAD, payload))))
