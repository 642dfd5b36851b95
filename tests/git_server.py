"""A web server on the loopback that tests fetch trees from: files, redirects, and git repositories, dumb and smart.

It keeps what it was asked, headers and all. Repositories are served by git's own git-http-backend(1).
"""

import os
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, override


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its path with query, its Authorization header or ""."""

    path: str
    authorization: str


@dataclass(slots=True)
class TreeServer:
    """What is served: bytes by path, other headers by path, and bare repositories in a directory under `/git/`.

    `secret` is what the Authorization header of every request has to be, "" for none.
    """

    origin: str
    repositories: Path
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, Mapping[str, str]] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    secret: str = ""

    @property
    def host(self) -> str:
        """Host and port."""
        return self.origin.partition("//")[2]


class _Handler(BaseHTTPRequestHandler):
    """Answers requests; `served` is put on a class of its own for each server."""

    served: ClassVar[TreeServer]
    protocol_version = "HTTP/1.1"

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        it = self.served
        authorization = self.headers.get("Authorization", "")
        it.asked.append(Asked(self.path, authorization))
        plain = self.path.partition("?")[0]
        if it.secret and authorization != it.secret:
            self._send(401, b"who are you?", {})
        elif self.path in it.moved:
            self._send(302, b"", {"Location": it.moved[self.path]})
        elif self.path in it.files or plain in it.files:
            body = it.files[self.path if self.path in it.files else plain]
            self._send(200, body, it.headers.get(plain, {}))
        elif self.path.startswith("/git/"):
            self._backend(it)
        elif self.path.startswith("/dumb/"):
            self._dumb(it, plain)
        else:
            self._send(404, b"nothing here", {})

    do_POST = do_GET  # noqa: N815 - the name it has there

    def _dumb(self, it: TreeServer, path: str) -> None:
        file = it.repositories / path.removeprefix("/dumb/")
        self._send(200, file.read_bytes(), {}) if file.is_file() else self._send(404, b"", {})

    def _backend(self, it: TreeServer) -> None:
        path, _, query = self.path.removeprefix("/git").partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(self._chunks())
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(it.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        said = subprocess.run(["git", "http-backend"], env=env, input=body, capture_output=True, check=True).stdout
        head, _, data = said.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        status = int(headers.pop("Status", "200").split()[0])
        self._send(status, data, headers)

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serve(repositories: Path, tls: ssl.SSLContext | None = None) -> Iterator[TreeServer]:
    """A server on a free port, as long as it is looked at; with TLS, its name is localhost."""
    handler: type[_Handler] = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        http.daemon_threads = True
        place = "http://127.0.0.1" if tls is None else "https://localhost"
        if tls is not None:
            http.socket = tls.wrap_socket(http.socket, server_side=True)
        made = TreeServer(f"{place}:{http.server_address[1]}", repositories)
        handler.served = made
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            http.shutdown()
            thread.join()
