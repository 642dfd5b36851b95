"""What sandboxed git can reach through its gateway: one origin, and nothing else."""

import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from mvmnix.builder.fetch.allowlist import Url
from mvmnix.builder.fetch.routes import Endpoint, ToConfigured, ToOrigin, ToProxy
from mvmnix.builder.fetch.socks_proxy import Gateway, listening_at
from mvmnix.errors import ReasonCode, RefusedError
from tests.patience import EVENT_PATIENCE, until

HTTPS = "https:" + "//"
HELLO = b"\x05\x01\x00"
GRANTED = bytes((5, 0, 0, 1, 0, 0, 0, 0, 0, 0))


@pytest.fixture
def port() -> Iterator[int]:
    """A server that says back what it hears."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    one, _ = server.accept()
                except OSError:
                    return
                with one:
                    while data := one.recv(1 << 16):
                        one.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def gateway(path: Path, port: int, *, host: str = "127.0.0.1", local: bool = True, limit: int = 1 << 20) -> Gateway:
    return Gateway(listening_at(path / "socket"), ToOrigin(Url("http", host, port, "/", local)), limit)


def by_name(host: str, port: int, command: int = 1) -> bytes:
    return bytes((5, command, 0, 3, len(host))) + host.encode() + port.to_bytes(2, "big")


def by_address(host: str, port: int) -> bytes:
    return bytes((5, 1, 0, 1)) + socket.inet_aton(host) + port.to_bytes(2, "big")


def ask(path: Path, request: bytes) -> tuple[socket.socket, bytes]:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(EVENT_PATIENCE)
    client.connect(str(path / "socket"))
    client.sendall(HELLO)
    assert client.recv(2) == b"\x05\x00"
    client.sendall(request)
    return client, client.recv(10)


def test_the_origin_by_name_or_address(tmp_path: Path, port: int) -> None:
    with gateway(tmp_path, port):
        for request in (by_name("127.0.0.1", port), by_address("127.0.0.1", port)):
            client, answer = ask(tmp_path, request)
            with client:
                assert answer == GRANTED
                client.sendall(b"hello")
                assert client.recv(5) == b"hello"


@pytest.mark.parametrize("case", ["host", "port", "name of it", "bind"])
def test_anything_else_is_refused_and_told(tmp_path: Path, port: int, case: str) -> None:
    request = {
        "host": by_name("h.test", port),
        "port": by_address("127.0.0.1", port ^ 1),
        "name of it": by_name("localhost", port),
        "bind": by_name("127.0.0.1", port, command=2),
    }[case]
    with gateway(tmp_path, port) as opened:
        client, answer = ask(tmp_path, request)
        client.close()
        assert answer[1] == 2
        assert len(opened.refusals) == 1


def test_a_name_that_leads_to_this_machine_is_rebinding(tmp_path: Path, port: int) -> None:
    with gateway(tmp_path, port, host="localhost", local=False) as opened:
        client, answer = ask(tmp_path, by_name("localhost", port))
        client.close()
        assert answer[1] == 2
        assert "resolves to 127.0.0.1" in opened.refusals[0]


def test_nobody_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with gateway(tmp_path, port) as opened:
        client, answer = ask(tmp_path, by_name("127.0.0.1", port))
        client.close()
        assert answer[1] == 4
        assert "could not be reached" in opened.refusals[0]


def test_so_many_bytes_and_no_more(tmp_path: Path, port: int) -> None:
    with gateway(tmp_path, port, limit=64 << 10) as opened:
        client, _ = ask(tmp_path, by_name("127.0.0.1", port))
        received = 0
        with client:
            try:
                for _ in range(64):
                    client.sendall(bytes(4096))
                    received += len(client.recv(4096))
            except OSError:
                pass
        assert received <= 64 << 10
        assert "more than it may" in opened.refusals[0]


def test_it_ends_what_is_open(tmp_path: Path, port: int) -> None:
    with gateway(tmp_path, port):
        client, answer = ask(tmp_path, by_name("127.0.0.1", port))
        assert answer == GRANTED
    with client:
        assert client.recv(1) == b""


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n", b"\x04\x01", b"\x05\x01\x02", b""])
def test_who_speaks_otherwise_is_hung_up_on(tmp_path: Path, port: int, said: bytes) -> None:
    with gateway(tmp_path, port), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(EVENT_PATIENCE)
        client.connect(str(tmp_path / "socket"))
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            """As good."""


def named(monkeypatch: pytest.MonkeyPatch, names: Mapping[str, Sequence[str]]) -> None:
    """Let the resolver know these names; each connection to a public address ends, as there is none here."""

    def resolve(host: str, port: int, *_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        addresses = names.get(host, [host] if host[0].isdigit() else [])
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    def connect(server: socket.socket, address: str, port: int) -> None:
        if address != "127.0.0.1":
            raise OSError(f"would connect to {address}")
        server.connect((address, port))

    monkeypatch.setattr("mvmnix.builder.fetch.socks_proxy.socket.getaddrinfo", resolve)
    monkeypatch.setattr("mvmnix.builder.fetch.socks_proxy._reach", connect)


def configured(path: Path, *endpoints: Endpoint) -> Gateway:
    return Gateway(listening_at(path / "socket"), ToConfigured(frozenset(endpoints)), 1 << 20)


def test_a_configured_host_may_lie_anywhere(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, {"index.test": ["127.0.0.1"]})
    with configured(tmp_path, Endpoint("index.test", port)):
        client, answer = ask(tmp_path, by_name("Index.test", port))
        with client:
            assert answer == GRANTED
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"


PUBLIC, METADATA = "8.8.8.8", "169.254.169.254"


@pytest.mark.parametrize(
    ("host", "port", "answer", "why"),
    [
        ("public.test", 443, 4, "would connect to 8.8.8.8"),  # admitted
        ("public.test", 80, 4, "would connect to 8.8.8.8"),  # admitted
        ("beside.test", 443, 4, "would connect to 10.0.0.7"),  # admitted: the index itself lies there
        ("public.test", 22, 2, "only ports 80 and 443"),
        ("index.test", 444, 2, "only ports 80 and 443"),
        ("beside.test", 80, 2, "resolves to 10.0.0.7"),
        ("private.test", 443, 2, "resolves to 10.0.0.8"),
        ("loopback.test", 443, 2, "resolves to 127.0.0.1"),
        ("metadata.test", 80, 2, "resolves to 169.254.169.254"),
        ("mixed.test", 443, 2, "resolves to 169.254.169.254"),
        ("mapped.test", 443, 2, "resolves to ::ffff:10.0.0.8"),
        ("nowhere.test", 443, 4, "has no address"),
        (PUBLIC, 443, 2, "no host name"),
        (METADATA, 80, 2, "no host name"),
        ("0x7f.1", 80, 2, "no host name"),
        ("2130706433", 80, 2, "no host name"),
        ("127.1", 80, 2, "no host name"),
        ("::1", 80, 2, "no host name"),
        ("a b", 80, 2, "no host name"),
        ("a\nb", 80, 2, "a?b:80"),
        ("", 80, 2, "no host name"),
    ],
)
def test_other_hosts_only_where_every_address_is_public(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, port: int, answer: int, why: str
) -> None:
    names = {
        "index.test": ["10.0.0.7"],
        "beside.test": ["10.0.0.7"],
        "public.test": [PUBLIC],
        "private.test": ["10.0.0.8"],
        "loopback.test": ["127.0.0.1"],
        "metadata.test": [METADATA],
        "mixed.test": [PUBLIC, METADATA],
        "mapped.test": ["::ffff:10.0.0.8"],
    }
    named(monkeypatch, names)
    with configured(tmp_path, Endpoint("index.test", 443)) as opened:
        client, said = ask(tmp_path, by_name(host, port))
        client.close()
        assert said[1] == answer
        assert why in opened.refusals[0]


def test_a_proxy_is_all_there_is(tmp_path: Path, port: int) -> None:
    with (
        Gateway(listening_at(tmp_path / "socket"), ToProxy(Endpoint("127.0.0.1", port)), 1 << 20),
        socket.socket(socket.AF_UNIX) as client,
    ):
        client.settimeout(EVENT_PATIENCE)
        client.connect(str(tmp_path / "socket"))
        client.sendall(b"CONNECT h.test:443 HTTP/1.1\r\n")
        assert client.recv(64) == b"CONNECT h.test:443 HTTP/1.1\r\n"


def test_another_place_than_the_proxy_is_not_admitted() -> None:
    route = ToProxy(Endpoint("proxy.test", 3128))
    route.admit(Endpoint("proxy.test", 3128))
    for other in (Endpoint("proxy.test", 80), Endpoint("other.test", 3128)):
        with pytest.raises(RefusedError, match="is not the proxy") as refusal:
            route.admit(other)
        assert refusal.value.codes == (ReasonCode.FETCH_NOT_ALLOWED,)


def test_a_proxy_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with (
        Gateway(listening_at(tmp_path / "socket"), ToProxy(Endpoint("127.0.0.1", port)), 1 << 20) as opened,
        socket.socket(socket.AF_UNIX) as client,
    ):
        client.settimeout(EVENT_PATIENCE)
        client.connect(str(tmp_path / "socket"))
        assert client.recv(1) == b""
        assert "could not be reached" in opened.refusals[0]


def test_it_closes_while_it_connects(tmp_path: Path) -> None:
    """To a server whose queue is full: the kernel doesn't answer, and connect(2) would take minutes."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        with gateway(tmp_path, port) as opened, socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "socket"))
            client.sendall(HELLO + by_name("127.0.0.1", port))
            assert client.recv(2) == b"\x05\x00"
            until(lambda: len(opened._open) == 2)  # the client, and the server that it waits for
        for one in waiting:
            one.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mvm-gateway")]


def test_it_closes_although_every_place_is_taken(tmp_path: Path, port: int) -> None:
    with gateway(tmp_path, port):
        clients = [socket.socket(socket.AF_UNIX) for _ in range(12)]
        for client in clients[:8]:
            client.connect(str(tmp_path / "socket"))
    for client in clients:
        client.close()


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://u:p@Index.test/x", "index.test", 443),
        ("http://index.test:8080", "index.test", 8080),
        (f"{HTTPS}[::1]/", "::1", 443),
    ],
)
def test_the_endpoint_of_a_url(url: str, host: str, port: int) -> None:
    assert Endpoint.of(url) == Endpoint(host, port)


@pytest.mark.parametrize("url", ["file:///x", "index.test", HTTPS, f"{HTTPS}h:x/", "ftp://h/"])
def test_no_endpoint(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Endpoint.of(url)
