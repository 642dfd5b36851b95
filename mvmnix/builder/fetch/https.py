"""Downloads files by https, so many at a time, and looks at every address it is sent to; what it brings, others check.

The download worker speaks TLS and HTTP, in the sandbox (lanes.py). What is decided is decided here:

1. The address is on the allowlist; each redirect is looked at like the first one, and credentials don't follow it.
2. A connection leads to a public address, or to a listed origin on the loopback (dial.py).
3. The body stays within the size limit, and the whole download within its time.
4. What breaks off is taken up again, what is busy is asked again later, both boundedly (resumable.py).
"""

import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol, Self
from urllib.parse import quote

from mvmnix.builder.fetch.allowlist import Allowlist, Url
from mvmnix.builder.fetch.dial import Dialed, dial
from mvmnix.builder.fetch.lanes import Deadline, Lane, Lanes, lied
from mvmnix.builder.fetch.resumable import (
    TRANSIENT,
    BrokenError,
    ChangedError,
    DownloadError,
    DownloadLimits,
    Transfer,
    pause,
)
from mvmnix.builder.fetch.unpack import certificates
from mvmnix.builder.fetch.worker.packets import FIELD_LIMIT, FIELDS, PacketKind, Work, one_line, unpack
from mvmnix.errors import MvmnixError, ReasonCode, refuse

__all__ = ["ChangedError", "DownloadError", "DownloadLimits", "Downloader", "Meter", "Response"]

#: Characters of a target, by RFC 3986, sections 3.3 and 3.4; others are escaped.
_TARGET: Final = "%/:@?!$&'()*+,;=~"
_VALUE: Final = re.compile(r"[\t -~]*")
_STATUS: Final = re.compile(rb"[2-5][0-9]{2}")
_SIZE: Final = re.compile(rb"[0-9]{1,18}")
_FIXED: Final = {"Accept-Encoding": "identity", "User-Agent": "mvmnix"}

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS: Final = 10
#: So many bytes arrive between two calls of the meter.
_TELL: Final = 1 << 20
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Meter(Protocol):
    """Who is told, from several threads, how far each download is."""

    def received(self, url: str, size: int, total: int | None) -> None:
        """So many bytes of so many arrived, where that is known."""


@dataclass(frozen=True, slots=True)
class Response:
    """What came: status, address that gave it in the end, the body's size, and the headers that are looked at.

    Their names (worker/packets.py, FIELDS) are in lower case.
    """

    status: int
    headers: Mapping[str, str]
    url: str
    size: int


class CertificateError(Exception):
    """A server could not show who it is, which trying again doesn't change."""


class Answer:
    """An answer's head; its body is to be read to the end, or the lane dropped."""

    def __init__(self, lane: Lane, deadline: Deadline, kind: PacketKind, content: memoryview) -> None:
        self._lane, self._deadline = lane, deadline
        self.is_read = kind is PacketKind.WHOLE
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
        if kind in {PacketKind.DATA, PacketKind.LAST} and content:
            self.is_read = kind is PacketKind.LAST
            return bytes(content)
        if kind is not PacketKind.END:
            raise lied("something else than a body")
        self.is_read = True
        return b""


class Downloader:
    """Gets what the allowlist allows; safe for many threads. A context manager, which cuts what still runs."""

    def __init__(
        self,
        allowed: Allowlist,
        limits: DownloadLimits = DownloadLimits(),  # noqa: B008 - frozen
        *,
        environment: Mapping[str, str] | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.allowed = allowed
        self.limits = limits
        self.meter: Meter | None = None
        self._sleep = sleep
        self._environment = dict(os.environ if environment is None else environment)
        self._slots = threading.BoundedSemaphore(limits.parallel)
        self._closed = False
        self.lanes = Lanes(_bundle(self._environment), stall=limits.stall, idle=limits.parallel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cut what still runs, and let every connection go."""
        self._closed = True
        self.lanes.close()

    def get(
        self,
        url: str,
        write: Callable[[bytes], object],
        *,
        headers: Mapping[str, str] = _NONE,
        limit: int | None = None,
        written: Callable[[], str] | None = None,
    ) -> Response:
        """Stream the body of a GET into `write`, in order and once.

        `headers` (credentials) go to the origin of `url` alone; `limit` narrows the size limit, in bytes; `written` is
        that of `Transfer`. Raises RefusedError [fetch-not-allowed, fetch-limit] and DownloadError, which has the
        status; ChangedError is one.
        """
        first = self.allowed.admit(url)
        size = self.limits.size if limit is None else min(limit, self.limits.size)
        transfer = Transfer(str(first), write, size, written)
        with self._slots:
            return self._insist(first, headers, transfer, Deadline.after(self.limits.seconds))

    def _insist(self, url: Url, headers: Mapping[str, str], transfer: Transfer, deadline: Deadline) -> Response:
        """Try until it works, the attempts are used up, or time is over."""
        attempt = 0
        while True:
            attempt += 1
            self._must_run(url, deadline)
            try:
                return self._attempt(url, headers, transfer, deadline)
            except BrokenError as broken:
                # 3. the time limit
                self._must_run(url, deadline)
                # 4. again, a few times
                jitter = secrets.randbelow(1000) / 1000
                wait = pause(attempt, broken.after, jitter=jitter)
                if wait is None or attempt >= self.limits.attempts:
                    raise _failed(url, f"{broken} ({attempt} attempts)", broken.status) from broken
            self._sleep(wait)

    def _must_run(self, url: Url, deadline: Deadline) -> None:
        if self._closed:
            raise DownloadError(f"the download of {url} was broken off", hint="start it again")
        if deadline.is_over:
            why, hint = f"it takes longer than {self.limits.seconds:g} seconds", "raise seconds in config.toml"
            raise refuse(ReasonCode.FETCH_LIMIT, str(url), why, hint)

    def _attempt(self, url: Url, headers: Mapping[str, str], transfer: Transfer, deadline: Deadline) -> Response:
        """The body of the first answer that is no redirect."""
        here, own = url, headers
        for _ in range(MAX_REDIRECTS + 1):
            with self._asked(here, {**own, **transfer.headers()}, deadline) as answer:
                location = answer.headers.get("location")
                if answer.status not in _REDIRECTS or location is None:
                    return self._body(here, answer, transfer)
            # 1. the next address
            here = self.allowed.follow(here, location)
            own = own if here.origin == url.origin else _NONE
        raise _failed(url, f"it redirects more than {MAX_REDIRECTS} times")

    @contextmanager
    def _asked(self, url: Url, headers: Mapping[str, str], deadline: Deadline) -> Iterator[Answer]:
        """What an origin answers; its lane is kept where the answer was read to the end."""
        lane = take(self.lanes, url, self.limits.stall)
        answer = None
        try:
            answer = ask(lane, url, headers, partial(self._dial, deadline), deadline)
            yield answer
        except CertificateError as error:
            raise _failed(url, f"its certificate is not good: {error}") from error
        finally:
            if answer is not None and answer.is_read:
                self.lanes.give_back(lane)
            else:
                self.lanes.drop(lane)

    def _dial(self, deadline: Deadline, url: Url) -> Dialed:
        # 2. the connection
        return dial(url, self._environment, min(self.limits.connect, max(deadline.left, 0.001)))

    def _body(self, url: Url, answer: Answer, transfer: Transfer) -> Response:
        status, headers = answer.status, answer.headers
        if status not in {200, 206}:
            if status in TRANSIENT:
                raise BrokenError(f"the server answers {status}", after=headers.get("retry-after"), status=status)
            if status == 416 and transfer.headers():
                transfer.forget()
                raise BrokenError("the server has no rest of it")
            raise _failed(url, f"the server answers {status}", status, headers.get("www-authenticate", ""))
        transfer.begin(status, headers, answer.length)
        told = transfer.size
        while data := answer.read():
            transfer.take(data)
            if self.meter is not None and transfer.size - told >= _TELL:
                told = transfer.size
                self.meter.received(str(url), told, transfer.total)
        transfer.end()
        return Response(status, headers, str(url), transfer.size)


def _failed(url: Url, why: str, status: int | None = None, challenge: str = "") -> DownloadError:
    hint = "look at the address and the network"
    return DownloadError(f"{url} could not be fetched: {why}", hint=hint, status=status, challenge=challenge)


def _bundle(environment: Mapping[str, str]) -> str:
    """The file with the certificates to trust, "" for the system's. Raises MvmnixError where it can't be read."""
    named = certificates(environment)
    try:
        if named:
            Path(named).open("rb").close()
    except OSError as error:
        hint = "let SSL_CERT_FILE name a bundle of certificates in PEM, or unset it"
        raise MvmnixError(f"the certificates of {named} can't be read: {error}", hint=hint) from error
    return named


def take(lanes: Lanes, url: Url, stall: float) -> Lane:
    """A lane to the origin of this address. Raises BrokenError, MvmnixError."""
    host = url.host.strip("[]").encode() if url.scheme == "https" else b""
    return lanes.take(url.origin, Work.FETCH, host, str(stall).encode())


def ask(lane: Lane, url: Url, headers: Mapping[str, str], dial: Callable[[Url], Dialed], deadline: Deadline) -> Answer:
    """The head of the answer; the lane gets one connection for it, to the origin that the lane is of.

    Raises BrokenError, CertificateError, and RefusedError and MvmnixError as `dial` does.
    """
    lane.send(PacketKind.ASK, request(url, headers))
    connected = False
    while True:
        kind, content = _next(lane, deadline)
        if kind in {PacketKind.HEAD, PacketKind.WHOLE}:
            return Answer(lane, deadline, kind, content)
        if kind is not PacketKind.WANTED or connected:
            raise lied("something else than an answer")
        dialed = dial(url)
        lane.connect(dialed.connection, *dialed.texts)
        connected = True


def request(url: Url, headers: Mapping[str, str]) -> bytes:
    """The bytes that ask for it: GET, an admitted target, fields of one line.

    Raises ValueError for a field that is more than one line.
    """
    lines = [f"GET {quote(url.target, safe=_TARGET)} HTTP/1.1", f"Host: {url.authority}"]
    for name, value in {**_FIXED, **headers}.items():
        if not _VALUE.fullmatch(value):
            raise ValueError(f"{name} is not one line of printable ASCII")
        lines.append(f"{name}: {value}")
    return "\r\n".join((*lines, "\r\n")).encode()


def _next(lane: Lane, deadline: Deadline) -> tuple[PacketKind, memoryview]:
    """The next packet that says something."""
    while True:
        kind, content = lane.receive(deadline)
        if kind is PacketKind.BROKEN:
            what, said = _texts(content, 2)
            words = one_line(said.decode(errors="replace"))
            raise CertificateError(words) if what == b"certificate" else BrokenError(words)
        if kind is not PacketKind.ALIVE:
            return kind, content
        if deadline.is_over:
            raise BrokenError("it takes too long")


def _head(texts: Sequence[bytes]) -> tuple[int, int | None, dict[str, str]]:
    """Status, size and the fields that packets.py lists, within bounds, of what the lane says of the answer."""
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
