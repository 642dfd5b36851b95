"""Corpus: HTTP, what a request may ask for, how it may be framed, and what a server may answer."""

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pytest

from mvmnix.launch.network.decisions import Denial
from mvmnix.launch.network.messages import NetworkEventKind
from tests.hostile.network.corpus import Expected, allowed, assert_verdict, denied, verdicts
from tests.hostile.network.servers import http
from tests.hostile.network.test_connections import read_all
from tests.hostile.network.world import OTHER, PUBLIC, Server, World, world
from tests.patience import EVENT_PATIENCE, POLL

pytestmark = pytest.mark.root("it makes network namespaces of its own")

API, PATHS, ODD = "api.example.com", "www.example.com", "odd.example.com"
_ALLOW = (
    f"http://{API},id=api",
    f"https://{API},id=tls",
    f"http://{PATHS}/simple,method=GET,method=HEAD,id=paths",
    "http://*.wild.example.com,id=wild",
    "http://chat.example.com,id=chat",
    "http://odd.example.com:8000,id=odd",
)
_DENY = ("http://www.example.com/simple/secret,id=secret",)
_HOSTS = f"{PUBLIC} {API} {PATHS} a.wild.example.com chat.example.com odd.example.com\n{OTHER} evil.example.org"


@dataclass(frozen=True, slots=True)
class Request:
    """What a guest says first, to a host's port."""

    tried: str
    said: bytes
    expected: Expected
    host: str = API
    port: int = 80


def _get(*lines: str, path: str = "/", host: str = API, method: str = "GET", body: bytes = b"") -> bytes:
    head = (f"{method} {path} HTTP/1.1", *([f"Host: {host}"] if host else []), *lines, "", "")
    return "\r\n".join(head).encode("latin-1") + body


_BAD, _HOST = denied(Denial.BAD_HTTP, "api"), denied(Denial.HOST_MISMATCH, "api")
_PATH, _METHOD = denied(Denial.PATH, "paths"), denied(Denial.METHOD, "paths")
_PROTOCOL = denied(Denial.PROTOCOL, "api")
_CHUNKED = "Transfer-Encoding: chunked"
FIRST = [
    Request("a request", _get(), allowed("api", PUBLIC)),
    Request("the port in its Host", _get(host=f"{API}:80"), allowed("api")),
    Request("capitals in its Host", _get(host="API.Example.Com"), allowed("api")),
    Request("a body", _get("Content-Length: 5", method="POST", body=b"hello"), allowed("api")),
    Request("a body in chunks", _get(_CHUNKED, method="POST", body=b"5\r\nhello\r\n0\r\n\r\n"), allowed("api")),
    Request("below a wildcard", _get(host="a.wild.example.com"), allowed("wild"), "a.wild.example.com"),
    Request("an allowed path", _get(path="/simple/x?y=/../z", host=PATHS), allowed("paths"), PATHS),
    # Host
    Request("another Host", _get(host="evil.example.org"), _HOST),
    Request("another allowed Host", _get(host=PATHS), _HOST),
    Request(
        "another Host below the same wildcard",
        _get(host="b.wild.example.com"),
        denied(Denial.HOST_MISMATCH, "wild"),
        "a.wild.example.com",
    ),
    Request("a Host that ends as the allowed one", _get(host="evil-api.example.com"), _HOST),
    Request("a Host that begins as the allowed one", _get(host="api.example.com.evil.org"), _HOST),
    Request("another port in its Host", _get(host=f"{API}:8080"), _HOST),
    Request("no port behind a colon", _get(host=f"{API}:"), _HOST),
    Request("a port with a sign", _get(host=f"{API}:+80"), _HOST),
    Request("a dot at the end of its Host", _get(host=f"{API}."), _HOST),
    Request("a user in its Host", _get(host=f"{API}@evil.example.org"), _HOST),
    Request("the server's address as Host", _get(host=PUBLIC), _HOST),
    Request("an address in decimal as Host", _get(host="2130706433"), _HOST),
    Request("the metadata service as Host", _get(host="169.254.169.254"), _HOST),
    Request("no Host", _get(host=""), _HOST),
    Request("an empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", _HOST),
    Request("two Hosts", _get("Host: evil.example.org"), _HOST),
    Request("the same Host twice", _get(f"Host: {API}"), _HOST),
    Request("letters that look alike in its Host", _get(host="\xe0pi.example.com"), _HOST),
    Request("a NUL byte in its Host", _get(host=f"{API}\0.evil.org"), _HOST),
    # targets
    Request("a URL as its target", _get(path=f"http://{API}/"), _BAD),
    Request("a URL of another host, as a client of a proxy", _get(path="http://evil.example.org/"), _BAD),
    Request("a URL of the metadata service", _get(path="http://169.254.169.254/latest/"), _BAD),
    Request("CONNECT to another host", _get(path="evil.example.org:443", method="CONNECT"), _BAD),
    Request("CONNECT to itself", _get(path=f"{API}:80", method="CONNECT"), _BAD),
    Request("CONNECT with a path", _get(method="CONNECT"), _BAD),
    Request("an asterisk", _get(path="*", method="OPTIONS"), _BAD),
    Request("an authority", _get(path="evil.example.org"), _BAD),
    Request("a fragment", _get(path="/#@evil.example.org/"), _BAD),
    # how it ends, for two readers (smuggling)
    Request("Content-Length and Transfer-Encoding", _get("Content-Length: 4", _CHUNKED, body=b"0\r\n\r\n"), _BAD),
    Request("Transfer-Encoding and Content-Length", _get(_CHUNKED, "Content-Length: 4", body=b"0\r\n\r\n"), _BAD),
    Request("two lengths", _get("Content-Length: 5", "Content-Length: 6", body=b"hello!"), _BAD),
    Request("the same length twice", _get("Content-Length: 5", "Content-Length: 5", body=b"hello"), _BAD),
    Request("a list of lengths", _get("Content-Length: 5, 5", body=b"hello"), _BAD),
    Request("a length with a sign", _get("Content-Length: +5", body=b"hello"), _BAD),
    Request("a length in hexadecimal", _get("Content-Length: 0x5", body=b"hello"), _BAD),
    Request("a length of very many digits", _get(f"Content-Length: {'9' * 30}"), _BAD),
    Request("another coding before chunked", _get("Transfer-Encoding: gzip, chunked"), _BAD),
    Request("chunked and then identity", _get("Transfer-Encoding: chunked, identity"), _BAD),
    Request("chunked twice", _get(_CHUNKED, _CHUNKED), _BAD),
    Request("almost chunked", _get("Transfer-Encoding: xchunked"), _BAD),
    Request("chunked with a vertical tab", _get("Transfer-Encoding: \x0bchunked"), _BAD),
    Request("a blank before the colon", _get("Transfer-Encoding : chunked"), _BAD),
    Request("a folded field", _get("Transfer-Encoding:", " chunked"), _BAD),
    Request(
        "chunked in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: api.example.com\r\n" + _CHUNKED.encode() + b"\r\n\r\n", _BAD
    ),
    Request("lines that end with LF", b"GET / HTTP/1.1\nHost: api.example.com\n\n", _BAD),
    Request("a line that ends with CR", b"GET / HTTP/1.1\r\nHost: api.example.com\rX: y\r\n\r\n", _BAD),
    Request("a NUL byte in a field", _get("X: a\0b"), _BAD),
    Request("a field without a colon", _get("chunked"), _BAD),
    Request("a name of a field in other letters", _get("H\xf6st: evil.example.org"), _BAD),
    Request("Connection takes the Host away", _get("Connection: close, host"), _BAD),
    Request("Connection takes the length away", _get("Connection: content-length", "Content-Length: 5"), _BAD),
    Request("an expectation", _get("Expect: evil", "Content-Length: 5"), _BAD),
    Request("a head without an end", _get(*(f"X-{it}: {'x' * 1000}" for it in range(40))), _BAD),
    # other protocols
    Request(
        "an upgrade to h2c", _get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: A"), _BAD
    ),
    Request("HTTP/2 at once", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), _BAD),
    Request("an upgrade to TLS", _get("Connection: Upgrade", "Upgrade: TLS/1.0"), _BAD),
    Request("a WebSocket by POST", _get("Connection: Upgrade", "Upgrade: websocket", method="POST"), _BAD),
    Request("a WebSocket and h2c", _get("Connection: Upgrade", "Upgrade: websocket, h2c"), _BAD),
    Request("HTTP/0.9", b"GET /\r\n", _BAD),
    Request("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: api.example.com\r\n\r\n", _BAD),
    Request("HTTP/2.0 as a version", b"GET / HTTP/2.0\r\nHost: api.example.com\r\n\r\n", _BAD),
    Request("a method in lower case", b"get / HTTP/1.1\r\nHost: api.example.com\r\n\r\n", _PROTOCOL),
    Request("an empty line first", b"\r\nGET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n", _PROTOCOL),
    Request("SOCKS5", b"\5\1\0", _PROTOCOL),
    Request("SSH", b"SSH-2.0-x\r\n", _PROTOCOL),
    Request("TLS", b"\x16\3\1\0\5\1\0\0\1\3", _PROTOCOL),
    Request("a request where TLS is the rule", _get(), denied(Denial.PROTOCOL, "tls"), port=443),
    Request("a port without a rule", _get(), denied(Denial.PORT_NOT_ALLOWED), port=8080),
    Request("CONNECT to the port of a proxy", _get(method="CONNECT"), denied(Denial.PORT_NOT_ALLOWED), port=3128),
    Request("a host's port that another host has", _get(), denied(Denial.PORT_NOT_ALLOWED), port=8000),
    # paths and methods
    Request("another path", _get(path="/", host=PATHS), _PATH, PATHS),
    Request("a path that begins alike", _get(path="/simplex", host=PATHS), _PATH, PATHS),
    Request("another path in capitals", _get(path="/SIMPLE", host=PATHS), _PATH, PATHS),
    Request("dots", _get(path="/simple/../admin", host=PATHS), denied(Denial.PATH, "secret"), PATHS),
    Request("escaped dots", _get(path="/simple/%2e%2E/admin", host=PATHS), denied(Denial.PATH, "secret"), PATHS),
    Request("an escaped slash", _get(path="/simple/..%2fadmin", host=PATHS), denied(Denial.PATH, "secret"), PATHS),
    Request("a backslash", _get(path="/simple/..\\admin", host=PATHS), denied(Denial.PATH, "secret"), PATHS),
    Request(
        "dots behind a semicolon", _get(path="/simple/..;/admin", host=PATHS), denied(Denial.PATH, "secret"), PATHS
    ),
    Request("an empty segment", _get(path="/simple//admin", host=PATHS), denied(Denial.PATH, "secret"), PATHS),
    Request("a denied path", _get(path="/simple/secret", host=PATHS), denied(Denial.DENIED_BY_RULE, "secret"), PATHS),
    Request(
        "a denied path, escaped and in capitals",
        _get(path="/simple/%73ECRET/x", host=PATHS),
        denied(Denial.DENIED_BY_RULE, "secret"),
        PATHS,
    ),
    Request("another method", _get(path="/simple", host=PATHS, method="DELETE"), _METHOD, PATHS),
    Request("a method of this client's own", _get(path="/simple", host=PATHS, method="GETX"), _METHOD, PATHS),
]

_AT = f"{ODD}:8000"
_THEN = _get(host="evil.example.org", path="/evil")
#: What follows an allowed request over the same connection.
LATER = [
    Request("another Host", _THEN, _HOST),
    Request("another allowed Host", _get(host=PATHS), _HOST),
    Request("a URL of another host", _get(path="http://evil.example.org/"), _BAD),
    Request("CONNECT", _get(path="evil.example.org:443", method="CONNECT"), _BAD),
    Request("two lengths", _get("Content-Length: 5", "Content-Length: 6", body=b"hello!"), _BAD),
    Request("h2c", _get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: A"), _BAD),
    Request("a body that is no request's", b"hello, world\r\n", _BAD),
    Request("a request behind a body", _get("Content-Length: 5", body=b"hello" + _THEN), _HOST),
    Request("a request behind chunks", _get(_CHUNKED, body=b"0\r\n\r\n" + _THEN), _HOST),
    Request("a chunk's extension", _get(_CHUNKED, body=b"5;x=y\r\nhello\r\n0\r\n\r\n"), _BAD),
    Request("a chunk's size with 0x", _get(_CHUNKED, body=b"0x5\r\nhello\r\n0\r\n\r\n"), _BAD),
    Request("a chunk's size with a sign", _get(_CHUNKED, body=b"-5\r\nhello\r\n0\r\n\r\n"), _BAD),
    Request("a chunk that ends with LF", _get(_CHUNKED, body=b"5\nhello\n0\n\n"), _BAD),
    Request("a chunk longer than its size", _get(_CHUNKED, body=b"5\r\nhello!!\r\n0\r\n\r\n"), _BAD),
    Request("fields behind chunks", _get(_CHUNKED, body=b"0\r\nHost: evil.example.org\r\n\r\n"), _BAD),
    Request("another path", _get(path="/", host=PATHS), denied(Denial.PATH, "paths"), PATHS),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world"), _ALLOW, _DENY, hosts=_HOSTS) as made:
        yield made


class Recorder:
    """Servers at the rules' ports that keep all that they get."""

    def __init__(self) -> None:
        self.got = b""

    def serve(self, connection: socket.socket) -> None:
        http(connection, self._keep)

    def _keep(self, data: bytes) -> None:
        self.got += data


@pytest.fixture(scope="module")
def recorder(here: World) -> Iterator[Recorder]:
    made = Recorder()
    with Server(PUBLIC, 80, made.serve), Server(PUBLIC, 443, made.serve), Server(PUBLIC, 8080, made.serve):
        yield made


@contextmanager
def connected(here: World, host: str = API, port: int = 80) -> Iterator[socket.socket]:
    """A connection, of which no verdict was told yet."""
    address = str(here.resolve(host))
    here.turn()
    here.events.clear()
    with here.guest.connect(address, port) as connection:
        yield connection


def _answer(connection: socket.socket) -> bytes:
    try:
        return read_all(connection)
    except ConnectionResetError:
        return b"reset"


def _refusals(answer: bytes) -> list[str]:
    """The codes of the answers that refuse."""
    return re.findall(r"HTTP/1\.1 403 Forbidden\r\n(?:[^\r]+\r\n)+\r\n\S+ is refused \[([a-z-]+)\]", answer.decode())


@pytest.mark.parametrize("row", FIRST, ids=lambda it: it.tried)
def test_what_a_first_request_may_be(here: World, recorder: Recorder, row: Request) -> None:
    recorder.got = b""
    with connected(here, row.host, row.port) as connection:
        connection.sendall(row.said)
        if row.expected.allowed:
            connection.shutdown(socket.SHUT_WR)
        answer = _answer(connection)
    assert_verdict(here, row.expected)
    if row.expected.allowed:
        assert recorder.got == row.said, "the guest's own bytes are passed on"
        assert answer.startswith(b"HTTP/1.1 200 ")
        return
    assert recorder.got == b"", "nothing was dialled"
    spoken = re.match(rb"[A-Z]+ ", row.said) is not None
    tls = row.said[:1] == b"\x16"
    assert _refusals(answer) == ([str(row.expected.code)] if spoken else [])
    assert answer.startswith(b"HTTP/1.1 403 " if spoken else b"\x15" if tls else b"reset")


@pytest.mark.parametrize("pipelined", [False, True], ids=["once it is answered", "at once"])
@pytest.mark.parametrize("row", LATER, ids=lambda it: it.tried)
def test_what_a_later_request_may_be(here: World, recorder: Recorder, row: Request, *, pipelined: bool) -> None:
    recorder.got, first = b"", _get(host=row.host, path="/simple/first")
    answer = b""
    with connected(here, row.host) as connection:
        connection.sendall(first + (row.said if pipelined else b""))
        if not pipelined:
            answer = connection.recv(4096)
            connection.sendall(row.said)
        answer += _answer(connection)
    expected = Expected(row.expected.rule or "api", row.expected.code)
    assert_verdict(here, expected, earlier=1)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert _refusals(answer) == [str(row.expected.code)]
    assert recorder.got.startswith(first)
    assert b"evil" not in recorder.got


@pytest.mark.parametrize("portion", [1, 2, 7])
def test_a_request_that_comes_in_portions(here: World, recorder: Recorder, portion: int) -> None:
    """The first of which doesn't say yet that it is one."""
    recorder.got, said = b"", _get()
    with connected(here) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(said), portion):
            connection.sendall(said[at : at + portion])
            here.loop.turn(POLL / 4)
        connection.shutdown(socket.SHUT_WR)
        assert _answer(connection).startswith(b"HTTP/1.1 200 ")
    assert_verdict(here, allowed("api"))
    assert recorder.got == said


def test_very_many_requests_at_once(here: World) -> None:
    def silent(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    with Server(PUBLIC, 8000, silent), connected(here, ODD, 8000) as connection:
        connection.sendall(_get(host=_AT) * 200)
        here.until(lambda: any(it.kind is NetworkEventKind.OPENED for it in here.events))
        connection.shutdown(socket.SHUT_RDWR)
    assert verdicts(here)[0].rule == "odd"


@pytest.mark.parametrize("word", [b"HTTP/1.1 100 Continue\r\n\r\n", b"1\r\nx\r\n"], ids=["interim answers", "chunks"])
def test_a_server_that_says_very_much_holds_up_its_own_connection(here: World, word: bytes) -> None:
    def endless(connection: socket.socket) -> None:
        connection.recv(65536)
        with suppress(OSError):
            if not word.startswith(b"HTTP"):
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                connection.sendall(word * 4096)

    def read() -> None:
        with suppress(OSError):
            while connection.recv(1 << 20):
                pass

    with Server(PUBLIC, 8000, endless), connected(here, ODD, 8000) as connection:
        connection.sendall(_get(host=_AT))
        reading = threading.Thread(target=read)
        reading.start()
        try:
            here.until(lambda: any(it.kind is NetworkEventKind.OPENED for it in here.events))
            for _ in range(3):
                with connected(here) as other:
                    other.settimeout(EVENT_PATIENCE)
                    other.sendall(_get())
                    assert other.recv(4096).startswith(b"HTTP/1.1 200 ")
        finally:
            connection.shutdown(socket.SHUT_RDWR)
            reading.join()


def test_a_websocket_passes_once_the_server_switched(here: World, recorder: Recorder) -> None:
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==")
    recorder.got = b""
    with connected(here, "chat.example.com") as connection:
        connection.sendall(_get(*upgrade, host="chat.example.com"))
        assert b"101 Switching" in connection.recv(4096)
        connection.sendall(b"\x81\x05hello" + _THEN)
        assert connection.recv(4096).startswith(b"\x81\x05hello")
    assert_verdict(here, allowed("chat", PUBLIC))


@pytest.mark.parametrize("location", ["http://evil.example.org/", "http://evil.wild.example.net/"])
def test_a_redirect_leads_to_no_other_host(here: World, location: str) -> None:
    def redirect(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())

    with Server(PUBLIC, 8000, redirect), connected(here, ODD, 8000) as connection:
        connection.sendall(_get(host=_AT))
        assert f"Location: {location}".encode() in connection.recv(4096)
    assert_verdict(here, allowed("odd"))
    here.events.clear()
    assert here.resolve(location.split("/")[2]) is None
    assert_verdict(here, denied(Denial.NO_RULE), names=True)


@pytest.mark.parametrize("address", ["169.254.169.254", "127.0.0.2", OTHER, "10.0.0.1"])
def test_a_redirect_leads_to_no_address(here: World, address: str) -> None:
    with pytest.raises(ConnectionRefusedError):
        here.guest.connect(address, 80)


_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def _says(data: bytes, then: Callable[[socket.socket], object] = lambda _: None) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(data)
        then(connection)

    return serve


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


#: What a server answers that can't be followed, or that was not asked for.
ANSWERS = {
    "an answer that was not asked for": _OK + _OK,
    "a switch that was not asked for": _SWITCH,
    "no answer of HTTP/1.1": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "a head without an end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_cant_be_followed(here: World, answer: bytes) -> None:
    with Server(PUBLIC, 8000, _says(answer, lambda it: it.recv(1))), connected(here, ODD, 8000) as connection:
        connection.sendall(_get(host=_AT))
        assert _answer(connection) == b"reset"
        assert here.event(NetworkEventKind.CLOSED).code == Denial.BAD_ANSWER
    assert_verdict(here, allowed("odd", PUBLIC))


def test_a_server_that_answers_before_it_has_all(here: World) -> None:
    with Server(PUBLIC, 8000, _says(_OK)), connected(here, ODD, 8000) as connection:
        connection.sendall(_get("Content-Length: 1000000", host=_AT, method="POST", body=b"x"))
        assert _answer(connection) == _OK
    assert_verdict(here, allowed("odd"))


def test_a_server_that_resets(here: World) -> None:
    with (
        Server(PUBLIC, 8000, _says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", _reset)),
        connected(here, ODD, 8000) as connection,
    ):
        connection.sendall(_get(host=_AT))
        assert _answer(connection) == b"reset"
    assert_verdict(here, allowed("odd"))


def test_no_refusal_stands_within_an_answer(here: World) -> None:
    """A server that ends before its answer has: a client would take the refusal for the rest of it."""
    with (
        Server(PUBLIC, 8000, _says(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nbegin")),
        connected(here, ODD, 8000) as connection,
    ):
        connection.sendall(_get(host=_AT) + _THEN)
        answer = _answer(connection)
    assert_verdict(here, denied(Denial.HOST_MISMATCH, "odd"), earlier=1)
    assert b"403" not in answer


def test_a_refusal_has_no_body_where_a_client_expects_none(here: World) -> None:
    with connected(here, PATHS) as connection:
        connection.sendall(_get(path="/", host=PATHS, method="HEAD"))
        head, _, body = _answer(connection).partition(b"\r\n\r\n")
    assert_verdict(here, _PATH)
    assert head.startswith(b"HTTP/1.1 403 ")
    assert body == b""


def test_what_waits_behind_an_upgrade_is_read_if_the_server_declines(here: World) -> None:
    """The answer that declines has to arrive, and then the refusal of what was hidden behind it."""
    upgrade = ("Connection: Upgrade", "Upgrade: websocket")
    got: list[bytes] = []

    def declines(connection: socket.socket) -> None:
        got.append(connection.recv(65536))
        connection.sendall(_OK)
        while data := connection.recv(65536):
            got.append(data)

    with Server(PUBLIC, 8000, declines), connected(here, ODD, 8000) as connection:
        connection.sendall(_get(*upgrade, host=_AT) + _THEN)
        answer = _answer(connection)
    assert_verdict(here, denied(Denial.HOST_MISMATCH, "odd"), earlier=1)
    assert answer.startswith(_OK)
    assert _refusals(answer) == [Denial.HOST_MISMATCH]
    assert b"evil" not in b"".join(got)
