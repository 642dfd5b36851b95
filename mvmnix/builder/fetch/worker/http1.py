"""Reads one answer of an HTTP/1.1 server (RFC 9112) from a connected socket; opens none, and knows no rules.

1. The head: a status line and fields, so many bytes and lines of them; a field that is folded or has no name that is a
   token ends it. Answers of 1xx before it are skipped, so many.
2. The body: by Transfer-Encoding `chunked`, by Content-Length, or up to the end of the connection.
3. What follows the body on the connection is of no answer: it isn't used again then.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final, Protocol

from mvmnix.builder.fetch.worker.packets import PIECE_BYTES

_HEAD: Final = 64 << 10
_LINES: Final = 128
_INTERIM: Final = 8
#: Bytes of a line with a chunk's size, and of all trailers.
_LINE: Final = 4096
_READ: Final = 1 << 18

_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n\0]*)?")
#: White space around a value goes later: to leave it to the expression takes cubic time.
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\0]*)\r?")
_WHITE: Final = b" \t"
_EMPTY_LINE: Final = re.compile(rb"\r?\n\r?\n")
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


class Stream(Protocol):
    """A connection, secured or not."""

    def recv(self, size: int, /) -> bytes:
        """So many bytes at most, none at the end."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """The same into a buffer; how many they are."""

    def sendall(self, data: bytes, /) -> None:
        """All of it."""


class MalformedAnswerError(Exception):
    """It is no answer of HTTP/1.1."""


class Answer:
    """An answer whose head was read. `length` is the body's size where it was announced in bytes."""

    def __init__(self, connection: Stream) -> None:
        """Read the head. Raises OSError, EOFError, MalformedAnswerError."""
        self._connection = connection
        self._buffer = bytearray()
        minor, self.status, self.fields = self._final_head()
        coding = self._last(b"transfer-encoding").lower()
        if coding not in {b"", b"chunked"}:
            raise MalformedAnswerError("its transfer coding is not known")
        self._chunked = coding == b"chunked" and not self._is_empty
        self.length = self._announced()
        closing = b"close" in self._last(b"connection").lower()
        keeps = minor == 1 or b"keep-alive" in self._last(b"connection").lower()
        both = coding == b"chunked" and b"content-length" in self.fields
        self._bounded = self._chunked or self.length is not None
        self._reusable = keeps and not closing and self._bounded and not both
        self._done = False

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow on the connection, once the body was read."""
        return self._reusable and self._done and not self._buffer

    def body(self) -> Iterator[memoryview]:
        """The body in pieces, each of them valid until the next. Raises OSError, EOFError, MalformedAnswerError.

        A piece that was begun when the connection broke is yielded before that is raised.
        """
        piece = memoryview(bytearray(PIECE_BYTES))
        if self._chunked:
            while size := self._chunk_size():
                yield from self._exactly(size, piece)
                if self._line(len(b"\r")):
                    raise MalformedAnswerError("a chunk has another size than it says")
            self._skip_trailers()
        elif self.length is not None:
            yield from self._exactly(self.length, piece)
        else:
            while size := self._into(piece):
                yield piece[:size]
        self._done = True

    @property
    def _is_empty(self) -> bool:
        return self.status in {204, 304}

    def _last(self, name: bytes) -> bytes:
        return self.fields.get(name, b"")

    def _announced(self) -> int | None:
        if self._is_empty:
            return 0
        if self._chunked or b"content-length" not in self.fields:
            return None
        values = {value.strip() for value in self.fields[b"content-length"].split(b",")}
        if len(values) != 1 or not _LENGTH.fullmatch(value := values.pop()):
            raise MalformedAnswerError("its Content-Length is not a size")
        return int(value)

    def _final_head(self) -> tuple[int, int, dict[bytes, bytes]]:
        for _ in range(_INTERIM):
            minor, status, fields = self._head()
            if status >= 200:
                return minor, status, fields
            if status == 101:
                break
        raise MalformedAnswerError("it goes on to another protocol, or never answers")

    def _head(self) -> tuple[int, int, dict[bytes, bytes]]:
        # 1. the head
        first, *lines = self._until_empty_line().split(b"\n")
        match = _STATUS.fullmatch(first.removesuffix(b"\r"))
        if match is None:
            raise MalformedAnswerError("it does not begin with a status line of HTTP/1.1")
        if len(lines) > _LINES:
            raise MalformedAnswerError(f"its head has more than {_LINES} lines")
        fields: dict[bytes, bytes] = {}
        for line in lines:
            field = _FIELD.fullmatch(line)
            if field is None:
                raise MalformedAnswerError("a line of its head is not a field")
            name = field[1].lower()
            value = field[2].strip(_WHITE)
            fields[name] = fields[name] + b", " + value if name in fields else value
        return int(match[1]), int(match[2]), fields

    def _until_empty_line(self) -> bytes:
        """A head, without the end of its last line and the empty line."""
        looked_at = 0
        while (end := _EMPTY_LINE.search(self._buffer, max(0, looked_at - 3))) is None:
            if len(self._buffer) > _HEAD:
                raise MalformedAnswerError(f"its head has more than {_HEAD} bytes")
            looked_at = len(self._buffer)
            self._read_more()
        if end.end() > _HEAD:
            raise MalformedAnswerError(f"its head has more than {_HEAD} bytes")
        head = bytes(self._buffer[: end.start()])
        del self._buffer[: end.end()]
        return head

    def _chunk_size(self) -> int:
        # 2. the body
        match = _SIZE.fullmatch(self._line(_LINE))
        if match is None:
            raise MalformedAnswerError("a chunk has no size")
        return int(match[1], 16)

    def _skip_trailers(self) -> None:
        budget = _HEAD
        while line := self._line(budget):
            budget -= len(line) + 1

    def _line(self, limit: int) -> bytes:
        """Up to the next line feed, without it and a carriage return before it."""
        looked_at = 0
        while (end := self._buffer.find(b"\n", looked_at)) < 0 and len(self._buffer) <= limit:
            looked_at = len(self._buffer)
            self._read_more()
        if end < 0 or end > limit:
            raise MalformedAnswerError("a line of it is too long")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.removesuffix(b"\r")

    def _read_more(self) -> None:
        data = self._connection.recv(_READ)
        if not data:
            raise EOFError("it hung up")
        self._buffer += data

    def _exactly(self, size: int, piece: memoryview) -> Iterator[memoryview]:
        """So many bytes, in pieces that are as full as they can be."""
        while size:
            wanted, filled = piece[: min(size, len(piece))], 0
            try:
                while filled < len(wanted) and (more := self._into(wanted[filled:])):
                    filled += more
            finally:
                if filled:
                    yield wanted[:filled]
            size -= filled
            if filled < len(wanted):
                raise EOFError(f"it hung up, {size} bytes before the end")

    def _into(self, place: memoryview) -> int:
        """What was read already, or what comes next."""
        if self._buffer:
            size = min(len(place), len(self._buffer))
            place[:size] = self._buffer[:size]
            del self._buffer[:size]
            return size
        return self._connection.recv_into(place)


def seconds_of(retry_after: str, now: datetime) -> int | None:
    """What `Retry-After` says (RFC 9110, section 10.2.3), None for nonsense.

    >>> from datetime import UTC
    >>> seconds_of("Sat, 31 Jan 2026 12:00:09 GMT", datetime(2026, 1, 31, 12, tzinfo=UTC))
    9
    """
    if retry_after.isascii() and retry_after.isdigit():
        return int(retry_after[:9])
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - brings 20 modules, and few servers send a date

    try:
        return max(0, int((parsedate_to_datetime(retry_after) - now).total_seconds()))
    except (ValueError, TypeError, OverflowError):
        return None
