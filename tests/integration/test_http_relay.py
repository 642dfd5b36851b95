"""Real clients and a real server with a relay between them that passes on what HttpChecker lets pass."""

import http.client
import http.server
import os
import selectors
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, override

import pytest

from mvmnix.network.gateway.http_checker import HttpChecker, HttpRefusedError, Passed
from mvmnix.network.gateway.http_heads import HeadError, HttpFault
from mvmnix.network.gateway.opening import refusal as forbidden
from mvmnix.network.policy.request_paths import RequestHead
from tests.patience import EVENT_PATIENCE

pytestmark = pytest.mark.integration

NAME: Final = "index.example"
SENTENCE: Final = "no rule of this machine allows it"


def rule(request: RequestHead) -> str:
    if request.method in {"GET", "HEAD", "POST", "PUT"}:
        return "web"
    raise HeadError(HttpFault.RULE, request)


class Pages(http.server.BaseHTTPRequestHandler):
    """Says what was asked for; a path that begins with /chunks in chunks, /socket takes an upgrade and echoes."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self._chunks() if self.headers.get("Transfer-Encoding") else self.rfile.read(length)
        said = f"{self.command} {self.path} {body.decode()}\n".encode()
        if self.path.startswith("/socket"):
            self._switch()
            return
        self.send_response(200)
        if self.path.startswith("/chunks"):
            self.send_header("Transfer-Encoding", "chunked")
            said = b"%x\r\n%s\r\n0\r\n\r\n" % (len(said), said)
        else:
            self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)

    do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815 - names of http.server

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _switch(self) -> None:
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        self.connection.sendall(b"echo " + self.connection.recv(64))
        self.close_connection = True

    @override
    def log_message(self, format: str, *args: object) -> None:
        """To nowhere."""


@dataclass
class Relay:
    """Listens, and has a checker between each connection and the server's."""

    to: tuple[str, int]
    listening: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    asked: list[str] = field(default_factory=list)
    strict: bool = False

    @property
    def port(self) -> int:
        return int(self.listening.getsockname()[1])

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listening.accept()
                threading.Thread(target=self._connection, args=(client,)).start()

    def _connection(self, client: socket.socket) -> None:
        checker = HttpChecker(NAME, 80, rule, strict=self.strict)
        with client, socket.create_connection(self.to) as server, selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, checker.feed_client)
            ready.register(server, selectors.EVENT_READ, checker.feed_server)
            refusal: HttpRefusedError | None = None
            while refusal is None or not checker.is_settled:
                for key, _ in ready.select(EVENT_PATIENCE):
                    data = key.fileobj.recv(4096)  # type: ignore[union-attr]
                    if not data:
                        return
                    try:
                        self._pass(key.data(data), client, server)
                    except HttpRefusedError as error:
                        self._pass(error.passed, client, server)
                        refusal = error
                        ready.unregister(client)
                    if checker.is_done:
                        return
            client.sendall(forbidden(SENTENCE, method=refusal.request.method if refusal.request else ""))
            client.shutdown(socket.SHUT_WR)

    def _pass(self, passed: Passed, client: socket.socket, server: socket.socket) -> None:
        self.asked += [f"{request.method} {request.target}" for request in passed.requests]
        for parts, to in ((passed.sent, server), (passed.received, client)):
            to.sendall(b"".join(part.data for part in parts))


@contextmanager
def relaying(*, strict: bool = False) -> Iterator[Relay]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        relay = Relay(("127.0.0.1", server.server_address[1]), strict=strict)
        threads = [threading.Thread(target=server.serve_forever), threading.Thread(target=relay.serve)]
        for thread in threads:
            thread.start()
        try:
            yield relay
        finally:
            relay.listening.shutdown(socket.SHUT_RDWR)
            relay.listening.close()
            server.shutdown()
            for thread in threads:
                thread.join(EVENT_PATIENCE)


def curl(relay: Relay, *argv: str, said: bytes = b"") -> bytes:
    to = ("-sS", "--max-time", str(EVENT_PATIENCE), "--connect-to", f"{NAME}:80:127.0.0.1:{relay.port}")
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.run(["curl", *to, *argv], env=environment, input=said, capture_output=True, check=True).stdout


URL = f"http://{NAME}"


@pytest.mark.parametrize(
    ("argv", "said", "answer"),
    [
        ((f"{URL}/a?b",), b"", b"GET /a?b \n"),
        (("--http1.0", f"{URL}/a"), b"", b"GET /a \n"),
        ((f"{URL}/chunks",), b"", b"GET /chunks \n"),
        ((f"{URL}/a", f"{URL}/chunks", f"{URL}/b"), b"", b"GET /a \nGET /chunks \nGET /b \n"),
        (("-d", "hello", f"{URL}/a", f"{URL}/b"), b"", b"POST /a hello\nPOST /b hello\n"),
        (("-T", "-", f"{URL}/a"), b"hello" * 1000, b"PUT /a " + b"hello" * 1000 + b"\n"),
        (("-T", "-", "-H", "Expect: 100-continue", f"{URL}/a"), b"hello", b"PUT /a hello\n"),
        (("--data-binary", "@-", "-H", "Expect: 100-continue", f"{URL}/a"), b"x" * 100000, b"POST /a " + b"x" * 100000),
        (("-I", "-o", "/dev/null", "-w", "%{http_code}", f"{URL}/a", f"{URL}/b"), b"", b"200"),
    ],
)
@pytest.mark.parametrize("strict", [False, True], ids=["", "where rules name requests"])
def test_curl(argv: tuple[str, ...], said: bytes, answer: bytes, *, strict: bool) -> None:
    with relaying(strict=strict) as relay:
        assert curl(relay, *argv, said=said).startswith(answer)
    assert len(relay.asked) == sum(one.startswith(URL) for one in argv)


@pytest.mark.parametrize(
    "argv",
    [
        ("-H", "Host: other.example", f"{URL}/a"),
        ("-X", "DELETE", f"{URL}/a"),
        ("--request-target", "http://other.example/", f"{URL}/a"),
        ("--http2", f"{URL}/a"),
        ("--http2-prior-knowledge", "--http0.9", f"{URL}/a"),
    ],
)
def test_curl_is_told_why_not(argv: tuple[str, ...]) -> None:
    with relaying() as relay:
        if "--http2-prior-knowledge" in argv:
            with pytest.raises(subprocess.CalledProcessError):
                curl(relay, *argv)
        else:
            assert curl(relay, "-w", "%{http_code}", *argv) == f"{SENTENCE}\n403".encode()
    assert relay.asked == []


def test_the_host_of_the_second_request_counts_too(tmp_path: Path) -> None:
    with relaying() as relay:
        connection = http.client.HTTPConnection("127.0.0.1", relay.port, timeout=EVENT_PATIENCE)
        for host, status, body in ((NAME, 200, b"GET /a \n"), ("other.example", 403, f"{SENTENCE}\n".encode())):
            connection.request("GET", "/a", headers={"Host": host})
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (status, body)
        connection.close()


def test_a_pipeline_is_answered_up_to_what_is_refused() -> None:
    get = "GET /{} HTTP/1.1\r\nHost: {}\r\n\r\n"
    asked = (
        get.format("a", NAME) + get.format("chunks", NAME) + get.format("c", "other.example") + get.format("d", NAME)
    )
    with relaying() as relay, socket.create_connection(("127.0.0.1", relay.port), EVENT_PATIENCE) as client:
        client.sendall(asked.encode())
        with client.makefile("rb") as answers:
            heard = answers.read()
    assert [heard.count(part) for part in (b"GET /a \n", b"GET /chunks \n", SENTENCE.encode(), b"/d")] == [1, 1, 1, 0]
    assert heard.endswith(SENTENCE.encode() + b"\n")


def test_a_websocket() -> None:
    head = f"GET /socket HTTP/1.1\r\nHost: {NAME}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".encode()
    with relaying() as relay, socket.create_connection(("127.0.0.1", relay.port), EVENT_PATIENCE) as client:
        client.sendall(head + b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n")
        with client.makefile("rb") as answers:
            assert answers.read().endswith(b"\r\n\r\necho GET / HTTP/1.1\r\nHost: other.example\r\n\r\n")
