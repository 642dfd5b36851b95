"""Brings files that are held by descriptors to where bubblewrap, as another user, finds them by a short name.

bubblewrap takes a descriptor (--bind-fd), and then looks for the path that leads to it: a user who may not pass the
directories above, as in another user's home, has none. So they are mounted elsewhere, in a mount namespace that only
the child sees (privileges/entry.py).
"""

import os
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mvmnix.privileges import NamespaceEntry, client
from mvmnix.store import memfd


@dataclass(frozen=True, slots=True)
class Bound:
    """bubblewrap's words that bind files, the descriptors that it inherits, and how the child becomes another user."""

    words: tuple[str, ...]
    descriptors: tuple[int, ...]
    entry: NamespaceEntry | None


@contextmanager
def bound(files: Mapping[str, Path | int | bytes], reader: int | None) -> Iterator[Bound]:
    """Have bubblewrap show files and directories, each at its path inside, read-only; of bytes it makes a file.

    `reader` is the uid and gid of the pool that it runs with; None where it runs as the caller. Raises OSError.
    """
    with ExitStack() as stack:
        held: dict[str, int] = {}
        contents: dict[str, int] = {}
        for inside, given in files.items():
            where = contents if isinstance(given, bytes) else held
            where[inside] = _descriptor(given)
            stack.callback(os.close, where[inside])
        made = tuple(word for inside, fd in contents.items() for word in ("--ro-bind-data", str(fd), inside))
        rights = client.current()
        if reader is None or rights is None:
            shown = tuple(word for inside, fd in held.items() for word in ("--ro-bind-fd", str(fd), inside))
            yield Bound((*shown, *made), (*held.values(), *contents.values()), None)
            return
        trees: list[int] = []
        stack.callback(lambda: deque(map(os.close, trees)))
        trees.extend(rights.tree(fd, reader, None) for fd in held.values())
        namespace = rights.namespace_of(reader)
        stack.callback(os.close, namespace)
        entry = NamespaceEntry(namespace, reader, tuple(trees))
        shown = tuple(
            word for source, inside in zip(entry.paths, held, strict=True) for word in ("--ro-bind", source, inside)
        )
        yield Bound((*shown, *made), tuple(contents.values()), entry)


def _descriptor(given: Path | int | bytes) -> int:
    """A new descriptor of it, for bubblewrap to bind or, of bytes, to read."""
    if isinstance(given, bytes):
        return memfd(given, name="mvmnix-file")
    return os.dup(given) if isinstance(given, int) else os.open(given, os.O_PATH | os.O_CLOEXEC)
