"""Asks an origin for a file by a lane of the download worker, and validates what the lane says of the answer.

1. A request is written here: GET, an admitted target, fields of one line.
2. A lane gets one connection for a request, to the origin that the lane is of.
3. Of an answer come a status, a size and the fields that packets.py lists, within bounds; then bytes.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import quote

from mvmnix.builder.fetch.allowlist import Url
from mvmnix.builder.fetch.dial import Dialled
from mvmnix.builder.fetch.lanes import Deadline, Lane, Lanes, lied
from mvmnix.builder.fetch.resumable import BrokenError
from mvmnix.builder.fetch.worker.packets import FIELD_LIMIT, FIELDS, Kind, Work, one_line, unpack

#: RFC 3986, sections 3.3 and 3.4; what is neither is escaped.
_TARGET: Final = "%/:@?!$&'()*+,;=~"
_VALUE: Final = re.compile(r"[\t -~]*")
_STATUS: Final = re.compile(rb"[2-5][0-9]{2}")
_SIZE: Final = re.compile(rb"[0-9]{1,18}")
_FIXED: Final = {"Accept-Encoding": "identity", "User-Agent": "mvmnix"}


class CertificateError(Exception):
    """A server could not show who it is, which trying again doesn't change."""


class Answer:
    """An answer's head; its body is to be read to the end, or the lane dropped."""

    def __init__(self, lane: Lane, deadline: Deadline, kind: Kind, content: memoryview) -> None:
        self._lane, self._deadline = lane, deadline
        self.is_read = kind is Kind.WHOLE
        texts = _texts(content, 3 if self.is_read else 2, 3 + 2 * len(FIELDS))
        *head, self._whole = texts if self.is_read else (*texts, b"")
        self.status, self.length, self.headers = _head(head)
        if self.is_read and len(self._whole) != self.length:
            raise lied("a body of another size than it says")

    def read(self) -> bytes:
        """The next bytes of the body, none at its end. Raises BrokenError, DownloadError."""
        if self.is_read:
            body, self._whole = self._whole, b""
            return body
        kind, content = _next(self._lane, self._deadline)
        if kind in {Kind.DATA, Kind.LAST} and content:
            self.is_read = kind is Kind.LAST
            return bytes(content)
        if kind is not Kind.END:
            raise lied("something else than a body")
        self.is_read = True
        return b""


def take(lanes: Lanes, url: Url, stall: float) -> Lane:
    """A lane to the origin of this address. Raises BrokenError, MvmnixError."""
    host = url.host.strip("[]").encode() if url.scheme == "https" else b""
    return lanes.take(url.origin, Work.FETCH, host, str(stall).encode())


def ask(lane: Lane, url: Url, headers: Mapping[str, str], dial: Callable[[Url], Dialled], deadline: Deadline) -> Answer:
    """The head of the answer. Raises BrokenError, CertificateError, and RefusedError and MvmnixError as `dial` does."""
    lane.send(Kind.ASK, request(url, headers))
    connected = False
    while True:
        kind, content = _next(lane, deadline)
        if kind in {Kind.HEAD, Kind.WHOLE}:
            return Answer(lane, deadline, kind, content)
        # 2. one connection
        if kind is not Kind.WANTED or connected:
            raise lied("something else than an answer")
        dialled = dial(url)
        lane.connect(dialled.connection, *dialled.texts)
        connected = True


def request(url: Url, headers: Mapping[str, str]) -> bytes:
    """The bytes that ask for it. Raises ValueError for a field that is more than one line."""
    # 1. the request
    lines = [f"GET {quote(url.target, safe=_TARGET)} HTTP/1.1", f"Host: {url.authority}"]
    for name, value in {**_FIXED, **headers}.items():
        if not _VALUE.fullmatch(value):
            raise ValueError(f"{name} is not one line of printable ASCII")
        lines.append(f"{name}: {value}")
    return "\r\n".join((*lines, "\r\n")).encode()


def _next(lane: Lane, deadline: Deadline) -> tuple[Kind, memoryview]:
    """The next packet that says something."""
    while True:
        kind, content = lane.receive(deadline)
        if kind is Kind.BROKEN:
            what, said = _texts(content, 2)
            words = one_line(said.decode(errors="replace"))
            raise CertificateError(words) if what == b"certificate" else BrokenError(words)
        if kind is not Kind.ALIVE:
            return kind, content
        if deadline.is_over:
            raise BrokenError("it takes too long")


def _head(texts: Sequence[bytes]) -> tuple[int, int | None, dict[str, str]]:
    # 3. the answer
    status, size, *fields = texts
    names = [name.decode("latin-1") for name in fields[::2]]
    values = [value.decode("latin-1") for value in fields[1::2]]
    if (
        not _STATUS.fullmatch(status)
        or not (size == b"" or _SIZE.fullmatch(size))
        or len(names) != len(values)
        or len(set(names)) != len(names)
        or not set(names) <= set(FIELDS)
        or any(len(value) > FIELD_LIMIT for value in values)
    ):
        raise lied("a malformed head")
    return int(status), int(size) if size else None, dict(zip(names, values, strict=True))


def _texts(content: memoryview, least: int, most: int | None = None) -> tuple[bytes, ...]:
    try:
        texts = unpack(content)
    except ValueError as error:
        raise lied("truncated texts") from error
    if not least <= len(texts) <= (most or least):
        raise lied("too few texts, or too many")
    return texts
