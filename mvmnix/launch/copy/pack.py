"""Reads a file or directory of the host for a copy into a guest; follows no link, opens neither devices nor FIFOs."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mvmnix.errors import MvmnixError, UsageError
from mvmnix.launch.copy.records import DEPTH, CopyKind, CopyLimits, copy_refusal, record_head, special_refusal

_OPENING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CHUNK = 65536


@dataclass
class Pack:
    """What is read, and how far that has come; what is neither file nor directory is refused, or left out and named."""

    limits: CopyLimits
    skipped: list[str] = field(default_factory=list)
    _records: int = 0
    _size: int = 0

    def chunks(self, path: Path) -> Iterator[bytes]:
        """The records of what lies there. Raises UsageError, RefusedError [copy-refused], MvmnixError."""
        try:
            fd = os.open(path, _OPENING)
        except OSError as error:
            hint = "a symbolic link is not followed: name what it leads to" if path.is_symlink() else ""
            raise UsageError(f"{path}: {error.strerror}", hint=hint) from error
        try:
            yield from self._node(fd, b"", str(path), 0)
            yield record_head(CopyKind.END)
        finally:
            os.close(fd)

    def _node(self, fd: int, name: bytes, where: str, depth: int) -> Iterator[bytes]:
        status = os.fstat(fd)
        match stat.S_IFMT(status.st_mode):
            case stat.S_IFREG:
                yield from self._file(fd, name, where, status)
            case stat.S_IFDIR:
                yield from self._directory(fd, name, where, depth)
            case _:
                raise copy_refusal(where, "it is neither a file nor a directory")

    def _file(self, fd: int, name: bytes, where: str, status: os.stat_result) -> Iterator[bytes]:
        self.count(where, status.st_size)
        yield record_head(CopyKind.FILE, name, mode=status.st_mode & 0o777, size=status.st_size)
        left = status.st_size
        while left:
            data = os.read(fd, min(left, _CHUNK))
            if not data:
                raise MvmnixError(f"{where} became shorter while it was read", hint="keep it still, and try again")
            left -= len(data)
            yield data

    def _directory(self, fd: int, name: bytes, where: str, depth: int) -> Iterator[bytes]:
        if depth >= DEPTH:
            raise copy_refusal(where, f"directories more than {DEPTH} deep")
        self.count(where, 0)
        yield record_head(CopyKind.DIRECTORY, name, mode=os.fstat(fd).st_mode & 0o777)
        for text in sorted(os.listdir(fd)):
            inner = f"{where}/{text}"
            if not self._is_wanted(fd, text, inner):
                continue
            child = os.open(text, _OPENING, dir_fd=fd)
            try:
                yield from self._node(child, os.fsencode(text), inner, depth + 1)
            finally:
                os.close(child)
        yield record_head(CopyKind.LEAVE)

    def _is_wanted(self, fd: int, text: str, where: str) -> bool:
        mode = os.stat(text, dir_fd=fd, follow_symlinks=False).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            return True
        if not self.limits.leaves_out:
            raise special_refusal(where, "a symbolic link" if stat.S_ISLNK(mode) else "neither a file nor a directory")
        self.skipped.append(where)
        return False

    def count(self, where: str, size: int) -> None:
        """One more file or directory, of so many bytes. Raises RefusedError [copy-refused]."""
        self._records += 1
        self._size += size
        if self._records > self.limits.records:
            raise copy_refusal(where, f"more than {self.limits.records} files and directories")
        if self._size > self.limits.size:
            raise copy_refusal(where, self.limits.size_exceeded)
