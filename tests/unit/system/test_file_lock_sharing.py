"""Threads of one process that share a lock: together while they do, and out of the way of one that is to be alone."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.system import file_lock
from tests.descriptors import nothing_left_open
from tests.patience import until


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def in_a_child(directory: int) -> bool:
    """Whether another process gets the lock for itself."""
    child = os.fork()
    if child == 0:
        os._exit(0 if file_lock.try_acquire(directory, "lock") is not None else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_it_is_shared_within_a_process(directory: int) -> None:
    with nothing_left_open():
        first, second = (file_lock.acquire(directory, "lock", is_shared=True) for _ in range(2))
        assert file_lock.try_acquire(directory, "lock") is None
        first.release()
        first.release()
        assert not in_a_child(directory), "the second still holds it"
        second.release()
        assert in_a_child(directory)


def test_a_thread_that_wants_it_alone_waits_for_all(directory: int) -> None:
    held = [file_lock.acquire(directory, "lock", is_shared=True) for _ in range(3)]
    alone = list[file_lock.Lock]()
    waiting = threading.Thread(target=lambda: alone.append(file_lock.acquire(directory, "lock")))
    waiting.start()
    for lock in held:
        assert not alone
        lock.release()
    waiting.join()
    assert file_lock.holder(directory, "lock") == os.getpid()
    alone[0].release()


def test_threads_that_wait_for_one_that_is_alone_share_it_then(directory: int) -> None:
    alone, shared = file_lock.acquire(directory, "lock"), list[file_lock.Lock]()
    threads = [
        threading.Thread(target=lambda: shared.append(file_lock.acquire(directory, "lock", is_shared=True)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    assert not shared
    alone.release()
    until(lambda: len(shared) == 4)
    for thread in threads:
        thread.join()
    for lock in shared:
        lock.release()


def test_one_that_is_held_alone_is_not_shared_by_its_own_thread(directory: int) -> None:
    with file_lock.acquire(directory, "lock"), pytest.raises(RuntimeError, match="holds the lock"):
        file_lock.acquire(directory, "lock", is_shared=True)
