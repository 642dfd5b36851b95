"""Runs what takes long beside the thread that answers the VM: a few threads, each result handed back to that thread."""

import queue
import threading
from collections.abc import Callable
from typing import Final, Protocol

from mvmnix.errors import MvmnixError

#: As many as the builder's Nix has questions under way (profiles/builder.nix: http-connections).
THREADS: Final = 8
#: Join timeout of an idle thread, in seconds; one that downloads is not waited for longer.
_FAREWELL: Final = 1

type Outcome[T] = T | MvmnixError


class WorkerPool(Protocol):
    """What runs tasks in threads."""

    def start[T](self, work: Callable[[], T], done: Callable[[Outcome[T]], None]) -> None:
        """Run `work`, and then `done` with its result or its failure, in the thread that answers the VM."""


class Threads:
    """Daemon threads: an interrupted caller doesn't wait for a download. `post` hands a call to the answering thread.

    An error that isn't one of ours is handed on as one: no thread dies with a question unanswered.
    """

    def __init__(self, post: Callable[[Callable[[], None]], None]) -> None:
        self._post = post
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def start[T](self, work: Callable[[], T], done: Callable[[Outcome[T]], None]) -> None:
        """Run `work` in one of the threads, which begin with the first tasks."""

        def task() -> None:
            ended = outcome(work)
            self._post(lambda: done(ended))

        self._queue.put(task)
        if len(self._threads) < THREADS:
            thread = threading.Thread(target=self._work, daemon=True, name="mvm-errand")
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Let the threads go: what is under way still ends, by itself. For callers that are about to fork."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(_FAREWELL)
        self._threads.clear()

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            task()


def outcome[T](work: Callable[[], T]) -> Outcome[T]:
    """The result of `work`, or its failure."""
    try:
        return work()
    except MvmnixError as error:
        return error
    except Exception as error:  # noqa: BLE001 - the thread that waits must hear of it
        return MvmnixError(f"unexpected {type(error).__name__}: {error}", hint="report this as a bug")
