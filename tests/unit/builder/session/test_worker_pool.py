"""Errands run elsewhere, and their results come home."""

import threading
from collections.abc import Callable
from queue import SimpleQueue

from mvmnix.builder.session.worker_pool import THREADS, Threads
from mvmnix.errors import MvmnixError
from tests.patience import EVENT_PATIENCE


def home_of(count: int, *works: Callable[[], int]) -> list[int | MvmnixError]:
    """Run these errands, and their results in the order in which they came home, in this thread."""
    posted: SimpleQueue[Callable[[], None]] = SimpleQueue()
    threads, results = Threads(posted.put), list[int | MvmnixError]()
    here = threading.get_ident()

    def done(outcome: int | MvmnixError) -> None:
        assert threading.get_ident() == here
        results.append(outcome)

    for work in works:
        threads.start(work, done)
    for _ in range(count):
        posted.get(timeout=EVENT_PATIENCE)()
    threads.close()
    assert not [it for it in threading.enumerate() if it.name == "mvm-errand"], "nobody forks beside a thread"
    return results


def test_results_and_failures_come_home() -> None:
    def broken() -> int:
        raise ValueError("what")

    def refused() -> int:
        raise MvmnixError("no")

    results = home_of(3, lambda: 7, broken, refused)
    assert 7 in results
    messages = sorted(str(it) for it in results if isinstance(it, MvmnixError))
    assert messages == ["no", "unexpected ValueError: what. Next: report this as a bug"]


def test_as_many_at_once_as_there_are_threads_and_no_more() -> None:
    barrier, running, most = threading.Barrier(THREADS), 0, 0
    lock = threading.Lock()

    def work() -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait(EVENT_PATIENCE)  # breaks unless so many are here at once
        with lock:
            running -= 1
        return 0

    results = home_of(2 * THREADS, *[work] * (2 * THREADS))
    assert results == [0] * (2 * THREADS)
    assert most <= THREADS
