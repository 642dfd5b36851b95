"""Reads files of a work tree, one after another; follows no link, and opens directories and regular files alone."""

import errno
import os
import stat
from collections.abc import Sequence
from typing import Final, Self

from mvmnix.formats import nar

_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FileReader:
    """Reads files beneath a directory, quick in the order of their paths. A context manager."""

    def __init__(self, top: int) -> None:
        """`top` is a descriptor of the directory, which stays the caller's."""
        self._top = top
        self._way: list[tuple[bytes, int]] = []  # the directories that are open, each in the one before

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the directories that are open."""
        self._leave(0)

    def read(self, path: Sequence[bytes], limit: int) -> nar.File | nar.Symlink:
        """Read a file or a link into memory. Raises OSError for what isn't one, or has more than `limit` bytes."""
        *way, name = path
        parent = self._go(way)
        try:
            fd = os.open(name, _FILE, dir_fd=parent)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            return nar.Symlink(os.readlink(name, dir_fd=parent))
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
                raise OSError(errno.EINVAL, "not a regular file, or too large")
            # one byte more: it may be growing
            content = os.read(fd, status.st_size + 1)
            return nar.File.of(content, executable=bool(status.st_mode & stat.S_IXUSR))
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
