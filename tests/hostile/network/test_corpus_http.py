"""Corpus: HTTP, what a request may ask for, how it may be framed, and what a server may answer."""

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pytest

from mvmnix.network.policy.decisions import Denial
from mvmnix.network.supervisor_messages import NetworkEventKind
from tests.hostile.network.clients import read_answer
from tests.hostile.network.corpus import Expected, allowed, assert_verdict, denied, verdicts
from tests.hostile.network.servers import http
from tests.hostile.network.world import OTHER, PUBLIC, Server, World, world
from tests.patience import EVENT_PATIENCE, POLL

pytestmark = pytest.mark.root("it makes network namespaces of its own")

API, PATHS, ODD = "api.example.com", "www.example.com", "odd.example.com"
_ALLOW = (
    f"http://{API},id=api",
    f"https://{API},id=tls",
    f"http://{PATHS}/simple,method=GET,method=HEAD,id=paths",
    "http://chat.example.com,id=chat",
    "http://odd.example.com:8000,id=odd",
    "http://two.example.com/one,id=one",
    "http://two.example.com/two,bytes=10KiB,id=two",
)
_DENY = ("http://www.example.com/simple/secret,id=secret",)
_HOSTS = f"{PUBLIC} {API} {PATHS} chat.example.com odd.example.com two.example.com\n{OTHER} evil.example.org"


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


_THEN = _get(host="evil.example.org", path="/evil")
_BAD = denied(Denial.BAD_HTTP, "api")
_HOST, _PATH = denied(Denial.HOST_MISMATCH, "api"), denied(Denial.PATH, "paths")
#: One for each code that a request can have; all ways to it are rows of http_rows.py and gateway/test_http_checker.py
#: in tests/unit/network.
FIRST = [
    Request("a request", _get(), allowed("api", PUBLIC)),
    Request("content", _get("Content-Length: 5", method="POST", body=b"hello"), allowed("api")),
    Request("another Host", _get(host="evil.example.org"), _HOST),
    Request("a URL of another host, as a client of a proxy", _get(path="http://evil.example.org/"), _BAD),
    Request("SSH", b"SSH-2.0-x\r\n", denied(Denial.PROTOCOL, "api")),
    Request("TLS", b"\x16\3\1\0\5\1\0\0\1\3", denied(Denial.PROTOCOL, "api")),
    Request("a request where TLS is the rule", _get(), denied(Denial.PROTOCOL, "tls"), port=443),
    Request("another path", _get(path="/", host=PATHS), _PATH, PATHS),
    Request("a denied path", _get(path="/simple/secret", host=PATHS), denied(Denial.DENIED_BY_RULE, "secret"), PATHS),
    Request("another method", _get(path="/simple", host=PATHS, method="PUT"), denied(Denial.METHOD, "paths"), PATHS),
    Request(
        "a request in another's content",
        _get("Content-Length: 99", path="/simple", host=PATHS, body=_THEN),
        denied(Denial.CONTENT, "secret"),
        PATHS,
    ),
    Request(
        "another path in a field",
        _get("X-Original-URL: /simple/secret", path="/simple", host=PATHS),
        denied(Denial.OVERRIDE, "secret"),
        PATHS,
    ),
]

_AT = f"{ODD}:8000"
#: What follows an allowed request over the same connection.
LATER = [
    Request("another Host", _THEN, _HOST),
    Request("another path", _get(path="/", host=PATHS), _PATH, PATHS),
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
    with here.guest.connect(here.find(host), port) as connection:
        yield connection


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
        answer = read_answer(connection)
    assert_verdict(here, row.expected)
    if row.expected.allowed:
        assert recorder.got == row.said, "the guest's own bytes are passed on"
        assert answer.startswith(b"HTTP/1.1 200 ")
        return
    assert recorder.got == b"", "nothing was dialed"
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
        answer += read_answer(connection)
    expected = Expected(row.expected.rule or "api", row.expected.code)
    assert_verdict(here, expected, earlier=1)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert _refusals(answer) == [str(row.expected.code)]
    assert recorder.got.startswith(first)
    assert b"evil" not in recorder.got


def test_each_rule_of_a_connection_has_its_record_and_its_limit(here: World, recorder: Recorder) -> None:
    one, two = (_get(path=f"/{it}", host="two.example.com") for it in ("one", "two"))
    long = _get(f"X: {'x' * 11_000}", path="/two", host="two.example.com")
    with connected(here, "two.example.com") as connection:
        for said in (one, two):
            connection.sendall(said)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        connection.sendall(long)
        assert read_answer(connection) == b"reset"
    ends = [here.event(NetworkEventKind.CLOSED, rule=rule) for rule in ("one", "two")]
    assert [(it.code, it.sent) for it in ends] == [("", len(one)), (Denial.LIMIT_BYTES, len(two))]
    assert [it.rule for it in verdicts(here)] == ["one", "two"]
    with connected(here, "two.example.com") as connection:
        connection.sendall(one)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 "), "one rule's limit is none of another's"


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
        assert read_answer(connection).startswith(b"HTTP/1.1 200 ")
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
        assert read_answer(connection) == b"reset"
        assert here.event(NetworkEventKind.CLOSED).code == Denial.BAD_ANSWER
    assert_verdict(here, allowed("odd", PUBLIC))


def test_a_server_that_answers_before_it_has_all(here: World) -> None:
    with Server(PUBLIC, 8000, _says(_OK)), connected(here, ODD, 8000) as connection:
        connection.sendall(_get("Content-Length: 1000000", host=_AT, method="POST", body=b"x"))
        assert read_answer(connection) == _OK
    assert_verdict(here, allowed("odd"))


def test_a_server_that_resets(here: World) -> None:
    with (
        Server(PUBLIC, 8000, _says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", _reset)),
        connected(here, ODD, 8000) as connection,
    ):
        connection.sendall(_get(host=_AT))
        assert read_answer(connection) == b"reset"
    assert_verdict(here, allowed("odd"))


def test_no_refusal_stands_within_an_answer(here: World) -> None:
    """A server that ends before its answer has: a client would take the refusal for the rest of it."""
    with (
        Server(PUBLIC, 8000, _says(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nbegin")),
        connected(here, ODD, 8000) as connection,
    ):
        connection.sendall(_get(host=_AT) + _THEN)
        answer = read_answer(connection)
    assert_verdict(here, denied(Denial.HOST_MISMATCH, "odd"), earlier=1)
    assert b"403" not in answer


def test_a_refusal_has_no_body_where_a_client_expects_none(here: World) -> None:
    with connected(here, PATHS) as connection:
        connection.sendall(_get(path="/", host=PATHS, method="HEAD"))
        head, _, body = read_answer(connection).partition(b"\r\n\r\n")
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
        answer = read_answer(connection)
    assert_verdict(here, denied(Denial.HOST_MISMATCH, "odd"), earlier=1)
    assert answer.startswith(_OK)
    assert _refusals(answer) == [Denial.HOST_MISMATCH]
    assert b"evil" not in b"".join(got)
