"""Puts the body of one download together out of the answers to several requests; no connection, no file.

A broken transfer goes on where it ended, when the server says by a strong ETag that it is still the same file (RFC
9110, sections 13.1.5 and 14). Otherwise it is read from the start, and what has been written has to come again, byte
for byte. The digest that tells is no defence: a server of both halves could serve any bytes at all.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from mvmnix.config import FetchRules
from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError

_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
_STRONG: Final = re.compile(r'"[!#-~]{0,255}"')


class DownloadError(MvmnixError):
    """A download failed; `status` is the server's answer, where that was the reason.

    `challenge` is how it wants to be asked instead (RFC 9110, WWW-Authenticate), in the server's words.
    """

    def __init__(self, message: str, *, hint: str = "", status: int | None = None, challenge: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.challenge = challenge


class TooLargeError(RefusedError):
    """A file has more bytes than it may have."""


class ChangedError(DownloadError):
    """The file became another one while it was fetched: what was written so far is worthless. Fetch it anew."""


class BrokenError(Exception):
    """An answer that can't be gone on with; another request may do better. `after` is its Retry-After."""

    def __init__(self, why: str, *, after: str | None = None, status: int | None = None) -> None:
        super().__init__(why)
        self.after = after
        self.status = status


class Transfer:
    """How far one download is.

    `written` gives the SHA-256 digest, in hexadecimal, of what went to `write` so far, where the caller computes it
    anyway; otherwise it is computed here.
    """

    def __init__(
        self, url: str, write: Callable[[bytes], object], limit: int, written: Callable[[], str] | None = None
    ) -> None:
        self._url = url
        self._write = write
        self._limit = limit
        self._etag = ""
        self._written = written
        self._hasher = hashlib.sha256()
        self._again = 0  # bytes of a fresh start that were written already
        self._hasher_again = hashlib.sha256()
        self.size = 0
        self.total: int | None = None

    def headers(self) -> dict[str, str]:
        """What to ask with: for the rest, if the server can say whether it is the rest of the same."""
        if not self.size or not self._etag:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self._etag}

    def begin(self, status: int, headers: Mapping[str, str], length: int | None) -> None:
        """An answer of status 200 or 206 begins. Raises BrokenError, RefusedError [fetch-limit]."""
        etag = headers.get("etag", "")
        if status == 206:
            self._continue(headers, etag)
        else:
            self._again, self._hasher_again, self.total = self.size, hashlib.sha256(), length
            self._etag = etag if _STRONG.fullmatch(etag) else ""
        if self.total is not None and self.total > self._limit:
            raise self._too_large(f"{self.total} bytes")

    def take(self, data: bytes) -> None:
        """More of the body. Raises ChangedError, RefusedError [fetch-limit]."""
        if self._again:
            skipped, data = data[: self._again], data[self._again :]
            self._hasher_again.update(skipped)
            self._again -= len(skipped)
            if not self._again and self._hasher_again.hexdigest() != self._digest():
                raise self._changed()
        if data:
            if self.size + len(data) > self._limit:
                raise self._too_large(f"more than {self._limit} bytes")
            self._write(data)
            if self._written is None:
                self._hasher.update(data)
            self.size += len(data)

    def end(self) -> None:
        """The body is complete, as far as the connection knows. Raises BrokenError, ChangedError."""
        if self._again:
            raise self._changed()
        if self.total is not None and self.total != self.size:
            raise BrokenError(f"it sent {self.size} bytes of {self.total}")

    def forget(self) -> None:
        """Ask for the whole from now on."""
        self._etag = ""

    def _digest(self) -> str:
        return self._hasher.hexdigest() if self._written is None else self._written()

    def _continue(self, headers: Mapping[str, str], etag: str) -> None:
        match = _RANGE.fullmatch(headers.get("content-range", ""))
        fits = match is not None and int(match[1]) == self.size and match[2] in {"*", str(self.total)}
        if not fits or not self._etag or etag != self._etag:
            self.forget()
            raise BrokenError("it sent another part than the one that was asked for")
        self._again = 0

    def _changed(self) -> ChangedError:
        hint = "fetch it again; if it goes on like this, its server is not to be relied on"
        return ChangedError(f"{self._url} changed while it was fetched", hint=hint)

    def _too_large(self, size: str) -> TooLargeError:
        why, hint = (
            f"it has {size}, and may have {self._limit}",
            "raise size-limit-mib in config.toml, if that is right",
        )
        return TooLargeError(Reason(ReasonCode.FETCH_LIMIT, self._url, why, hint))


#: Answers that may be other ones a moment later (RFC 9110, section 15; RFC 6585).
TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
#: Longest pause, in seconds; a server that asks for more is not waited for.
LONGEST: Final = 60.0


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """Of one download: bytes, seconds in all, without a byte, and to connect, attempts; and how many run at once."""

    size: int = 8 << 30
    seconds: float = 3600
    stall: float = 60
    connect: float = 30
    attempts: int = 5
    parallel: int = 8

    @classmethod
    def of(cls, rules: FetchRules) -> Self:
        """What the configuration says."""
        return cls(size=rules.size_limit, seconds=rules.seconds, parallel=rules.parallel)


def pause(attempt: int, retry_after: str | None, *, jitter: float) -> float | None:
    """Seconds until attempt number `attempt` (from 1) is followed by the next; None: it isn't worth waiting.

    `retry_after` is what the server asks for, in seconds (worker/http1.py reads it). `jitter` is from [0, 1): the many
    downloads that one busy server turned away shall not come back at once.

    >>> [pause(n, None, jitter=0.0) for n in (1, 2, 3, 9)]
    [0.25, 0.5, 1.0, 30.0]
    """
    own = min(0.5 * 2.0 ** (attempt - 1), LONGEST)
    wait = own * (0.5 + jitter / 2)
    asked = None if retry_after is None else _seconds(retry_after)
    if asked is None:
        return wait
    return None if asked > LONGEST else max(asked, wait)


def _seconds(retry_after: str) -> float | None:
    return float(retry_after[:9]) if retry_after.isascii() and retry_after.isdigit() else None
