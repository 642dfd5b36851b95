"""Looks at a booting guest now and then, and says when it hangs; the rule is in patience.py."""

import time
from collections.abc import Callable
from typing import Final

from mvmnix.launch.guest import Guest
from mvmnix.launch.hypervisor.patience import Patience
from mvmnix.launch.loop import Loop

#: Seconds between two looks, at most.
_LOOK: Final = 0.25


class BootWatch:
    """Watches until it is cancelled, or has called `hung`, once. `budget` in seconds, see `Patience`."""

    def __init__(self, loop: Loop, guest: Guest, budget: float, hung: Callable[[], None]) -> None:
        self._loop = loop
        self._guest = guest
        self._hung = hung
        self._pause = min(_LOOK, budget / 10)
        self._patience = Patience(budget, began=time.monotonic())
        self._timer = loop.after(self._pause, self._look)

    def _look(self) -> None:
        guest = self._guest
        cpu = guest.process.cpu_seconds()
        if self._patience.exhausted(now=time.monotonic(), cpu=cpu, progress=guest.progress):
            self._hung()
        else:
            self._timer = self._loop.after(self._pause, self._look)

    def cancel(self) -> None:
        """Stop looking."""
        self._timer.cancel()
