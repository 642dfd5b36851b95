"""Asking a proxy for a connection: what it may answer, and that not a byte more than its answer's head is taken."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from mvmnix.launch.network import proxying
from mvmnix.launch.network.decisions import Denial, Rules
from mvmnix.launch.network.dialler import Dialler
from mvmnix.launch.network.messages import MOST, Ask, Reply, pair
from mvmnix.launch.network.proxying import ProxyRefusedError, ask_for, may_be_proxy
from mvmnix.launch.plan import Network, UpstreamProxy, parse_rules
from mvmnix.privileges import received

ASKED = b"CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n"


@contextmanager
def proxy(*answers: bytes) -> Iterator[socket.socket]:
    """A connection to one that reads what it is asked, and then says this, a part at a time."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs, suppress(OSError):
            assert theirs.recv(1000) == ASKED
            for answer in answers:
                theirs.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    with ours:
        yield ours
    thread.join()


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200\r\n\r\n",
        b"HTTP/1.1 299 x\r\nVia: 1.1 proxy\r\n\r\n",
    ],
)
def test_what_comes_behind_the_head_stays(head: bytes) -> None:
    """A server may speak first."""
    with proxy(head + b"220 hello") as connection:
        ask_for(connection, "api.example.com", 443)
        assert connection.recv(100) == b"220 hello"


def test_a_head_in_parts() -> None:
    parts = [bytes([byte]) for byte in b"HTTP/1.1 200 ok\r\n\r\nrest"]
    with proxy(*parts) as connection:
        ask_for(connection, "api.example.com", 443)
        assert connection.recv(100, socket.MSG_WAITALL) == b"rest"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        b"HTTP/2 200 ok\r\n\r\n",
        b"HTTP/1.1 2000 ok\r\n\r\n",
        b" HTTP/1.1 200 ok\r\n\r\n",
        b"SSH-2.0-server\r\n",
        b"HTTP/1.1 200 ok\r\n",
        b"HTTP/1.1 200 ok\n\n",
        b"",
        b"HTTP/1.1 200 " + b"x" * 20_000,
    ],
)
def test_anything_else_is_no_connection(answer: bytes) -> None:
    with proxy(answer) as connection, pytest.raises(ProxyRefusedError):
        ask_for(connection, "api.example.com", 443)


def test_a_slow_proxy_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxying, "_SECONDS", 0.2)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimeoutError):
        ask_for(ours, "api.example.com", 443)


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("93.184.216.34", True),
        ("10.0.0.7", True),
        ("100.64.0.1", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("fd00::7", True),
        ("169.254.169.254", False),
        ("169.254.0.7", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("100.100.100.200", False),
        ("::ffff:169.254.169.254", False),
    ],
)
def test_where_a_proxy_may_be(address: str, *, may: bool) -> None:
    assert may_be_proxy(address) is may


def dialled(proxy: UpstreamProxy, *asks: Ask) -> Iterator[tuple[Reply, socket.socket | None]]:
    """What a dialler with this proxy answers to each of these."""
    plan = Network(parse_rules(["https://api.example.com"], []))
    (answers, asked), (told, events) = pair(), pair()
    with answers, asked, told, events:
        dialler = Dialler(asked, events, Rules(plan), proxy)
        for ask in asks:
            dialler.dial(ask)
            packet, found, _ = received(answers, MOST, 1)
            yield Reply.parse(packet), socket.socket(fileno=found[0]) if found else None


@pytest.mark.parametrize(
    ("answer", "code"), [(b"HTTP/1.1 200 ok\r\n\r\nhi", None), (b"HTTP/1.1 502 no\r\n\r\n", Denial.PROXY_REFUSED)]
)
def test_a_dialler_with_a_proxy(answer: bytes, code: Denial | None) -> None:
    """The name isn't resolved here: it has no address that this host could know."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = UpstreamProxy("127.0.0.1", server.getsockname()[1])
        said: list[bytes] = []

        def serve() -> None:
            with server.accept()[0] as accepted:
                said.append(accepted.recv(1000))
                accepted.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        # what the rule doesn't allow isn't asked for
        (reply, connection), (other, none) = dialled(
            proxy, Ask(7, "allow-1", "api.example.com", 443), Ask(8, "allow-1", "other.example.com", 443)
        )
        thread.join()
        assert (reply, said) == (Reply(7, code, "allow-1", "127.0.0.1"), [ASKED])
        assert (connection is None) == (code is not None)
        if connection is not None:
            connection.setblocking(True)
            assert connection.recv(10) == b"hi"
            connection.close()
        assert (other.code, none) == (Denial.NO_RULE, None)


def test_a_proxy_that_is_nowhere_it_may_be() -> None:
    ((reply, connection),) = dialled(UpstreamProxy("169.254.169.254", 80), Ask(7, "allow-1", "api.example.com", 443))
    assert (reply.code, reply.address, connection) == (Denial.ADDRESS_NOT_PUBLIC, "169.254.169.254", None)
