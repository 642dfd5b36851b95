"""Has bubblewrap show files that are held by descriptors, so that it looks for none by its path."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mvmnix.store import memfd


@dataclass(frozen=True, slots=True)
class Bound:
    """bubblewrap's words that bind files, and the descriptors that it inherits."""

    words: tuple[str, ...]
    descriptors: tuple[int, ...]


@contextmanager
def bound(files: Mapping[str, Path | int | bytes]) -> Iterator[Bound]:
    """Have bubblewrap show files and directories, each at its path inside, read-only; of bytes it makes a file.

    Raises OSError.
    """
    with ExitStack() as stack:
        words, held = list[str](), list[int]()
        for inside, given in files.items():
            held.append(_descriptor(given))
            stack.callback(os.close, held[-1])
            words += ("--ro-bind-data" if isinstance(given, bytes) else "--ro-bind-fd", str(held[-1]), inside)
        yield Bound(tuple(words), tuple(held))


def _descriptor(given: Path | int | bytes) -> int:
    """A new descriptor of it, for bubblewrap to bind or, of bytes, to read."""
    if isinstance(given, bytes):
        return memfd(given, name="mvmnix-file")
    return os.dup(given) if isinstance(given, int) else os.open(given, os.O_PATH | os.O_CLOEXEC)
