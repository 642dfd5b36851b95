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


@dataclass(frozen=True, slots=True)
class Bound:
    """bubblewrap's words that bind files, the descriptors that they name, and how the child becomes another user."""

    words: tuple[str, ...]
    descriptors: tuple[int, ...]
    entry: NamespaceEntry | None


@contextmanager
def bound(files: Mapping[str, Path | int], reader: int | None) -> Iterator[Bound]:
    """Have bubblewrap show files and directories, each at its path inside, read-only.

    `reader` is the uid and gid of the pool that it runs with; None where it runs as the caller. Raises OSError.
    """
    with ExitStack() as stack:
        held: dict[str, int] = {}
        for inside, path in files.items():
            held[inside] = os.dup(path) if isinstance(path, int) else os.open(path, os.O_PATH | os.O_CLOEXEC)
            stack.callback(os.close, held[inside])
        rights = client.current()
        if reader is None or rights is None:
            words = (("--ro-bind-fd", str(fd), inside) for inside, fd in held.items())
            yield Bound(tuple(word for three in words for word in three), tuple(held.values()), None)
            return
        trees: list[int] = []
        stack.callback(lambda: deque(map(os.close, trees)))
        trees.extend(rights.tree(fd, reader, None) for fd in held.values())
        namespace = rights.namespace_of(reader)
        stack.callback(os.close, namespace)
        entry = NamespaceEntry(namespace, reader, tuple(trees))
        words = (("--ro-bind", source, inside) for source, inside in zip(entry.paths, held, strict=True))
        yield Bound(tuple(word for three in words for word in three), (), entry)
