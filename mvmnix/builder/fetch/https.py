"""Downloads files by https, so many at a time, and looks at every address it is sent to; what it brings, others check.

1. The address is on the allowlist; each redirect is looked at like the first one, and credentials don't follow it.
2. A connection leads to a public address, or to a listed origin on the loopback (connections.py).
3. The body stays within the size limit, and the whole download within its time.
4. What breaks off is taken up again (transfer.py), what is busy is asked again later (patience.py), both boundedly.
"""

import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType
from typing import Final, Protocol, Self

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from mvmnix.builder.fetch.allow import Allowlist, Url
from mvmnix.builder.fetch.connections import Connections, is_certificate_trouble
from mvmnix.builder.fetch.lifeline import Lifeline, Watch
from mvmnix.builder.fetch.patience import TRANSIENT, Limits, pause
from mvmnix.builder.fetch.transfer import BrokenError, ChangedError, DownloadError, Transfer
from mvmnix.errors import ReasonCode, refuse

__all__ = ["ChangedError", "DownloadError", "Downloader", "Limits", "Meter", "Response"]

_CHUNK: Final = 1 << 17
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS: Final = 10
#: Bodies that nobody reads are read to their end up to here, so that the connection can be used again.
_SMALL: Final = 1 << 16
#: So many bytes arrive before somebody is told again.
_TELL: Final = 1 << 20
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Meter(Protocol):
    """Who is told, from several threads, how far each download is."""

    def received(self, url: str, size: int, total: int | None) -> None:
        """So many bytes of so many arrived, where that is known."""


class Unmetered:
    """Nobody is told."""

    def received(self, url: str, size: int, total: int | None) -> None:
        """Say nothing."""


@dataclass(frozen=True, slots=True)
class Response:
    """What came: status, headers with lower-case names, the address that gave it in the end, the body's size."""

    status: int
    headers: Mapping[str, str]
    url: str
    size: int


class Downloader:
    """Gets what the allowlist allows; safe for many threads. A context manager, which cuts what still runs."""

    def __init__(
        self,
        allowed: Allowlist,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        meter: Meter = Unmetered(),  # noqa: B008 - has no state
        *,
        environment: Mapping[str, str] | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.allowed = allowed
        self.limits = limits
        self.meter = meter
        self._sleep = sleep
        self._watch = Watch(limits.seconds)
        self._slots = threading.BoundedSemaphore(limits.parallel)
        self._closed = False
        self._connections = Connections(
            limits.parallel,
            connect=limits.connect,
            stall=limits.stall,
            environment=os.environ if environment is None else environment,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cut what still runs, and let every connection go."""
        self._closed = True
        self._watch.cut_all()
        self._connections.close()

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
        with self._slots, self._watch.line() as line:
            self._must_run(first, line)
            return self._insist(first, headers, transfer, line)

    def _insist(self, url: Url, headers: Mapping[str, str], transfer: Transfer, line: Lifeline) -> Response:
        """Try until it works, the attempts are used up, or time is over."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._attempt(url, headers, transfer)
            except BrokenError as broken:
                # 3. the time limit
                self._must_run(url, line)
                # 4. again, a few times
                jitter = secrets.randbelow(1000) / 1000
                wait = pause(attempt, broken.after, now=datetime.now(UTC), jitter=jitter)
                if wait is None or attempt >= self.limits.attempts:
                    raise _failed(url, f"{broken} ({attempt} attempts)", broken.status) from broken
            self._sleep(wait)
            self._must_run(url, line)

    def _must_run(self, url: Url, line: Lifeline) -> None:
        if self._closed:
            raise DownloadError(f"the download of {url} was broken off", hint="start it again")
        if line.is_cut:
            why, hint = f"it takes longer than {self.limits.seconds:g} seconds", "raise seconds in config.toml"
            raise refuse(ReasonCode.FETCH_LIMIT, str(url), why, hint)

    def _attempt(self, url: Url, headers: Mapping[str, str], transfer: Transfer) -> Response:
        try:
            there, response = self._open(url, headers, transfer)
            try:
                return self._body(there, response, transfer)
            except BaseException:
                response.close()
                raise
            finally:
                response.release_conn()
        except HTTPError as error:
            if is_certificate_trouble(error):
                raise _failed(url, f"its certificate is not good: {_words(error)}") from error
            raise BrokenError(_words(error)) from error

    def _open(self, url: Url, headers: Mapping[str, str], transfer: Transfer) -> tuple[Url, BaseHTTPResponse]:
        """The answer that is no redirect, and where it came from."""
        here, own = url, headers
        for _ in range(MAX_REDIRECTS + 1):
            response = self._connections.get(here, {**own, **transfer.headers()})
            location = response.headers.get("location")
            if response.status not in _REDIRECTS or location is None:
                return here, response
            _dismiss(response)
            # 1. the next address
            here = self.allowed.follow(here, location)
            own = own if here.origin == url.origin else _NONE
        raise _failed(url, f"it redirects more than {MAX_REDIRECTS} times")

    def _body(self, url: Url, response: BaseHTTPResponse, transfer: Transfer) -> Response:
        status, headers = response.status, {name.lower(): value for name, value in response.headers.items()}
        if status not in {200, 206}:
            _dismiss(response)
            if status in TRANSIENT:
                raise BrokenError(f"the server answers {status}", after=headers.get("retry-after"), status=status)
            if status == 416 and transfer.headers():
                transfer.forget()
                raise BrokenError("the server has no rest of it")
            raise _failed(url, f"the server answers {status}", status, headers.get("www-authenticate", ""))
        transfer.begin(status, headers, response.length_remaining)
        told = transfer.size
        while data := response.read(_CHUNK, decode_content=False):
            transfer.take(data)
            if transfer.size - told >= _TELL:
                told = transfer.size
                self.meter.received(str(url), told, transfer.total)
        transfer.end()
        return Response(status, headers, str(url), transfer.size)


def _dismiss(response: BaseHTTPResponse) -> None:
    """Be done with an answer whose body nobody wants."""
    if response.length_remaining is not None and response.length_remaining <= _SMALL:
        response.read(_SMALL)
        response.release_conn()
    else:
        response.close()


def _failed(url: Url, why: str, status: int | None = None, challenge: str = "") -> DownloadError:
    hint = "look at the address and the network"
    return DownloadError(f"{url} could not be fetched: {why}", hint=hint, status=status, challenge=challenge)


def _words(error: HTTPError) -> str:
    """What went wrong, in short, without the objects that urllib3 puts into its messages."""
    inner = error.args[-1] if error.args and isinstance(error.args[-1], Exception) else error
    text = str(inner).rpartition(">: ")[2] or type(inner).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:300]
