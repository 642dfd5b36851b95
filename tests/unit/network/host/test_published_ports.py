"""Connections into the guest, whose place a listener of the test's has: what is handed on, and what is refused."""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.network.host import published_ports
from mvmnix.network.host.published_ports import PublishedPorts, listen
from mvmnix.network.supervisor_messages import HandedOver, NetworkEvent, NetworkEventKind
from mvmnix.plan import network_endpoints
from mvmnix.plan.network_endpoints import PublishedPort
from mvmnix.system.loop import Loop
from tests.patience import EVENT_PATIENCE, POLL, until

_PUBLISHED = PublishedPort("127.0.0.1", 1, 8080)
object.__setattr__(_PUBLISHED, "host", 0)  # the kernel finds one that is free


class Publishing:
    """A machine's only port, by two sockets into the guest."""

    def __init__(self) -> None:
        self._listeners = listen([_PUBLISHED])
        self._stock = [socket.socket() for _ in range(2)]
        self.guest = socket.create_server(("127.0.0.1", 0))
        self.loop = Loop()
        self.handed: list[tuple[HandedOver, socket.socket]] = []
        self.told: list[NetworkEvent] = []
        self.is_gone = False
        self.clients: list[socket.socket] = []
        for one in self._stock:
            one.setblocking(False)
        self.ports = PublishedPorts(self._listeners, self._stock, self.loop, self._hand_over, self.told.append)

    def _hand_over(self, handed: HandedOver, client: socket.socket, guest: socket.socket) -> None:
        if self.is_gone:
            raise BrokenPipeError
        assert guest is self._stock[handed.slot]
        self.handed.append((handed, client.dup()))

    def begin_to_connect(self, inside: socket.socket, port: int) -> None:
        """To the guest of the test's."""
        assert port == 8080
        inside.connect(self.guest.getsockname())

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """A client of the host's."""
        ((_, listener),) = self._listeners
        client = socket.create_connection(listener.getsockname(), EVENT_PATIENCE, (source, 0))
        self.clients.append(client)
        return client

    def turn_until(self, count: int) -> None:
        """Until so many were handed over."""
        until(lambda: len(self.handed) == count, rest=lambda: self.loop.turn(POLL))

    def denials(self) -> list[tuple[str, str, int]]:
        """What was refused, of whom, at which port."""
        return [(it.code, it.address, it.port) for it in self.told if it.kind is NetworkEventKind.DENIED]

    def wait_for_reset(self, client: socket.socket) -> None:
        client.setblocking(False)

        def is_reset() -> bool:
            try:
                return client.recv(1) == b"no answer"
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True

        until(is_reset, rest=lambda: self.loop.turn(POLL))

    def close(self) -> None:
        self.ports.close()
        listeners = (listener for _, listener in self._listeners)
        for one in (*listeners, *self._stock, self.guest, *self.clients, *(client for _, client in self.handed)):
            one.close()
        self.loop.close()


@pytest.fixture
def publishing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publishing]:
    made = Publishing()
    monkeypatch.setattr(published_ports, "_begin_to_connect", made.begin_to_connect)
    yield made
    made.close()


def test_both_ends_are_handed_on(publishing: Publishing) -> None:
    client = publishing.connect()
    publishing.turn_until(1)
    ((handed, near),) = publishing.handed
    assert handed.port == 8080
    assert publishing.told == [NetworkEvent(NetworkEventKind.INBOUND, address="127.0.0.1", port=8080)]
    client.send(b"x")
    near.settimeout(EVENT_PATIENCE)
    assert near.recv(1) == b"x"


def test_a_socket_serves_again_once_it_was_given_back(publishing: Publishing) -> None:
    first, second = publishing.connect(), publishing.connect()
    publishing.turn_until(2)
    for slot in (-1, 2, 65535):
        publishing.ports.give_back(slot)
    publishing.wait_for_reset(publishing.connect())
    guests = [publishing.guest.accept()[0] for _ in (first, second)]
    publishing.clients += guests
    for _ in range(2):
        publishing.ports.give_back(publishing.handed[0][0].slot)
    guests[0].settimeout(EVENT_PATIENCE)
    with pytest.raises(ConnectionResetError):
        guests[0].recv(1)
    publishing.connect()
    publishing.turn_until(3)
    assert publishing.handed[2][0].slot == publishing.handed[0][0].slot
    publishing.wait_for_reset(publishing.connect())
    assert publishing.denials() == [("gateway-busy", "127.0.0.1", 8080)], "once in a second"


def test_all_loopback_addresses_count_as_one() -> None:
    peers = ("127.0.0.1", "127.255.0.2", "::1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "fe80::1%eth0")
    assert [published_ports.counted_as(peer) for peer in peers] == ["::1", "::1", "::1", *peers[3:]]


def test_one_address_has_not_all_of_them(publishing: Publishing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_ports, "OF_PEER", 1)
    publishing.connect()
    publishing.turn_until(1)
    for _ in range(3):
        publishing.wait_for_reset(publishing.connect())
    assert publishing.denials() == [("limit-peer", "127.0.0.1", 8080)], "once in a second"
    publishing.wait_for_reset(publishing.connect("127.0.0.2"))
    monkeypatch.setattr(published_ports, "counted_as", lambda peer: peer)
    publishing.connect("127.0.0.2")
    publishing.turn_until(2)
    publishing.ports.give_back(publishing.handed[0][0].slot)
    publishing.connect()
    publishing.turn_until(3)


@pytest.mark.parametrize("why", ["nobody listens", "no answer", "the gateway is gone"])
def test_a_client_whose_connection_fails_is_reset(
    publishing: Publishing, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "nobody listens":
        publishing.guest.close()
        monkeypatch.setattr(publishing, "begin_to_connect", lambda *_: None)
        monkeypatch.setattr(published_ports, "_begin_to_connect", _refused)
    elif why == "no answer":
        monkeypatch.setattr(published_ports, "_SECONDS", 0.0)
        monkeypatch.setattr(PublishedPorts, "_connected", lambda *_: None)
    else:
        publishing.is_gone = True
    publishing.wait_for_reset(publishing.connect())
    assert (publishing.told, publishing.handed) == ([], [])
    assert sorted(publishing.ports._free) == [0, 1]
    assert not publishing.ports._connecting


def _refused(inside: socket.socket, _port: int) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        inside.connect(closed.getsockname())


def test_nothing_is_watched_after_the_end(publishing: Publishing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PublishedPorts, "_connected", lambda *_: None)
    client = publishing.connect()
    until(lambda: publishing.ports._connecting, rest=lambda: publishing.loop.turn(POLL))
    publishing.ports.close()
    assert not publishing.loop._selector.get_map()
    client.settimeout(EVENT_PATIENCE)
    assert client.recv(1) == b""
    publishing.ports.close()


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.EADDRINUSE, "ss -ltnp"),
        (errno.EACCES, "below 1024"),
        (errno.EADDRNOTAVAIL, "ip address"),
        (errno.ENOBUFS, "publish another port"),
    ],
)
def test_a_port_that_can_not_be_had_is_refused(code: int, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(*_: object) -> None:
        raise OSError(code, "why")

    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(RefusedError, match="port 0 can't be listened on: why") as caught:
        listen([_PUBLISHED])
    assert caught.value.codes == (ReasonCode.NETWORK_UNAVAILABLE,)
    assert hint in caught.value.reasons[0].hint


OTHER = "127.0.0.2"


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> PublishedPort:
    """A port of which both addresses were free a moment ago; another one has the place of ::1, which not each host has.

    With ::1: tests/hostile/network/test_published_ports.py.
    """
    for module in (network_endpoints, published_ports):
        monkeypatch.setattr(module, "LOOPBACK6", OTHER)
    with socket.create_server((OTHER, 0)) as one:
        return PublishedPort("localhost", one.getsockname()[1], 8080)


def test_no_other_user_gets_what_is_meant_for_a_port_at_localhost(both: PublishedPort) -> None:
    with ExitStack() as stack:
        listeners = [stack.enter_context(it) for _, it in listen([both])]
        assert [it.getsockname()[0] for it in listeners] == ["127.0.0.1", OTHER]
        for address in ("127.0.0.1", OTHER):
            with pytest.raises(OSError, match="Address already in use"):
                socket.create_server((address, both.host))
            socket.create_connection((address, both.host), EVENT_PATIENCE).close()


def test_where_one_of_both_can_not_be_had_neither_is(both: PublishedPort) -> None:
    with socket.create_server((OTHER, both.host)):
        with pytest.raises(RefusedError, match=f"{OTHER} port {both.host} can't be listened on"):
            listen([both])
        ((_, it),) = listen([replace(both, address="127.0.0.1")])  # an address that is said is taken as it is
        it.close()


@pytest.mark.parametrize("code", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_host_without_ipv6_has_the_other_one(both: PublishedPort, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = published_ports._bound

    def without(address: str, port: int) -> socket.socket:
        if address == OTHER:
            raise OSError(code, "why")
        return bound(address, port)

    monkeypatch.setattr(published_ports, "_bound", without)
    ((_, it),) = listen([both])
    with it:
        assert it.getsockname() == ("127.0.0.1", both.host)
