"""Watches for a machine that does nothing."""

import time
from collections.abc import Callable
from typing import Final

from mvmnix.system.loop import Loop

#: So often in the time that is allowed it is looked whether there was traffic; so much later the end may come.
_LOOKS: Final = 8
#: Seconds between two looks, at least and at most.
_SHORTEST, _LONGEST = 0.05, 60.0


class IdleWatch:
    """Watches until it is cancelled, or has called `idle`, once. `traffic` grows with each byte; `seconds` may pass."""

    def __init__(self, loop: Loop, traffic: Callable[[], int], seconds: float, idle: Callable[[], None]) -> None:
        self._loop = loop
        self._traffic = traffic
        self._seconds = seconds
        self._idle = idle
        self._pause = min(max(seconds / _LOOKS, _SHORTEST), _LONGEST)
        self._seen = traffic()
        self._since = time.monotonic()
        self._timer = loop.after(self._pause, self._look)

    def _look(self) -> None:
        seen, now = self._traffic(), time.monotonic()
        if seen != self._seen:
            self._seen, self._since = seen, now
        if now - self._since >= self._seconds:
            self._idle()
        else:
            self._timer = self._loop.after(min(self._pause, self._since + self._seconds - now), self._look)

    def cancel(self) -> None:
        """Stop looking."""
        self._timer.cancel()
