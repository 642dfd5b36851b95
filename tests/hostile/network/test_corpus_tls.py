"""Corpus: TLS, what a handshake names, how it is split and hidden, and what comes of it."""

import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mvmnix.network.gateway.client_hello import MAX_HELLO_BYTES, Alert, alert_record
from mvmnix.network.policy.decisions import Denial
from tests.hostile.network.clients import echo, read_answer
from tests.hostile.network.corpus import Expected, allowed, assert_verdict, denied
from tests.hostile.network.servers import certificate, tls_server
from tests.hostile.network.world import PUBLIC, Server, World, world
from tests.unit.network.hellos import hello, message, record, records, server_name

pytestmark = pytest.mark.root("it makes network namespaces of its own")

API, OPEN = "api.example.com", "open.example.com"
_ALLOW = (
    f"https://{API},id=api",
    f"tls:{API}:8443,id=real",
    "https://www.example.com,id=www",
    "https://*.wild.example.com,id=wild",
    f"tcp:{OPEN}:443,id=open",
)
_HOSTS = f"{PUBLIC} {API} www.example.com a.wild.example.com {OPEN}"
KEYS, PSK, EARLY, PADDING, ECH = 51, 41, 42, 21, 0xFE0D
_RESUMED = (PSK, b"\0\x0a\0\4four\0\0\0\0" + b"\0\x21\x20" + bytes(32))


def _named(name: bytes) -> bytes:
    return records(message((server_name(name),)))


@dataclass(frozen=True, slots=True)
class Hello:
    """What a guest says first to a host at port 443, and the alert that it gets where it is refused."""

    tried: str
    said: bytes
    expected: Expected
    alert: Alert | None = None
    host: str = API
    portion: int = 65536


_BAD = denied(Denial.BAD_CLIENT_HELLO, "api")
_LATE = (KEYS, os.urandom(1216))
#: One for each code, and what comes in several portions; all faults of a hello, and what rules say of its name, are
#: rows of test_client_hello.py and of test_decisions.py in tests/unit/network.
HELLOS = [
    Hello("the name that was resolved", hello(), allowed("api", PUBLIC)),
    Hello("one byte at a time", hello(), allowed("api"), portion=1),
    Hello(
        "a name past byte 1,024 (post-quantum keys before it)",
        records(message((_LATE, server_name(API.encode())))),
        allowed("api"),
    ),
    Hello("more than 16 KiB", hello((PADDING, bytes(MAX_HELLO_BYTES))), _BAD, Alert.RECORD_OVERFLOW),
    Hello(
        "an allowed name to another allowed one's address",
        _named(b"www.example.com"),
        denied(Denial.SNI_MISMATCH, "api"),
        Alert(112),
    ),
    Hello("a NUL byte behind the name", _named(b"api.example.com\0.evil.org"), _BAD, Alert(112)),
    Hello("no name", records(message(())), denied(Denial.NO_SNI, "api"), Alert.MISSING_EXTENSION),
    Hello(
        "Encrypted ClientHello",
        hello((ECH, b"\0" + os.urandom(200))),
        denied(Denial.ECH, "api"),
        Alert.ACCESS_DENIED,
    ),
    Hello("a hello of SSL 2", b"\x80\x2e\x01\x03\x01" + bytes(43), denied(Denial.PROTOCOL, "api")),
    Hello("below a wildcard", _named(b"a.wild.example.com"), allowed("wild"), host="a.wild.example.com"),
    Hello("any name where nothing is looked at", _named(b"evil.example.org"), allowed("open"), host=OPEN),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world"), _ALLOW, hosts=_HOSTS) as made:
        yield made


@pytest.fixture(scope="module")
def server(here: World) -> Iterator[Server]:
    with Server(PUBLIC, 443, echo) as made:
        yield made


def _connected(here: World, host: str, port: int = 443) -> socket.socket:
    """A connection, of which no verdict was told yet."""
    connection = here.guest.connect(here.find(host), port)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


@pytest.mark.parametrize("row", HELLOS, ids=lambda it: it.tried)
def test_what_a_handshake_may_say(here: World, server: Server, row: Hello) -> None:
    server.peers.clear()
    with _connected(here, row.host) as connection:
        for at in range(0, len(row.said), row.portion):
            connection.sendall(row.said[at : at + row.portion])
        if row.expected.allowed:
            connection.shutdown(socket.SHUT_WR)
        answer = read_answer(connection)
    assert_verdict(here, row.expected)
    if row.expected.allowed:
        assert answer == row.said, "the guest's own bytes are passed on"
    else:
        assert answer == (b"reset" if row.alert is None else alert_record(row.alert))
        assert server.peers == [], "nothing was dialed"


def test_a_handshake_that_ends_early(here: World) -> None:
    with _connected(here, API) as connection:
        connection.sendall(hello()[:50])
        connection.shutdown(socket.SHUT_WR)
        assert read_answer(connection) == alert_record(Alert.ACCESS_DENIED)
    assert_verdict(here, _BAD)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("certificate"), API, "other.example.org")


def _say(secured: ssl.SSLSocket) -> None:
    secured.sendall(b"to " + secured.recv(200))


def test_a_name_within_tls_is_not_seen(here: World, file: Path) -> None:
    """Domain fronting, which docs/reference/network.md says can't be held up: handshake and request name two hosts."""
    context = ssl.create_default_context(cafile=str(file))
    request = b"GET / HTTP/1.1\r\nHost: other.example.org\r\n\r\n"
    with (
        tls_server(PUBLIC, 8443, file, _say),
        _connected(here, API, 8443) as connection,
        context.wrap_socket(connection, server_hostname=API) as secured,
    ):
        secured.sendall(request)
        assert secured.recv(200) == b"to " + request
    assert_verdict(here, allowed("real", PUBLIC))


def test_a_session_is_resumed_with_its_name_and_not_without(here: World, file: Path) -> None:
    context = ssl.create_default_context(cafile=str(file))
    context.check_hostname = False
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with tls_server(PUBLIC, 8443, file, _say) as server:
        session: ssl.SSLSession | None = None
        for _ in range(2):
            connection = _connected(here, API, 8443)
            with connection, context.wrap_socket(connection, server_hostname=API, session=session) as secured:
                secured.sendall(b"guest")
                assert secured.recv(10) == b"to guest"
                assert secured.session_reused == (session is not None)
                session = secured.session
            assert_verdict(here, allowed("real"))
        server.peers.clear()
        connection = _connected(here, API, 8443)
        with connection, pytest.raises(ssl.SSLError, match="MISSING_EXTENSION"):
            context.wrap_socket(connection, session=session)
        assert server.peers == []
    assert_verdict(here, denied(Denial.NO_SNI, "real"))


def test_what_comes_with_a_handshake_is_passed_on(here: World, server: Server) -> None:
    """Early data of TLS 1.3 comes in the same packets."""
    said = hello((EARLY, b""), _RESUMED) + record(os.urandom(500), kind=23)
    with _connected(here, API) as connection:
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
        assert read_answer(connection) == said
    assert_verdict(here, allowed("api"))
