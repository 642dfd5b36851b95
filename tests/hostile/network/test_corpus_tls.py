"""Corpus: TLS, what a handshake names, how it is split and hidden, and what comes of it."""

import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mvmnix.launch.network.client_hello import MAX_HELLO_BYTES, Alert, alert_record
from mvmnix.launch.network.decisions import Denial
from tests.hostile.network.clients import echo, read_all
from tests.hostile.network.corpus import Expected, allowed, assert_verdict, denied
from tests.hostile.network.servers import certificate, tls_server
from tests.hostile.network.world import OTHER, PUBLIC, Server, World, world
from tests.unit.launch.network.hellos import hello, message, of_python, record, records, server_name, server_names

pytestmark = pytest.mark.root("it makes network namespaces of its own")

API, OPEN, WEB = "api.example.com", "open.example.com", "web.example.com"
_ALLOW = (
    f"https://{API},id=api",
    f"tls:{API}:8443,id=real",
    "https://www.example.com,id=www",
    "https://*.wild.example.com,id=wild",
    f"tcp:{OPEN}:443,id=open",
    f"http://{WEB}:443,id=web",
    f"tcp:{OTHER}:443,id=address",
)
_HOSTS = f"{PUBLIC} {API} www.example.com a.wild.example.com b.wild.example.com {OPEN} {WEB}"
TICKET, KEYS, PSK, EARLY, PADDING, ECH, ESNI = 35, 51, 41, 42, 21, 0xFE0D, 0xFFCE
_RESUMED = (PSK, b"\0\x0a\0\4four\0\0\0\0" + b"\0\x21\x20" + bytes(32))


def _named(name: bytes, *extensions: tuple[int, bytes]) -> bytes:
    return records(message((server_name(name), *extensions)))


def _unnamed(*extensions: tuple[int, bytes]) -> bytes:
    return records(message(extensions))


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
_OTHER = denied(Denial.SNI_MISMATCH, "api")
_HIDDEN = denied(Denial.ECH, "api")
_LATE = (KEYS, os.urandom(1216))
HELLOS = [
    Hello("the name that was resolved", hello(), allowed("api", PUBLIC)),
    Hello("its capitals", _named(b"API.Example.COM"), allowed("api")),
    Hello("one byte at a time", hello(), allowed("api"), portion=1),
    Hello("a record for each byte", records(message(), [1] * 300), allowed("api")),
    Hello(
        "a name past byte 1,024 (post-quantum keys before it)",
        records(message((_LATE, server_name(API.encode())))),
        allowed("api"),
    ),
    Hello("padding up to 15 KiB before the name", hello((PADDING, bytes(15 << 10))), allowed("api")),
    Hello("more than 16 KiB", hello((PADDING, bytes(MAX_HELLO_BYTES))), _BAD, Alert.RECORD_OVERFLOW),
    Hello("values that are to be passed over (GREASE)", hello((0x1A1A, b""), (0xFAFA, b"\0")), allowed("api")),
    Hello("a resumed session, with its name", hello((TICKET, bytes(100)), _RESUMED), allowed("api")),
    Hello("an allowed name to another allowed one's address", _named(b"www.example.com"), _OTHER, Alert(112)),
    Hello("a name that no rule allows", _named(b"evil.example.org"), _OTHER, Alert(112)),
    Hello("a name that ends as the allowed one", _named(b"evil-api.example.com"), _OTHER, Alert(112)),
    Hello("a name that begins as the allowed one", _named(b"api.example.com.evil.org"), _OTHER, Alert(112)),
    Hello("letters that look alike, in ASCII", _named(b"xn--pi-6kc.example.com"), _OTHER, Alert(112)),
    Hello("letters that look alike, as they are", _named("\u0430pi.example.com".encode()), _BAD, Alert(112)),
    Hello("a NUL byte behind the name", _named(b"api.example.com\0.evil.org"), _BAD, Alert(112)),
    Hello("a NUL byte at its end", _named(b"api.example.com\0"), _BAD, Alert(112)),
    Hello("a dot at its end", _named(b"api.example.com."), _BAD, Alert(112)),
    Hello("an asterisk", _named(b"*.example.com"), _BAD, Alert(112)),
    Hello("the server's address", _named(PUBLIC.encode()), _BAD, Alert(112)),
    Hello("an address in decimal", _named(b"2130706433"), _BAD, Alert(112)),
    Hello("an address in hexadecimal", _named(b"0x7f000001"), _BAD, Alert(112)),
    Hello("an IPv6 address", _named(b"::1"), _BAD, Alert(112)),
    Hello(
        "two names, the allowed one first",
        records(message((server_names((0, API.encode()), (0, b"evil.example.org")),))),
        _BAD,
        Alert(112),
    ),
    Hello(
        "two extensions of names",
        records(message((server_name(API.encode()), server_name(b"evil.example.org")))),
        _BAD,
        Alert.ILLEGAL_PARAMETER,
    ),
    Hello("a name of another type", records(message((server_name(API.encode(), 1),))), _BAD, Alert(112)),
    Hello("no name", _unnamed(), denied(Denial.NO_SNI, "api"), Alert.MISSING_EXTENSION),
    Hello("no extensions at all", records(message(None)), denied(Denial.NO_SNI, "api"), Alert.MISSING_EXTENSION),
    Hello(
        "a resumed session without a name (TLS 1.2)",
        _unnamed((TICKET, bytes(100))),
        denied(Denial.NO_SNI, "api"),
        Alert.MISSING_EXTENSION,
    ),
    Hello(
        "a resumed session without a name (TLS 1.3)",
        _unnamed(_RESUMED),
        denied(Denial.NO_SNI, "api"),
        Alert.MISSING_EXTENSION,
    ),
    Hello("Encrypted ClientHello", hello((ECH, b"\0" + os.urandom(200))), _HIDDEN, Alert.ACCESS_DENIED),
    Hello("its draft, encrypted SNI", hello((ESNI, os.urandom(300))), _HIDDEN, Alert.ACCESS_DENIED),
    Hello(
        "encrypted SNI in place of a name",
        _unnamed((ESNI, os.urandom(300))),
        denied(Denial.NO_SNI, "api"),
        Alert.MISSING_EXTENSION,
    ),
    Hello("a hello of SSL 2", b"\x80\x2e\x01\x03\x01" + bytes(43), denied(Denial.PROTOCOL, "api")),
    Hello("SSL 3", records(message(), version=0x0300), _BAD, Alert.PROTOCOL_VERSION),
    Hello("an alert first", record(b"\1\0", kind=21), denied(Denial.PROTOCOL, "api")),
    Hello("application data first", record(bytes(50), kind=23), denied(Denial.PROTOCOL, "api")),
    Hello("a hello of a server", records(message(kind=2)), _BAD, Alert.UNEXPECTED_MESSAGE),
    Hello("a second message in its record", records(message() + message()), _BAD, Alert.UNEXPECTED_MESSAGE),
    Hello("an empty record within", record(message()[:9]) + record(b""), _BAD, Alert.UNEXPECTED_MESSAGE),
    Hello("a length that lies", records(message(tail=b"x")), _BAD, Alert.DECODE_ERROR),
    Hello("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n", denied(Denial.PROTOCOL, "api")),
    Hello("SOCKS5", b"\5\1\0", denied(Denial.PROTOCOL, "api")),
    Hello("SOCKS4 with a NUL in its host", b"\4\1\1\xbb\0\0\0\1\0api.example.com\0", denied(Denial.PROTOCOL, "api")),
    Hello("below a wildcard", _named(b"a.wild.example.com"), allowed("wild"), host="a.wild.example.com"),
    Hello(
        "another name below the same wildcard",
        _named(b"b.wild.example.com"),
        denied(Denial.SNI_MISMATCH, "wild"),
        Alert(112),
        host="a.wild.example.com",
    ),
    Hello("TLS where requests are the rule", _named(WEB.encode()), denied(Denial.PROTOCOL, "web"), Alert(49), WEB),
    Hello("any name where nothing is looked at", _named(b"evil.example.org"), allowed("open"), host=OPEN),
    Hello("no TLS where nothing is looked at", b"SSH-2.0-x\r\n", allowed("open"), host=OPEN),
    Hello("any name to an address that the plan names", _named(b"evil.example.org"), allowed("address"), host=OTHER),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world"), _ALLOW, hosts=_HOSTS) as made:
        yield made


@pytest.fixture(scope="module")
def servers(here: World) -> Iterator[tuple[Server, Server]]:
    with Server(PUBLIC, 443, echo) as one, Server(OTHER, 443, echo) as other:
        yield one, other


def _connected(here: World, host: str, port: int = 443) -> socket.socket:
    """A connection, of which no verdict was told yet."""
    address = host if host == OTHER else str(here.resolve(host))
    here.turn()
    here.events.clear()
    connection = here.guest.connect(address, port)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _answer(connection: socket.socket) -> bytes:
    """All that comes, up to an end or a reset."""
    try:
        return read_all(connection)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("row", HELLOS, ids=lambda it: it.tried)
def test_what_a_handshake_may_say(here: World, servers: tuple[Server, Server], row: Hello) -> None:
    for server in servers:
        server.peers.clear()
    with _connected(here, row.host) as connection:
        for at in range(0, len(row.said), row.portion):
            connection.sendall(row.said[at : at + row.portion])
        if row.expected.allowed:
            connection.shutdown(socket.SHUT_WR)
        answer = _answer(connection)
    assert_verdict(here, row.expected)
    if row.expected.allowed:
        assert answer == row.said, "the guest's own bytes are passed on"
    else:
        assert answer == (b"" if row.alert is None else alert_record(row.alert))
        assert [it.peers for it in servers] == [[], []], "nothing was dialled"


@pytest.mark.parametrize("size", [1, 5, 50, 100])
def test_a_handshake_that_ends_early(here: World, size: int) -> None:
    with _connected(here, API) as connection:
        connection.sendall(hello()[:size])
        connection.shutdown(socket.SHUT_WR)
        assert _answer(connection) == alert_record(Alert.ACCESS_DENIED)
    assert_verdict(here, _BAD)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("certificate"), API, "other.example.org")


def _say(secured: ssl.SSLSocket) -> None:
    secured.sendall(b"to " + secured.recv(200))


def test_a_name_within_tls_is_not_seen(here: World, file: Path) -> None:
    """Domain fronting, which docs/network.md says can't be held up: the handshake names one, the request another."""
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


def test_what_comes_with_a_handshake_is_passed_on(here: World, servers: tuple[Server, Server]) -> None:
    """Early data of TLS 1.3 comes in the same packets."""
    said = hello((EARLY, b""), _RESUMED) + record(os.urandom(500), kind=23)
    with _connected(here, API) as connection:
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
        assert _answer(connection) == said
    assert_verdict(here, allowed("api"))


def test_a_handshake_of_a_real_client_with_another_name(here: World, servers: tuple[Server, Server]) -> None:
    with _connected(here, API) as connection:
        connection.sendall(of_python("other.example.org"))
        assert _answer(connection) == alert_record(Alert.UNRECOGNIZED_NAME)
    assert_verdict(here, _OTHER)
