"""An event loop whose time passes only while nothing is ready: time-outs run out at once, and in their order."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, override

#: Turns of a loop in which no time passes, after which it counts as hung.
_MOST: Final = 50_000


class _Selector(selectors.DefaultSelector):
    now = 0.0
    turns = 0

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("nothing will ever happen")
        passed = 0.0 if ready else max(0.0, timeout or 0.0)
        self.now += passed
        self.turns = 0 if passed else self.turns + 1
        if self.turns > _MOST:
            raise AssertionError("it goes on and on, and nothing comes of it")
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For code of one thread that talks to itself over sockets."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    @override
    def time(self) -> float:
        return self._virtual.now


def run[T](main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end, which begins at second 0."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())
