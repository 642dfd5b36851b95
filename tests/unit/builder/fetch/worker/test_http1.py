"""Answers of servers, well formed and not, as they come in pieces."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvmnix.builder.fetch.worker.http1 import Answer, MalformedAnswerError, seconds_of

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


class Pieces:
    """A connection that brings these bytes, and then its end."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = [piece for piece in pieces if piece]

    def recv(self, size: int, /) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces[0][:size]
        self._pieces[0] = self._pieces[0][size:]
        if not self._pieces[0]:
            del self._pieces[0]
        return piece

    def recv_into(self, buffer: memoryview, /) -> int:
        piece = self.recv(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def sendall(self, data: bytes, /) -> None:
        raise AssertionError


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def read(pieces: Sequence[bytes]) -> tuple[Answer, bytes]:
    answer = Answer(Pieces(*pieces))
    return answer, b"".join(map(bytes, answer.body()))


OK = b"HTTP/1.1 200 OK\r\n"
SIZED = OK + b'Content-Length: 5\r\nETag:  "a" \r\nX: 1\r\nX: 2\r\n\r\nhello'
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: x\r\n\r\n"
#: Bytes, status, announced size, body, whether the connection may be used again.
GOOD: dict[str, tuple[bytes, int, int | None, bytes, bool]] = {
    "sized": (SIZED, 200, 5, b"hello", True),
    "in chunks": (CHUNKED, 200, None, b"hello", True),
    "in chunks, by capitals": (CHUNKED.replace(b"chunked", b"Chunked"), 200, None, b"hello", True),
    "up to the end": (OK + b"\r\nhello", 200, None, b"hello", False),
    "empty": (OK + b"Content-Length: 0\r\n\r\n", 200, 0, b"", True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, 0, b"", True),
    "not modified": (b"HTTP/1.1 304 X\r\nContent-Length: 7\r\n\r\n", 304, 0, b"", True),
    "not modified, in chunks": (b"HTTP/1.1 304 X\r\nTransfer-Encoding: chunked\r\n\r\n", 304, 0, b"", True),
    "line feeds alone": (SIZED.replace(b"\r\n", b"\n"), 200, 5, b"hello", True),
    "no reason": (b"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n", 404, 0, b"", True),
    "no blank behind the status": (b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", 404, 0, b"", True),
    "after others": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 199 X\r\nA: b\r\n\r\n" + SIZED, 200, 5, b"hello", True),
    "the size twice": (OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 200, 5, b"hello", True),
    "closing": (SIZED.replace(b"X: 1", b"Connection: Close"), 200, 5, b"hello", False),
    "of 1.0": (SIZED.replace(b"1.1", b"1.0"), 200, 5, b"hello", False),
    "of 1.0, kept": (SIZED.replace(b"1.1", b"1.0").replace(b"X: 1", b"Connection: keep-alive"), 200, 5, b"hello", True),
    "with more behind it": (SIZED + b"HTTP/1.1 200 OK\r\n\r\n", 200, 5, b"hello", False),
    "chunks and a size": (CHUNKED.replace(b"\r\n\r\n3", b"\r\nContent-Length: 5\r\n\r\n3"), 200, None, b"hello", False),
}


@pytest.mark.parametrize("case", GOOD)
@pytest.mark.parametrize("size", [1, 2, 7, 1 << 20])
def test_an_answer(case: str, size: int) -> None:
    data, status, length, body, reusable = GOOD[case]
    answer, found = read(cut(data, size))
    assert (answer.status, answer.length, found) == (status, length, body)
    if "behind" not in case or size > len(data):
        assert answer.is_reusable is reusable


def test_a_connection_is_used_again_only_after_the_body() -> None:
    head, body = SIZED[:-5], SIZED[-5:]
    answer = Answer(Pieces(head, body))
    assert not answer.is_reusable
    assert b"".join(map(bytes, answer.body())) == body
    assert answer.is_reusable


def test_fields() -> None:
    answer, _ = read([SIZED])
    assert answer.fields == {b"content-length": b"5", b"etag": b'"a"', b"x": b"1, 2"}


BAD: dict[str, bytes] = {
    "another protocol": b"SSH-2.0-x\r\n\r\n",
    "no version": b"HTTP 200 OK\r\n\r\n",
    "another version": b"HTTP/2.0 200 OK\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a status of 600": b"HTTP/1.1 600 OK\r\n\r\n",
    "another protocol from here on": b"HTTP/1.1 101 Switching\r\n\r\n" + SIZED,
    "a folded field": OK + b"A: b\r\n c\r\n\r\n",
    "no colon": OK + b"A b\r\n\r\n",
    "a blank before the colon": OK + b"Content-Length : 5\r\n\r\nhello",
    "no name": OK + b": b\r\n\r\n",
    "a carriage return in a value": OK + b"A: b\rc\r\n\r\n",
    "a NUL in a value": OK + b"A: b\0c\r\n\r\n",
    "a head without end": OK + b"A: " + b"b" * (65 << 10),
    "a size that is none": OK + b"Content-Length: -5\r\n\r\nhello",
    "a size with a sign": OK + b"Content-Length: +5\r\n\r\nhello",
    "two sizes": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a huge size": OK + b"Content-Length: " + b"9" * 19 + b"\r\n\r\nhello",
    "another coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a chunk without size": OK + b"Transfer-Encoding: chunked\r\n\r\n\r\n",
    "a chunk of negative size": OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n",
    "a chunk of huge size": OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 16 + b"\r\nx\r\n",
    "a chunk that is longer": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n",
    "trailers without end": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 20000,
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("size", [7, 1 << 20])
def test_what_is_malformed(case: str, size: int) -> None:
    with pytest.raises(MalformedAnswerError):
        read(cut(BAD[case], size))


def headed(size: int) -> bytes:
    """A head of so many bytes, and an empty body."""
    rest = b"\r\nContent-Length: 0\r\n\r\n"
    return OK + b"A: ".ljust(size - len(OK) - len(rest), b"b") + rest


def chunked(extension: int = 2, trailers: bytes = b"") -> bytes:
    """A chunk whose line has so many bytes before its line feed, and trailers."""
    line = b"5;".ljust(extension - 1, b"x") + b"\r\n"
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + line + b"hello\r\n0\r\n" + trailers + b"\r\n"


INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"
#: The most of each, and one more.
BOUNDS: dict[str, tuple[bytes, bytes]] = {
    "lines of a head": (
        OK + b"A: b\r\n" * 127 + SIZED[len(OK) :][:19] + b"\r\nhello",
        OK + b"A: b\r\n" * 129 + b"\r\n",
    ),
    "bytes of a head": (headed(64 << 10), headed((64 << 10) + 1)),
    "answers before it": (INTERIM * 7 + SIZED, INTERIM * 8 + SIZED),
    "bytes of a chunk's line": (chunked(4096), chunked(4097)),
    "bytes of a trailer": (
        chunked(trailers=b"A: ".ljust((64 << 10) - 2, b"b") + b"\r\n"),
        chunked(trailers=b"A: ".ljust((64 << 10) - 1, b"b") + b"\r\n"),
    ),
    "bytes of two trailers": (
        chunked(trailers=b"A: ".ljust((64 << 10) - 8, b"b") + b"\r\nA: bc\r\n"),
        chunked(trailers=b"A: ".ljust((64 << 10) - 8, b"b") + b"\r\nA: bcd\r\n"),
    ),
}


@pytest.mark.parametrize("case", BOUNDS)
@pytest.mark.parametrize("size", [7, 1 << 20])
def test_the_most_is_read_and_no_more(case: str, size: int) -> None:
    most, more = BOUNDS[case]
    read(cut(most, size))
    with pytest.raises(MalformedAnswerError):
        read(cut(more, size))


@pytest.mark.parametrize("data", [SIZED, CHUNKED], ids=["sized", "in chunks"])
def test_an_answer_that_breaks_off_anywhere(data: bytes) -> None:
    """What came of its body is told before."""
    found = bytearray()
    for size in range(len(data)):
        found = bytearray()
        with pytest.raises(EOFError):
            for piece in Answer(Pieces(data[:size])).body():
                found += piece
        assert b"hello".startswith(found)
    assert found.startswith(b"hell")


@given(st.binary(max_size=300), st.integers(1, 40))
@settings(max_examples=300, deadline=None)
def test_whatever_comes_ends(data: bytes, size: int) -> None:
    for begin in (b"", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n"):
        try:
            _, body = read(cut(begin + data, size))
        except (MalformedAnswerError, EOFError):
            continue
        assert len(body) <= len(data)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("99999999999999999999", 999999999),
        ("Sat, 31 Jan 2026 12:00:09 GMT", 9),
        ("Sat, 31 Jan 2026 11:00:00 GMT", 0),
        ("Sun, 01 Feb 2026 12:00:00 GMT", 86400),
        ("Sat, 31 Jan 2026 12:00:09", None),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("\u0667", None),
    ],
)
def test_when_to_ask_again(said: str, seconds: int | None) -> None:
    assert seconds_of(said, NOW) == seconds


@pytest.mark.parametrize("white", [b" " * 60_000, b" \t" * 30_000, b"a " * 30_000])
def test_white_space_costs_no_more_than_its_length(white: bytes) -> None:
    """A lane would be busy for hours with such a line, where this took cubic time."""
    with pytest.raises(MalformedAnswerError, match="not a field"):
        read([OK + b"X:" + white + b"\0\r\n\r\n"])
