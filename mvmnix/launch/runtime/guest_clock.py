"""Keeps a guest's clock at the host's: tells the guest the time when it starts, when it goes on, and now and then."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from mvmnix.plan.plan import Plan
from mvmnix.system.loop import Loop

#: Seconds between two tellings. The agent puts a clock back after eight: one that is fast by a thousandth
#: is ahead by 0.08 s then.
INTERVAL: Final = 10.0


def guest_time(plan: Plan, clock: Callable[[], datetime]) -> int:
    """Return the Unix time in nanoseconds that the plan's guest has now."""
    offset = plan.variation.clock_offset if plan.variation else 0
    return int((clock().timestamp() + offset) * 1e9)


class GuestClock:
    """Calls `tell` now, and then every INTERVAL seconds until it is cancelled."""

    def __init__(self, loop: Loop, tell: Callable[[], None]) -> None:
        self._loop = loop
        self._tell = tell
        self._beat()

    def _beat(self) -> None:
        self._tell()
        self._timer = self._loop.after(INTERVAL, self._beat)

    def cancel(self) -> None:
        """Tell no more."""
        self._timer.cancel()
