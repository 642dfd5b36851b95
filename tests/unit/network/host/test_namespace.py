"""A guest with raw frames against the real rules: what is taken, and that everything else has no road."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from mvmnix.network.gateway.refused_packets import RefusedPacket, refused_packets
from mvmnix.network.host import namespace, namespace_setup
from mvmnix.network.host.namespace import Making, Namespace
from mvmnix.network.host.namespace_setup import FIRST_LOCAL_PORT, GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC
from mvmnix.network.host.packet_rules import REFUSED_PER_SECOND, Taken
from mvmnix.network.policy.decisions import SYNTHETIC
from tests.patience import EVENT_PATIENCE, QUIET, until
from tests.unit.network.packet_rows import LAST, PROBES, Probe, refusals
from tests.unit.network.raw_guest import (
    ACK,
    ICMP,
    RST,
    SYN,
    TCP,
    UDP,
    RawGuest,
    echo,
    mac,
    tcp,
    udp,
)

_RANGE = IPv4Network("192.0.2.0/24")
_ADDRESS = IPv4Network("203.0.113.9/32")
_SYNTHETIC = "198.18.0.7"
_UNREACHABLE, _PORT_UNREACHABLE, _PROHIBITED = 3, 3, 13


def wait_for_reset(one: socket.socket) -> bool:
    """Whether a connection is reset."""
    one.settimeout(EVENT_PATIENCE)
    try:
        return one.recv(1) is None
    except ConnectionResetError:
        return True


@pytest.fixture(scope="module")
def made() -> Iterator[Namespace]:
    made = Making([Taken(SYNTHETIC), Taken(_RANGE), Taken(_ADDRESS, (22,))], inbound=2).finish()
    yield made
    made.close()
    os.close(made.tap)


@pytest.fixture
def guest(made: Namespace) -> RawGuest:
    guest = RawGuest(made.tap)
    for _ in guest.frames(0):
        pass
    return guest


@pytest.mark.parametrize(
    ("to", "port"), [(_SYNTHETIC, 443), ("198.18.255.255", 1), ("192.0.2.9", 65535), ("203.0.113.9", 22)]
)
def test_a_connection_to_what_is_taken_arrives_with_its_destination(
    made: Namespace, guest: RawGuest, to: str, port: int
) -> None:
    own = 41000 + port % 7
    answer = guest.connect(to, port, own=own)
    assert (answer.source, answer.flags) == (to, SYN | ACK)
    accepted, peer = made.connections.accept()
    with accepted:
        assert accepted.getsockname() == (to, port)
        assert peer[0] == GUEST
        accepted.send(b"hello")
        assert next(guest.packets()).payload[20:] == b"hello"
        guest.send(tcp(to, port, own=own, flags=RST | ACK, seq=2, ack=answer.seq + 6))
        assert wait_for_reset(accepted)


def test_what_comes_to_the_guest_has_the_addresses_that_were_agreed(guest: RawGuest) -> None:
    """Without a neighbour of its own, a device that asks nobody would send to itself."""
    guest.send(tcp(_SYNTHETIC, 443, own=43000))
    assert next(guest.frames()).startswith(mac(GUEST_MAC) + mac(GATEWAY_MAC))
    guest.send(tcp(_SYNTHETIC, 443, own=43000, flags=RST, seq=2))


@pytest.mark.parametrize(
    ("to", "port"),
    [("192.0.3.1", 443), ("203.0.113.9", 23), ("203.0.113.8", 22), ("198.19.0.1", 443)],
)
def test_a_connection_beside_what_is_taken_is_reset(made: Namespace, guest: RawGuest, to: str, port: int) -> None:
    answer = guest.answer(tcp(to, port))
    assert answer is not None
    assert (answer.source, answer.flags & RST) == (to, RST)
    with pytest.raises(BlockingIOError):
        made.connections.accept()


@pytest.mark.parametrize(("to", "port"), [("8.8.8.8", 443), ("192.0.2.9", 53)])
def test_udp_is_answered_with_port_unreachable_each_time(guest: RawGuest, to: str, port: int) -> None:
    for _ in range(20):
        answer = guest.answer(udp(to, port))
        assert answer is not None
        assert (answer.protocol, answer.icmp) == (ICMP, (_UNREACHABLE, _PORT_UNREACHABLE))


@pytest.mark.parametrize(
    ("packet", "protocol", "port"),
    [(udp("8.8.4.4", 443), UDP, 443), (tcp("8.8.4.4", 22), TCP, 22), (echo("8.8.4.4"), ICMP, 0)],
    ids=["UDP", "TCP", "ICMP"],
)
def test_what_is_refused_is_told(made: Namespace, guest: RawGuest, packet: bytes, protocol: int, port: int) -> None:
    with suppress(BlockingIOError):
        while made.refused.recv(65536):
            pass

    def told() -> list[RefusedPacket]:
        assert guest.answer(packet, QUIET if protocol == ICMP else EVENT_PATIENCE) is not None or protocol == ICMP
        with suppress(BlockingIOError):
            return list(refused_packets(made.refused.recv(65536)))
        return []

    # so many in a second are told, and tests before this one had their share
    assert until(told)[0] == RefusedPacket(IPv4Address("8.8.4.4"), protocol, port)


def test_of_a_flood_a_part_is_told(made: Namespace, guest: RawGuest) -> None:
    for _ in range(40 * REFUSED_PER_SECOND):
        guest.send(udp("8.8.4.4", 443))
    told = 0
    with suppress(BlockingIOError):
        while data := made.refused.recv(65536):
            told += len(list(refused_packets(data)))
    assert told <= 20 * REFUSED_PER_SECOND, "for a second or so"


def test_a_question_arrives_and_its_answer_gets_back(made: Namespace, guest: RawGuest) -> None:
    guest.send(udp(GATEWAY, 53, b"question"))
    data, peer = made.datagrams.recvfrom(100)
    assert (data, peer) == (b"question", (GUEST, 40000))
    made.datagrams.sendto(b"answer", peer)
    assert next(guest.packets()).payload[8:] == b"answer"
    shaken = guest.connect(GATEWAY, 53, own=42000)
    assert shaken.flags == SYN | ACK
    with made.questions.accept()[0] as accepted:
        guest.send(tcp(GATEWAY, 53, own=42000, flags=RST | ACK, seq=2, ack=shaken.seq + 1))
        assert wait_for_reset(accepted)


@pytest.mark.parametrize("probe", PROBES, ids=lambda it: it.tried)
def test_what_has_no_road(made: Namespace, guest: RawGuest, probe: Probe) -> None:
    guest.send_frame(probe.frame)
    guest.send(LAST)
    assert refusals(guest.frames()) == ([probe.told] if probe.told else [])
    for one in (made.connections, made.questions):
        with pytest.raises(BlockingIOError):
            one.accept()
    with pytest.raises(BlockingIOError):
        made.datagrams.recv(1)


def test_a_connection_into_the_guest(made: Namespace, guest: RawGuest) -> None:
    inbound = made.inbound[0]
    with pytest.raises(BlockingIOError):
        inbound.connect((GUEST, 8080))
    asked = next(guest.packets())
    own = int.from_bytes(asked.payload[:2])
    assert (asked.source, asked.flags, own >= FIRST_LOCAL_PORT) == (GATEWAY, SYN, True)
    guest.send(tcp(GATEWAY, own, own=8080, flags=SYN | ACK, seq=1, ack=asked.seq + 1))
    next(guest.packets())
    inbound.send(b"GET /")
    assert next(guest.packets()).payload[20:] == b"GET /"
    guest.send(tcp(GATEWAY, own, own=8080, flags=RST | ACK, seq=2, ack=asked.seq + 6))
    assert wait_for_reset(inbound)


def _namespaces() -> Iterator[str]:
    """Those of all processes that may be looked at."""
    for link in Path("/proc").glob("[0-9]*/ns/net"):
        with suppress(OSError):
            yield str(link.readlink())


#: linux/sockios.h: a descriptor of a socket's network namespace.
_SIOCGSKNS = 0x894C


def test_it_has_no_process_and_is_gone_with_its_descriptors() -> None:
    open_before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    made = Making([Taken(SYNTHETIC)], inbound=3).finish()
    found = fcntl.ioctl(made.datagrams, _SIOCGSKNS)
    own = f"net:[{os.fstat(found).st_ino}]"
    os.close(found)
    assert own not in set(_namespaces())
    assert RawGuest(made.tap).answer(udp(GATEWAY, 54)) is not None
    made.close()
    os.close(made.tap)
    assert set(os.listdir("/proc/self/fd")) == open_before  # noqa: PTH208


def test_what_the_kernel_may_do_with_packets_is_settled() -> None:
    """A new namespace has IPv4 settings of the host's, which may forward."""
    assert ("ipv4/ip_forward", "0") in namespace_setup.SETTINGS
    assert {value for name, value in namespace_setup.SETTINGS if name.endswith("disable_ipv6")} == {"1"}


@pytest.mark.parametrize(
    ("why", "hint"), [("[Errno 13] /dev/net/tun", "modprobe tun; chmod 0666"), ("EPERM", "mvm doctor")]
)
def test_what_helps_where_none_can_be_made(why: str, hint: str) -> None:
    assert hint in str(namespace._refusal(why).hint)
