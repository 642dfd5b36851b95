"""Waits for what comes once on a connection, be it by however many threads and tasks."""

import threading
import time
from collections.abc import Callable
from typing import Final

from mvmnix.launch.control.connection import Connection
from mvmnix.launch.control.drivers import Steps, Wait
from mvmnix.sdk.errors import TimedOut

#: Seconds between two looks at what another thread or task waits for.
_LOOK: Final = 0.05


class Outcome[T]:
    """A value that a connection brings; one thread or task listens at a time, and the others look again.

    `take` reads what is there, and returns the value, or None where that wasn't it. `late` makes the error of a wait
    that took too long.
    """

    def __init__(
        self, connection: Connection, take: Callable[[], Steps[T | None]], late: Callable[[], TimedOut]
    ) -> None:
        self.value: T | None = None
        self._connection = connection
        self._take = take
        self._late = late
        self._listening = threading.Lock()

    def wait(self, timeout: float | None) -> Steps[T]:
        """Return the value, at the latest after so many seconds. Raises TimedOut, and what `take` raises."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.value is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            yield from self._listen(left)
            if left == 0 and self.value is None:
                raise self._late()
        return self.value

    def _listen(self, seconds: float | None) -> Steps[None]:
        if not self._listening.acquire(blocking=False):
            yield Wait(seconds=_LOOK)
            return
        try:
            if self.value is None and (yield Wait(read=(self._connection.fileno(),), seconds=seconds)):
                self.value = yield from self._take()
        finally:
            self._listening.release()
