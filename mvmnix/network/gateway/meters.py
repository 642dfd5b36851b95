"""Counts what the connections of each rule use, against the rule's limits; pure but for the clock that it is given."""

from collections.abc import Callable
from typing import Final

from mvmnix.plan.network import RuleLimits

#: Seconds of its rate that a rule may use at once.
_BURST: Final = 0.25


class RuleMeter:
    """One rule's: bytes of both directions for the machine's life, their rate, and connections at a time."""

    def __init__(self, limits: RuleLimits, clock: Callable[[], float]) -> None:
        self._limits, self._clock = limits, clock
        self._bytes = 0
        self._connections = 0
        #: When all bytes until now will have had their time, by the rate.
        self._due = clock()

    @property
    def is_spent(self) -> bool:
        """Whether there may be no more bytes."""
        return self._limits.bytes is not None and self._bytes >= self._limits.bytes

    def open(self) -> bool:
        """Count a connection; False where there are as many as there may be."""
        if self._limits.connections is not None and self._connections >= self._limits.connections:
            return False
        self._connections += 1
        return True

    def close(self) -> None:
        """One connection less."""
        self._connections -= 1

    @property
    def debt(self) -> float:
        """Seconds until more may be read: what was, has had its time then."""
        return 0.0 if self._limits.bytes_per_second is None else max(0.0, self._due - self._clock())

    def take(self, count: int) -> float | None:
        """Count bytes that were read; the seconds to wait before more are, None where these were more than may be."""
        self._bytes += count
        if self._limits.bytes is not None and self._bytes > self._limits.bytes:
            return None
        if self._limits.bytes_per_second is None:
            return 0.0
        now = self._clock()
        self._due = max(self._due, now - _BURST) + count / self._limits.bytes_per_second
        return max(0.0, self._due - now)
