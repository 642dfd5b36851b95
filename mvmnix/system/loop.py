"""The one selectors loop of a process that watches machines: descriptors and timers with callbacks, single-threaded."""

import heapq
import itertools
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

type Callback = Callable[[], None]

#: Seconds that are waited at once: epoll_wait(2) takes an int of milliseconds, and timers may be due years later.
_LONGEST: Final = 86_400.0


class Cancellable(Protocol):
    """What waits for something that may never be due."""

    def cancel(self) -> None:
        """Forget it; harmless when it has happened."""


@dataclass(slots=True, order=True)
class Timer:
    """A callback that is due once, at `due` on the monotonic clock, unless it is cancelled."""

    due: float
    _serial: int
    _callback: Callback | None = field(compare=False)

    def cancel(self) -> None:
        """Forget it; harmless when it has fired."""
        self._callback = None

    @property
    def pending(self) -> bool:
        """Whether it has neither fired nor been cancelled."""
        return self._callback is not None

    def fire(self) -> None:
        """Run the callback, at most once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Loop:
    """Waits for descriptors and timers and runs their callbacks; an exception in one leaves through `turn`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[Timer] = []
        self._serial = itertools.count()
        self._posted: deque[Callback] = deque()
        self._wakeup_fd = -1
        self._ringing = threading.Lock()

    def watch(self, fd: int, *, read: Callback | None = None, write: Callback | None = None) -> None:
        """Set what is watched on `fd`, replacing what was; with neither callback the descriptor is forgotten.

        Raises PermissionError for a descriptor that is always ready, such as a regular file (epoll_ctl(2)).
        """
        events = (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)
        known = self._selector.get_map().get(fd)
        if not events:
            self.forget(fd)
        elif known is None:
            self._selector.register(fd, events, (read, write))
        elif known.events != events or known.data != (read, write):
            self._selector.modify(fd, events, (read, write))

    def forget(self, fd: int) -> None:
        """Watch `fd` no longer, before it is closed; harmless when it isn't watched, or the loop is closed."""
        with suppress(KeyError):
            self._selector.unregister(fd)

    def after(self, seconds: float, callback: Callback) -> Timer:
        """Run `callback` once, so many seconds from now."""
        timer = Timer(time.monotonic() + seconds, next(self._serial), callback)
        heapq.heappush(self._timers, timer)
        return timer

    def post(self, callback: Callback) -> None:
        """Run `callback` in the thread that turns this loop, soon; the one call that other threads may make.

        `listen` has to come before, in the loop's own thread.
        """
        with self._ringing:  # its number may be another descriptor's once it is closed
            if self._wakeup_fd >= 0:
                self._posted.append(callback)
                os.eventfd_write(self._wakeup_fd, 1)

    def listen(self) -> None:
        """Be ready for `post`."""
        if self._wakeup_fd < 0:
            self._wakeup_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self.watch(self._wakeup_fd, read=self._run_posted)

    def _run_posted(self) -> None:
        os.eventfd_read(self._wakeup_fd)
        while self._posted:
            self._posted.popleft()()

    def turn(self, timeout: float | None = None) -> None:
        """Wait for an event, a timer or `timeout` seconds (None: as long as it takes), and run what is due.

        It may return without any of them, after a day.
        """
        while self._timers and not self._timers[0].pending:
            heapq.heappop(self._timers)
        if self._timers:
            until = max(0.0, self._timers[0].due - time.monotonic())
            timeout = until if timeout is None else min(until, timeout)
        for key, events in self._selector.select(None if timeout is None else min(timeout, _LONGEST)):
            read, write = key.data
            if events & selectors.EVENT_READ and self._still(key):
                read()
            if events & selectors.EVENT_WRITE and self._still(key):
                write()
        while self._timers and self._timers[0].due <= time.monotonic():
            heapq.heappop(self._timers).fire()

    def _still(self, key: selectors.SelectorKey) -> bool:
        """Whether an earlier callback of the same turn left this registration as it was."""
        return self._selector.get_map().get(key.fd) == key

    def close(self) -> None:
        """Give the selector's own descriptor and the bell's back; what is posted later is never run."""
        self._selector.close()
        with self._ringing:
            if self._wakeup_fd >= 0:
                os.close(self._wakeup_fd)
                self._wakeup_fd = -1
