"""Says how much a download may take, and how long to wait before it is tried again; pure."""

from dataclasses import dataclass
from typing import Final, Self

from mvmnix.config import FetchRules

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
