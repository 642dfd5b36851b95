"""What jailed git can reach through its gateway: one origin, and nothing else."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.builder.fetch.allow import Url
from mvmnix.builder.fetch.gateway import Gateway

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
    return Gateway(Url("http", host, port, "/", local), path / "socket", limit)


def by_name(host: str, port: int, command: int = 1) -> bytes:
    return bytes((5, command, 0, 3, len(host))) + host.encode() + port.to_bytes(2, "big")


def by_address(host: str, port: int) -> bytes:
    return bytes((5, 1, 0, 1)) + socket.inet_aton(host) + port.to_bytes(2, "big")


def ask(path: Path, request: bytes) -> tuple[socket.socket, bytes]:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
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
        client.settimeout(10)
        client.connect(str(tmp_path / "socket"))
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            """As good."""
