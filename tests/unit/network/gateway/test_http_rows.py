"""The rows of HTTP, against a server that leaves all content unread, as those that one writes by http.server do."""

import http.server
import posixpath
import socket
import threading
from collections.abc import Iterator
from typing import ClassVar, override
from urllib.parse import unquote

import pytest

from tests.unit.network.http_rows import ROWS, Row
from tests.unit.network.http_seen import Seen, try_row


class Unread(http.server.BaseHTTPRequestHandler):
    """Answers each request, and goes on to the next without a look at content."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[str]] = []

    def _answer(self) -> None:
        path = posixpath.normpath(unquote(self.path.partition("?")[0]))
        self.seen.append(f"{self.command} {path} {self.headers.get('Host')}")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_POST = do_DELETE = do_OPTIONS = do_TRACE = do_PATCH = _answer  # noqa: N815 - of http.server

    @override
    def log_message(self, format: str, *args: object) -> None:
        """To nowhere."""


@pytest.fixture(scope="module")
def server() -> Iterator[Seen]:
    Unread.seen.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Unread) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield Seen(lambda: socket.create_connection(("127.0.0.1", made.server_address[1])), lambda: Unread.seen)
        made.shutdown()
        thread.join()


@pytest.mark.parametrize("row", ROWS, ids=lambda it: it.tried)
def test_a_row(server: Seen, row: Row) -> None:
    assert try_row(row, server) == list(row.seen), "this server reads as these rows are written"
