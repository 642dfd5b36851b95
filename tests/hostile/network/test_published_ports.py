"""Connections into a guest, by a port that the plan publishes."""

import os
import signal
import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.network.host import namespace
from mvmnix.network.host.namespace_setup import GATEWAY, GUEST
from mvmnix.network.host.published_ports import OF_PEER, listen
from mvmnix.network.supervisor_messages import HandedOver, NetworkEventKind
from mvmnix.plan.network_endpoints import PublishedPort
from tests.hostile.network.clients import echo, read_all, turning
from tests.hostile.network.world import HOST, PUBLIC, Server, World, ip, world
from tests.patience import EVENT_PATIENCE, POLL, QUIET, until
from tests.unit.network.processes import process_ids

pytestmark = pytest.mark.root("it makes network namespaces of its own")


def _guest_server(here: World, port: int) -> Server:
    with here.guest.inside():
        return Server(GUEST, port, echo)


def test_a_published_port_leads_into_the_guest_alone(tmp_path: Path) -> None:
    with world(tmp_path, [f"tcp:{PUBLIC}:7"], ports=["8080:80", f"{HOST}:8081:81"]) as here:
        with _guest_server(here, 80) as server, turning(here):
            for _ in range(3 * namespace.INBOUND):  # the sockets of the namespace serve again and again
                with socket.create_connection(("127.0.0.1", 8080), EVENT_PATIENCE) as client:
                    client.sendall(b"hello")
                    client.shutdown(socket.SHUT_WR)
                    assert read_all(client) == b"hello"
            assert set(server.peers) == {GATEWAY}
            with pytest.raises(ConnectionResetError), socket.create_connection((HOST, 8081), EVENT_PATIENCE) as client:
                client.recv(1)  # no program of the guest listens there
        here.turn()
        closed = here.event(NetworkEventKind.INBOUND_CLOSED)
        assert (closed.port, closed.sent, closed.received) == (80, 5, 5)
        assert here.event(NetworkEventKind.INBOUND).address == "127.0.0.1"


def test_more_connections_than_there_are_sockets_are_reset(tmp_path: Path) -> None:
    """More than one address may have, and then more than there are."""

    def connect(source: str) -> socket.socket:
        return socket.create_connection((source, 8080), EVENT_PATIENCE, (source, 0))

    held: list[socket.socket] = []
    with world(tmp_path, [], ports=["0.0.0.0:8080:80"]) as here, _guest_server(here, 80), turning(here):
        for source, count in (("127.0.0.1", OF_PEER), (HOST, namespace.INBOUND - OF_PEER)):
            held += [connect(source) for _ in range(count)]
            for one in held:
                one.sendall(b"x")
                assert one.recv(1) == b"x"
            with pytest.raises(ConnectionResetError), connect(source) as client:
                client.recv(1)
            with pytest.raises(ConnectionResetError), connect("127.0.0.2") as client:
                client.recv(1)
        for one in held:
            one.close()
        until(lambda: {it.code for it in here.events if it.code} >= {"limit-peer"})


def test_a_port_at_localhost_is_the_guests_by_ipv6_too(tmp_path: Path) -> None:
    with world(tmp_path, [], ports=["8080:80"]) as here:
        with (
            _guest_server(here, 80),
            turning(here),
            socket.create_connection(("::1", 8080), EVENT_PATIENCE) as client,
        ):
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        assert here.event(NetworkEventKind.INBOUND).address == "::1"


def test_few_descriptors_wait_for_a_gateway_that_takes_none(tmp_path: Path) -> None:
    """They are the supervisor's meanwhile, and what is in flight is counted by user."""
    with world(tmp_path, [], ports=["8080:80"]) as here:
        gateway = process_ids(here.network)[0]
        os.kill(gateway, signal.SIGSTOP)
        connection, count = socket.socket(), 0
        with connection, pytest.raises(BlockingIOError):
            while True:
                here.network._hand_over(HandedOver(0, 80), connection, connection)
                count += 1
        os.kill(gateway, signal.SIGCONT)
        assert namespace.INBOUND <= count < 2 * namespace.INBOUND


def test_a_guest_that_takes_its_time_gets_all(tmp_path: Path) -> None:
    """It ends its own side first: the connection is over for the gateway once all is on its way."""
    got: list[int] = []

    def slow(connection: socket.socket) -> None:
        connection.shutdown(socket.SHUT_WR)
        time.sleep(QUIET)
        got.append(len(read_all(connection)))

    with world(tmp_path, [], ports=["8080:80"]) as here:
        with here.guest.inside():
            server = Server(GUEST, 80, slow)
        with server, turning(here):
            with socket.create_connection(("127.0.0.1", 8080), EVENT_PATIENCE) as client:
                client.sendall(bytes(3_000_000))
            until(lambda: got)
    assert got == [3_000_000]


def test_a_gateway_that_makes_its_sockets_wait_holds_up_no_supervisor(tmp_path: Path) -> None:
    """Flags and options of a connection are its copies' too: it can have connect(2) and close(2) block."""
    with world(tmp_path, [], ports=["8080:80"]) as here:
        inbound = namespace_of(here).inbound
        for one in inbound:
            os.set_blocking(one.fileno(), True)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
        over = threading.Event()

        def silent_until(_connection: socket.socket) -> None:
            over.wait(EVENT_PATIENCE)

        with here.guest.inside():
            silent = Server(GUEST, 80, silent_until)
        with silent, ExitStack() as stack, socket.create_connection(("127.0.0.1", 8080), EVENT_PATIENCE) as client:
            stack.callback(over.set)
            here.event(NetworkEventKind.INBOUND)
            client.settimeout(QUIET)
            with suppress(TimeoutError):
                while True:
                    client.sendall(bytes(1 << 16))
            with here.guest.inside():
                ip("link", "set", "eth0", "down")  # a guest that answers nothing
            with socket.create_connection(("127.0.0.1", 8080), EVENT_PATIENCE):
                here.loop.turn(POLL)
                here.network.close(here.loop)  # a connection that lingers holds it up for an hour


def namespace_of(here: World) -> namespace.Namespace:
    """What a supervisor holds of it."""
    found = here.network._namespace
    assert found is not None
    return found


def test_a_port_that_another_has_is_refused() -> None:
    wanted = PublishedPort.parse("18080:80")
    with Server("127.0.0.1", 18080, echo), pytest.raises(RefusedError) as caught:
        listen([wanted])
    assert caught.value.codes == (ReasonCode.NETWORK_UNAVAILABLE,)
    assert "another program has it" in caught.value.hint
