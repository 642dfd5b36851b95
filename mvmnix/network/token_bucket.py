"""A token bucket, pure but for the clock that it is given."""

from collections.abc import Callable


class TokenBucket:
    """Tokens that may be taken: `burst` of them at once, and `per_second` that come back."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float]) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._left, self._since = burst, clock()

    def take(self) -> bool:
        """Take a token; False where there is none."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._since) * self._per_second)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
