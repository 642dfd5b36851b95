"""Answers the builder's questions: Nix's binary-cache protocol over one stream, by hash, from a ledger of offers.

Nix manual, "Store Types: HTTP Binary Cache Store". No file is opened and no connection made here; an offer knows
how to read its own bytes. What the guest sends is hostile: a request is bounded, and nonsense ends the stream.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from mvmnix.builder.session.ledger import OfferLedger, PathSearch
from mvmnix.model import STORE_DIR

#: Bounds on what a guest may send: bytes of a request's head, requests that wait for an answer.
MAX_HEAD: Final = 8192
MAX_WAITING: Final = 64

_REQUEST: Final = re.compile(rb"(GET|HEAD) /([a-z0-9./-]{1,128}) HTTP/1\.1")
_NARINFO: Final = re.compile(r"([0-9a-z]{32})\.narinfo")
_NAR: Final = re.compile(r"nar/([0-9a-z]{32})\.nar")
_INFO: Final = f"StoreDir: {STORE_DIR}\nWantMassQuery: 1\nPriority: 30\n".encode()

type _Body = tuple[int, Iterable[bytes]]


class _Answer:
    """One answer in the order of the questions: bytes, once what they wait for is over."""

    def __init__(self, make: Callable[[], Iterator[bytes]], awaited: PathSearch | None = None) -> None:
        self._make = make
        self._awaited = awaited
        self._parts: Iterator[bytes] | None = None

    @property
    def ready(self) -> bool:
        return self._awaited is None or self._awaited.over

    def next(self) -> bytes | None:
        """The next piece, None after the last."""
        if self._parts is None:
            self._parts = self._make()
        return next(self._parts, None)


class Connection:
    """The host's end of one connection from the builder: bytes in, bytes out (HTTP/1.1, RFC 9112), no socket.

    `wake` is called when an answer that had to wait is there.
    """

    def __init__(self, ledger: OfferLedger, wake: Callable[[], None] = lambda: None) -> None:
        self._ledger = ledger
        self._wake = wake
        self._head = bytearray()
        self._answers: deque[_Answer] = deque()
        self._rest = memoryview(b"")
        self._last = False

    def data(self, data: bytes) -> None:
        """The builder sent bytes; once the stream was given up, they count for nothing and nothing is kept of them."""
        if self._last:
            return
        self._head += data
        while (end := self._head.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._head[:end])
            del self._head[: end + 4]
            self._request(head)
        if len(self._head) > MAX_HEAD:
            self._give_up(b"431 Request Header Fields Too Large")

    def eof(self) -> None:
        """The builder sends no more; what it asked for is still answered."""
        self._last = True

    def pull(self, limit: int) -> bytes | None:
        """At most `limit` bytes of answers; b"" when there are none now, None when there will be no more."""
        while not self._rest and self._answers and self._answers[0].ready:
            chunk = self._answers[0].next()
            if chunk is None:
                self._answers.popleft()
            else:
                self._rest = memoryview(chunk)
        if not self._rest and not self._answers and self._last:
            return None
        piece, self._rest = bytes(self._rest[:limit]), self._rest[limit:]
        return piece

    def reset(self) -> None:
        """The connection was broken off."""
        self._answers.clear()
        self._rest = memoryview(b"")
        self._wake = lambda: None

    def _request(self, head: bytes) -> None:
        line = head.split(b"\r\n", 1)[0]
        match = _REQUEST.fullmatch(line)
        if match is None or len(head) > MAX_HEAD or len(self._answers) >= MAX_WAITING:
            self._give_up(b"400 Bad Request")
            return
        bodiless, path = match[1] == b"HEAD", match[2].decode()
        wanted = _NARINFO.fullmatch(path)
        awaited = self._ledger.search(wanted[1]) if wanted else None
        self._answers.append(_Answer(lambda: self._answer(path, bodiless=bodiless), awaited))
        if awaited is not None:
            awaited.tell(self._wake_up)

    def _wake_up(self) -> None:
        self._wake()

    def _answer(self, path: str, *, bodiless: bool) -> Iterator[bytes]:
        found = self._find(path)
        size, body = found or (0, ())
        yield from _response(b"404 Not Found" if found is None else b"200 OK", size, () if bodiless else body)

    def _find(self, path: str) -> _Body | None:
        if path == "nix-cache-info":
            return len(_INFO), (_INFO,)
        if wanted := _NARINFO.fullmatch(path):
            text = self._ledger.narinfo(wanted[1])
            return None if text is None else (len(text), (text,))
        if wanted := _NAR.fullmatch(path):
            return self._ledger.archive(wanted[1])
        return None

    def _give_up(self, status: bytes) -> None:
        self._answers.append(_Answer(lambda: _response(status, 0, ())))
        self._head.clear()
        self._last = True


def _response(status: bytes, size: int, body: Iterable[bytes]) -> Iterator[bytes]:
    yield b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, size)
    yield from body
