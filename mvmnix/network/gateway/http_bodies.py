"""Finds where the body of an HTTP/1.1 message ends, in bytes that are passed on as they are; pure.

Nothing is held but one unfinished line of a chunk's framing. What a client sends is taken strictly, since another
reader may see the end of a request elsewhere (RFC 9112, 11.2): a chunk's size is hexadecimal digits and CRLF, there are
no chunk extensions, and no trailer fields. A server's extensions and trailer fields are passed on.
"""

import re
from typing import Final, Protocol

#: Bytes of a body, or of a chunk, that all servers can count.
LONGEST_BODY: Final = 2**53 - 1
#: Bytes of a line with a chunk's size and extensions, and of all trailer fields, that a server may send.
_LONGEST_LINE: Final = 4096
_LONGEST_TRAILER: Final = 32 * 1024
_STRICT_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")
#: How a strict line may begin, which isn't whole: a size, or the line end after a chunk or the last one.
_STRICT_BEGINNING: Final = re.compile(rb"[0-9A-Fa-f]{1,16}\r?")
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(;[^\n]*)?\r\n")


class BodyError(Exception):
    """A body whose framing is wrong."""


class Body(Protocol):
    """A body that is under way."""

    def advance(self, data: bytes, at: int) -> int:
        """Where in `data` the body's bytes end, of those from `at` on. Raises BodyError."""

    @property
    def ended(self) -> bool:
        """Whether all of it has gone by."""


class SizedBody:
    """Of a length that is known; 0 for none."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    def advance(self, data: bytes, at: int) -> int:
        """Never raises."""
        taken = min(self._left, len(data) - at)
        self._left -= taken
        return at + taken

    @property
    def ended(self) -> bool:
        """Whether all of it has gone by."""
        return self._left == 0


class UnendingBody:
    """All that comes until the connection is closed."""

    __slots__ = ()

    def advance(self, data: bytes, at: int) -> int:  # noqa: ARG002 - a body's method
        """Never raises."""
        return len(data)

    @property
    def ended(self) -> bool:
        """Never."""
        return False


class ChunkedBody:
    """In chunks (RFC 9112, 7.1); `strict` as a client has to send them."""

    __slots__ = ("_left", "_line", "_size", "_step", "_strict", "_trailer", "ended")

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._size = _STRICT_SIZE if strict else _SIZE
        self._trailer = 2 if strict else _LONGEST_TRAILER
        self._line = bytearray()
        self._left = 0
        self._step = self._take_size
        #: Whether its last chunk and what follows that have gone by.
        self.ended = False

    def advance(self, data: bytes, at: int) -> int:
        """Raises BodyError."""
        while at < len(data) and not self.ended:
            taken = min(self._left, len(data) - at)
            self._left -= taken
            at += taken
            if at < len(data):
                at = self._next_line(data, at)
        return at

    def _next_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at, at + _LONGEST_LINE) + 1 or min(len(data), at + _LONGEST_LINE)
        self._line += data[at:end]
        if self._line.endswith(b"\n"):
            line = bytes(self._line)
            self._line.clear()
            if not line.endswith(b"\r\n"):
                raise BodyError("a line that doesn't end with CRLF")
            self._step(line)
        elif len(self._line) >= _LONGEST_LINE or (self._strict and not self._begins()):
            raise BodyError("a line without end")
        return end

    def _begins(self) -> bool:
        """Whether a line that isn't whole can become what is expected of a client."""
        if self._step == self._take_size:
            return _STRICT_BEGINNING.fullmatch(self._line) is not None
        return self._line == b"\r"

    def _take_size(self, line: bytes) -> None:
        found = self._size.fullmatch(line)
        if found is None:
            raise BodyError("not the size of a chunk")
        self._left = int(found[1], 16)
        if self._left > LONGEST_BODY:
            raise BodyError("a chunk too long to be counted")
        self._step = self._take_end if self._left else self._take_trailer

    def _take_end(self, line: bytes) -> None:
        if line != b"\r\n":
            raise BodyError("a chunk longer than its size")
        self._step = self._take_size

    def _take_trailer(self, line: bytes) -> None:
        self._trailer -= len(line)
        if self._trailer < 0:
            raise BodyError("trailer fields")
        self.ended = line == b"\r\n"
