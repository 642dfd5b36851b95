"""Compares a commit's files with those in a work tree and in an index, by their bytes; follows no link."""

import os
import stat
from collections.abc import Sequence
from typing import Final, Self

from mvmnix.builder.flakes.git_objects import TreeEntry

_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Comparison:
    """Compares a commit's files with those in a work tree, one after another. A context manager.

    No link is followed, and no file is read that has another size. What can't be read differs.
    """

    def __init__(self, top: int) -> None:
        """`top` is a descriptor of the work tree."""
        self._top = top
        self._way: list[tuple[bytes, int]] = []  # the directories that are open, each in the one before
        self._files: list[TreeEntry] = []
        #: Whether all of them lie in the work tree, with the same bytes.
        self.is_same = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave(0)

    def add(self, entry: TreeEntry, content: bytes) -> None:
        """Compare one more file of the commit; quick in the order of their paths."""
        self._files.append(entry)
        if self.is_same:
            try:
                self.is_same = self._is_there(entry, content)
            except OSError:
                self.is_same = False

    def is_listed(self, listing: bytes) -> bool:
        """Whether an index has the same files as the commit, by what `git ls-files --stage -z` prints of it."""
        lines = sorted(  # as in an index: by the bytes of the paths (gitformat-index(5))
            (b"/".join(entry.path), b"%s %s 0" % (_index_mode(entry), entry.oid.encode())) for entry in self._files
        )
        return listing == b"".join(b"%s\t%s\0" % (line, path) for path, line in lines)

    def _is_there(self, entry: TreeEntry, content: bytes) -> bool:
        """Raises OSError where it can't be read."""
        *way, name = entry.path
        parent = self._go(way)
        if entry.is_link:
            return os.readlink(name, dir_fd=parent) == content
        fd = os.open(name, _FILE, dir_fd=parent)
        try:
            status = os.fstat(fd)
            is_alike = stat.S_ISREG(status.st_mode) and status.st_size == len(content)
            is_alike = is_alike and bool(status.st_mode & stat.S_IXUSR) == entry.is_executable
            return is_alike and os.read(fd, len(content) + 1) == content
        finally:
            os.close(fd)

    def _go(self, way: Sequence[bytes]) -> int:
        """Open the directory with this path, beginning at the last one that was opened. Raises OSError."""
        shared = 0
        while shared < min(len(way), len(self._way)) and self._way[shared][0] == way[shared]:
            shared += 1
        self._leave(shared)
        for name in way[shared:]:
            self._way.append((name, os.open(name, _DIRECTORY, dir_fd=self._way[-1][1] if self._way else self._top)))
        return self._way[-1][1] if self._way else self._top

    def _leave(self, depth: int) -> None:
        """Close the directories below this depth."""
        while len(self._way) > depth:
            os.close(self._way.pop()[1])


def _index_mode(entry: TreeEntry) -> bytes:
    """The mode of a file in an index, which has no others (gitformat-index(5))."""
    if entry.is_link:
        return b"120000"
    return b"100755" if entry.is_executable else b"100644"
