"""Walks a directory by descriptors: to a depth, without following a link, with two descriptors for each level."""

import os
from collections.abc import Generator
from contextlib import suppress


def walk(
    directory: int, deepest: int, above: tuple[str, ...] = ()
) -> Generator[tuple[tuple[str, ...], os.DirEntry[str]]]:
    """Each entry in `directory`, a descriptor, and beneath it, with the names of the directories that lead to it.

    Directories at level `deepest` (1 is the first) are yielded and not entered, nor is one that is gone or can't be
    opened. The caller bounds the number of entries: it stops asking.
    """
    with os.scandir(directory) as found:  # it has a descriptor of its own
        for entry in found:
            yield above, entry
            if (
                len(above) + 1 < deepest
                and is_directory(entry)
                and (child := _entered(directory, entry.name)) is not None
            ):
                try:
                    yield from walk(child, deepest, (*above, entry.name))
                finally:
                    os.close(child)


def is_directory(entry: os.DirEntry[str]) -> bool:
    """Whether it is one itself, and no link to one."""
    with suppress(OSError):
        return entry.is_dir(follow_symlinks=False)
    return False


def _entered(parent: int, name: str) -> int | None:
    with suppress(OSError):
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    return None
