"""What a test has open: asked of the kernel below a directory, and closed at its end."""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.support.processes import list_open


def open_below(directory: Path) -> set[str]:
    """The paths, by the kernel's word, whatever else is open."""
    return {name for name in list_open() if name.startswith(str(directory))}


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Around what opens descriptors: afterwards those are open, by their numbers, that were before."""
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers
    yield
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


_OPEN: Final[list[ExitStack]] = []


@contextmanager
def closed_at_the_end() -> Iterator[None]:
    """Around a test: what it opens `until_the_end` is closed then."""
    with ExitStack() as opened:
        _OPEN.append(opened)
        try:
            yield
        finally:
            _OPEN.pop()


def until_the_end[T: AbstractContextManager[object]](opened: T) -> T:
    """Leave it open for as long as the test runs; for whoever builds a test's world in a constructor.

    Raises IndexError outside of `closed_at_the_end`: nothing would ever close it.
    """
    _OPEN[-1].enter_context(opened)
    return opened


def close_all(descriptors: Iterable[int]) -> None:
    """Close these."""
    for fd in descriptors:
        os.close(fd)
