"""A network that goes out by a proxy: the rules hold, and names are the proxy's to resolve."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.network.policy.decisions import Denial
from mvmnix.network.supervisor_messages import NetworkEventKind
from tests.hostile.network.clients import echo
from tests.hostile.network.world import OTHER, PUBLIC, Server, World, beyond, world
from tests.patience import EVENT_PATIENCE

pytestmark = pytest.mark.root("it makes network namespaces of its own")
KNOWN = {"api.example.com:7": (PUBLIC, 7)}


def connect(client: socket.socket) -> None:
    """A proxy, as far as CONNECT goes, which knows one name."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    target = head.split()[1].decode()
    if target not in KNOWN:
        client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        return
    with beyond(PUBLIC), socket.create_connection(KNOWN[target], EVENT_PATIENCE) as server:
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=carry, args=(server, client))
        back.start()
        carry(client, server)
        back.join()


def carry(source: socket.socket, sink: socket.socket) -> None:
    """Bytes, and their end."""
    while data := source.recv(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    allow = ("tcp:api.example.com:7", "tcp:unknown.example.com:7")
    hosts = f"{OTHER} proxy.example.com\n"
    where = tmp_path_factory.mktemp("world")
    with (
        world(where, allow, ["denied.example.com"], hosts=hosts, proxy="proxy.example.com:3128") as made,
        Server(OTHER, 3128, connect),
        Server(PUBLIC, 7, echo),
    ):
        yield made


def test_a_connection_goes_by_the_proxy(here: World) -> None:
    address = here.resolve("api.example.com")
    assert address
    with here.guest.connect(address, 7) as connection:
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    opened = here.event(NetworkEventKind.OPENED, name="api.example.com")
    assert (opened.rule, opened.address) == ("allow-1", OTHER)


def test_what_the_proxy_refuses_has_a_code(here: World) -> None:
    address = here.resolve("unknown.example.com")
    assert address
    with pytest.raises(ConnectionResetError), here.guest.connect(address, 7) as connection:
        connection.recv(1)
    assert here.event(NetworkEventKind.DENIED, name="unknown.example.com", port=7).code == Denial.PROXY_REFUSED


def test_the_rules_hold(here: World) -> None:
    assert here.resolve("denied.example.com") is None
    assert here.resolve("proxy.example.com") is None
    for address, port in ((OTHER, 3128), (PUBLIC, 7)):
        with pytest.raises(ConnectionRefusedError):
            here.guest.connect(address, port)


def test_no_variable_names_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{OTHER}:3128")
    with world(tmp_path, ["tcp:api.example.com:7"], hosts=f"{PUBLIC} api.example.com\n") as it, Server(PUBLIC, 7, echo):
        address = it.resolve("api.example.com")
        assert address
        with it.guest.connect(address, 7) as connection:
            connection.sendall(b"hello")
            assert connection.recv(100) == b"hello"
        assert it.event(NetworkEventKind.OPENED).address == PUBLIC
