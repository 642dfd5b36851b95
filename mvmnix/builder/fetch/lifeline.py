"""Cuts the connections of a download when its time is over, whatever they wait for; opens none.

A time limit for each read is not enough: a peer that sends a byte now and then, be it of a header or of a TLS
handshake, meets every one of them.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar


class Watch:
    """Cuts each lifeline when its time is over; all of them have the same. Its thread is there while one of them is."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._changed = threading.Condition()
        self._ends: dict[Lifeline, float] = {}  # in the order in which they end
        self._thread: threading.Thread | None = None

    @contextmanager
    def line(self) -> Iterator["Lifeline"]:
        """A lifeline for what this thread does meanwhile."""
        line = Lifeline()
        with self._changed:
            self._ends[line] = time.monotonic() + self._seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mvmnix-watch", daemon=True)
                self._thread.start()
        token = _CURRENT.set(line)
        try:
            yield line
        finally:
            _CURRENT.reset(token)
            self._end(line)
            line.close()

    def cut_all(self) -> None:
        """End everything that runs now."""
        with self._changed:
            for line in self._ends:
                line.cut()

    def _end(self, line: "Lifeline") -> None:
        """Whoever was the last waits for the thread: a process that forks has no other."""
        with self._changed:
            del self._ends[line]
            if self._ends or self._thread is None:
                return
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        thread.join()

    def _run(self) -> None:
        with self._changed:
            while self._thread is threading.current_thread():
                now = time.monotonic()
                for line in [line for line, end in self._ends.items() if end <= now]:
                    line.cut()
                coming = (end for line, end in self._ends.items() if not line.is_cut)
                self._changed.wait(next(coming, now + self._seconds) - now)


class Lifeline:
    """The connections of one transfer, while it lasts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[socket.socket] = []
        self.is_cut = False

    def close(self) -> None:
        """The transfer is over."""
        with self._lock:
            for held in self._held:
                held.close()
            self._held.clear()

    def hold(self, connection: socket.socket) -> None:
        """This connection is used from here on."""
        held = socket.socket(connection.family, connection.type, connection.proto, os.dup(connection.fileno()))
        with self._lock:
            self._held.append(held)
        if self.is_cut:
            self.cut()

    def cut(self) -> None:
        """End the transfer now; whoever waits on its connections is woken."""
        self.is_cut = True
        with self._lock:
            for held in self._held:
                with suppress(OSError):
                    held.shutdown(socket.SHUT_RDWR)


_CURRENT: ContextVar[Lifeline | None] = ContextVar("lifeline", default=None)


def hold(connection: socket.socket) -> None:
    """What this thread downloads just now uses this connection from here on."""
    line = _CURRENT.get()
    if line is not None:
        line.hold(connection)
