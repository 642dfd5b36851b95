"""Says when a guest has written to its shares as much as its plan allows, by what their servers wrote for it."""

from collections.abc import Callable
from typing import Final

from mvmnix.launch.loop import Loop

#: Seconds between two looks: what is written meanwhile is not noticed in time.
LOOK: Final = 0.1


class WriteQuota:
    """Watches until it is cancelled, or has called `reached`, once. `written` and `most` are bytes.

    What can't be counted any more, for which `written` answers None, is as bad as too much.
    """

    def __init__(self, loop: Loop, written: Callable[[], int | None], most: int, reached: Callable[[], None]) -> None:
        self._loop = loop
        self._written = written
        self._most = most
        self._reached = reached
        self._timer = loop.after(LOOK, self._look)

    def _look(self) -> None:
        written = self._written()
        if written is None or written >= self._most:
            self._reached()
        else:
            self._timer = self._loop.after(LOOK, self._look)

    def cancel(self) -> None:
        """Stop looking."""
        self._timer.cancel()
