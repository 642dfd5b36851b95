"""Shared locks within one process: as many as ask for one, none of them alone, and gone with the last."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mvmnix.system import file_lock
from mvmnix.system.private_dirs import Directory
from tests.patience import EVENT_PATIENCE, SHORT


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory.create(str(tmp_path / "locks"))


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def test_threads_and_one_thread_share_a_lock(directory: Directory) -> None:
    with directory:
        first, second = directory.share("a"), directory.share("a")
        third = list[file_lock.Lock]()
        in_thread(lambda: third.append(directory.share("a"))).join(EVENT_PATIENCE)
        assert directory.try_lock("a") is None
        first.release()
        first.release()
        second.release()
        assert directory.try_lock("a") is None, "the third still has it"
        third[0].release()
        alone = directory.try_lock("a")
        assert alone is not None
        alone.release()


def test_a_shared_lock_waits_for_one_that_is_held_alone(directory: Directory) -> None:
    with directory:
        alone = directory.lock("a")
        with pytest.raises(RuntimeError, match="this thread holds the lock 'a' already"):
            directory.share("a")
        shared = threading.Event()

        def share() -> None:
            with directory.share("a"):
                shared.set()

        threads = [in_thread(share), in_thread(share)]
        assert not shared.wait(SHORT)
        alone.release()
        for thread in threads:
            thread.join(EVENT_PATIENCE)
        assert shared.is_set()
        with directory.share("a"), pytest.raises(RuntimeError, match="already"):
            directory.lock("a")
