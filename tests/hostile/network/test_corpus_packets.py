"""Corpus: packets, what a guest with raw sockets sends beside TCP to what is taken has no road, and is seen nowhere.

Each probe is sent once by a guest behind the real rules, and once by an open one, whose link is a veth pair into the
same host. A capture at all interfaces of the host and beyond has to be empty of the first, and has to have the second.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from mvmnix.network.host.namespace_setup import FIRST_LOCAL_PORT, GATEWAY, GUEST
from mvmnix.network.policy.decisions import Denial
from mvmnix.network.supervisor_messages import NetworkEventKind
from tests.hostile.network.clients import echo as echo_server
from tests.hostile.network.corpus import verdicts
from tests.hostile.network.wire import Capture, RawSocket, open_guest
from tests.hostile.network.world import HOST, HOST6, OTHER, PUBLIC, Server, World, entered, ip, machine, world
from tests.patience import EVENT_PATIENCE, QUIET
from tests.unit.network.packet_rows import LAST, PRIVATE, PROBES, refusals
from tests.unit.network.raw_guest import ICMP, echo, frame, udp

pytestmark = pytest.mark.root("it makes network namespaces of its own")

NAME = "api.example.com"
_MARKER = b"from the guest!!"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    where = tmp_path_factory.mktemp("world")
    rules = [f"tcp:{NAME}:7,id=api", f"tcp:{PUBLIC}:7,id=address"]
    addresses = (PUBLIC, OTHER, "8.8.8.8", PRIVATE)
    with world(where, rules, hosts=f"{PUBLIC} {NAME}", addresses=addresses) as made:
        yield made


@pytest.fixture(scope="module")
def capture(here: World) -> Iterator[Capture]:
    with Capture(PUBLIC) as made:
        yield made


@pytest.fixture(scope="module")
def raw(here: World) -> Iterator[RawSocket]:
    with here.guest.inside():
        made = RawSocket("eth0")
    yield made
    made.close()


def _told(raw: RawSocket, probe: bytes) -> list[str]:
    """What a guest is told of a frame."""
    raw.drain()
    raw.send(probe)
    raw.send(frame(LAST))
    return refusals(raw.frames(EVENT_PATIENCE, incoming=True))


def only_refused(here: World) -> bool:
    """Whether all that the gateway told since is that packets were refused: of a flood of them, some are told."""
    codes = {Denial.NOT_TCP, Denial.NO_RULE, Denial.PORT_NOT_ALLOWED}
    return all(it.kind is NetworkEventKind.DENIED and it.code in codes for it in verdicts(here))


#: Each with a number, by which a capture knows it.
_SENT = {it.tried: it.frame + _MARKER + bytes([number]) for number, it in enumerate(PROBES)}


def test_what_has_no_road(here: World, capture: Capture, raw: RawSocket) -> None:
    capture.drain()
    told = {tried: _told(raw, sent) for tried, sent in _SENT.items()}
    assert told == {it.tried: [it.told] if it.told else [] for it in PROBES}
    assert capture.frames(0, _MARKER) == []
    here.loop.turn(0)
    assert only_refused(here)


def test_a_program_is_told_at_once_that_udp_has_no_road(here: World) -> None:
    with here.guest.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(EVENT_PATIENCE)
        one.connect((PUBLIC, 443))
        one.send(_MARKER)
        with pytest.raises(ConnectionRefusedError):
            one.recv(1)


def test_a_program_is_told_at_once_that_ping_has_no_road(here: World) -> None:
    with here.guest.inside(), socket.socket(socket.AF_INET, socket.SOCK_RAW, ICMP) as one:
        one.settimeout(EVENT_PATIENCE)
        one.connect((PUBLIC, 0))
        one.send(echo(PUBLIC)[20:])
        with pytest.raises(OSError, match="No route to host"):
            one.recv(100)


@pytest.mark.parametrize("port", [7, FIRST_LOCAL_PORT])
def test_the_gateways_address_is_no_way_to_the_hosts_services(here: World, port: int) -> None:
    with Server("0.0.0.0", port, echo_server) as service:
        for address in (GATEWAY, HOST, "198.19.255.3"):
            with pytest.raises(OSError, match=r"refused|Permission denied|No route|unreachable"):
                here.guest.connect(address, port)
        assert service.peers == []


def test_no_frame_of_a_machine_comes_to_another(here: World, raw: RawSocket, tmp_path: Path) -> None:
    with machine(tmp_path, [f"tcp:{PUBLIC}:7"]) as other:
        with other.guest.inside():
            there = RawSocket("eth0")
        for sent in _SENT.values():
            raw.send(sent)
        _told(raw, frame(LAST))
        assert [it for it in there.frames(0.05) if _MARKER in it] == []
        there.close()
        other.turn()
        assert verdicts(other) == []


_OWN = ("dev", "eth0")
REWRITES = {
    "another address": (("address", "add", "10.0.0.9/8", *_OWN), ("address", "del", f"{GUEST}/30", *_OWN)),
    "the gateway's address": (("address", "add", f"{GATEWAY}/30", *_OWN),),
    "a route past the gateway": (("route", "replace", "default", *_OWN, "scope", "link"),),
    "a route to the host": (("route", "add", f"{HOST}/32", *_OWN, "scope", "link"),),
    "another neighbour": (("neighbour", "replace", GATEWAY, "lladdr", "02:00:00:00:00:09", *_OWN),),
    "another MAC": (("link", "set", "eth0", "address", "02:00:00:00:00:09"),),
    "IPv6": (("-6", "address", "add", "2606:4700::9/64", *_OWN, "nodad"), ("-6", "route", "add", "default", *_OWN)),
}


@pytest.mark.parametrize("what", REWRITES)
def test_a_guest_that_rewrites_its_own_settings(here: World, capture: Capture, what: str) -> None:
    with here.guest.inside():
        Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("0")
        for words in REWRITES[what]:
            ip(*words)
    capture.drain()
    try:
        with here.guest.inside(), ExitStack() as stack:
            tries = []
            for family, to in ((socket.AF_INET, OTHER), (socket.AF_INET, HOST), (socket.AF_INET6, HOST6)):
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    tries.append(one := stack.enter_context(socket.socket(family, kind | socket.SOCK_NONBLOCK)))
                    with suppress(OSError):
                        one.connect((to, 7))
                        one.send(_MARKER)
            assert capture.frames(QUIET, _MARKER) == []
            for one in tries:
                with suppress(OSError):
                    assert one.recv(1) == b""
    finally:
        here.guest.configure()
    assert only_refused(here)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["UDP", "TCP"])
def test_a_guest_that_asks_another_resolver(here: World, capture: Capture, kind: int) -> None:
    """Its resolv.conf is its own to change: it leads nowhere else."""
    capture.drain()
    with here.guest.inside(), socket.socket(socket.AF_INET, kind) as one:
        one.settimeout(EVENT_PATIENCE)
        with pytest.raises(ConnectionRefusedError):
            one.connect(("8.8.8.8", 53))
            one.send(_MARKER)
            one.recv(1)
    assert capture.frames(0, _MARKER) == []


def test_after_all_that_the_machine_reaches_what_it_may(here: World) -> None:
    with Server(PUBLIC, 7, echo_server), here.guest.connect(PUBLIC, 7) as connection:
        connection.sendall(b"hello")
        assert connection.recv(10) == b"hello"
    # what was refused before may be told now
    here.event(NetworkEventKind.OPENED, rule="address", name=PUBLIC, address=PUBLIC, port=7)


@pytest.fixture(scope="module")
def unguarded(here: World) -> Iterator[RawSocket]:
    """The open guest's interface."""
    with open_guest() as namespace:
        with entered(namespace):
            made = RawSocket("eth0")
        yield made
        made.close()


def test_the_capture_sees_an_open_guest(capture: Capture, unguarded: RawSocket) -> None:
    """Or the tests above couldn't fail. They come first, since a host asks an open guest for its address by ARP."""
    capture.drain()
    for sent in _SENT.values():
        unguarded.send(sent)
    seen = capture.frames(QUIET, _MARKER)
    assert [tried for tried, sent in _SENT.items() if not any(sent[-len(_MARKER) - 1 :] in it for it in seen)] == []


def test_an_open_guest_reaches_a_server(capture: Capture, unguarded: RawSocket) -> None:
    """Beyond the host, where it is forwarded to."""
    capture.drain()
    unguarded.send(frame(udp(PUBLIC, 53, _MARKER)))
    found = [it for it in capture.frames(0.2, _MARKER) if it[30:34] == socket.inet_aton(PUBLIC)]
    assert len(found) >= 3, "at the guest's link, at the uplink, and beyond"
