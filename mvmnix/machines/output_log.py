"""The only writer and reader of the files in which what a machine's command printed is kept, up to a bound.

Two files in the machine's directory, the newer `output.log` and the older `output.1.log`, hold records: what it is in
one byte, its length in four (big-endian), and its bytes. 1 and 2 are standard output and standard error, in the order
in which they came; 0 is a position, eight bytes: how many bytes of output came before. Each file begins with one. When
the newer one has half of the bound it takes the older one's place, so the oldest output is dropped. A reader knows
from positions how much is missing, there and where the disk didn't take something.

Nothing here waits for a reader, and no failing disk ends a machine: what can't be written is missing, and the next
write is tried again. A file is read up to its last whole record, so that it may be written, or its writer killed,
meanwhile.
"""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from struct import Struct
from typing import Final

from mvmnix.errors import MvmnixError
from mvmnix.system.private_dirs import Directory

#: Bytes that are kept of a command's output where its plan says nothing, both files and what marks records included.
OUTPUT_LIMIT: Final = 16 * 1024 * 1024
NEWER: Final = "output.log"
OLDER: Final = "output.1.log"
_HEAD: Final = Struct(">BI")
_POSITION: Final = Struct(">BIQ")
#: How a position begins: its kind, and the length of the number.
_MARK: Final = (0, 8)
#: Bytes of output in one record. A reader takes at least two whole records at once.
_MOST: Final = 65536
_CHUNK: Final = 4 * _MOST

#: Is given a command's output as it comes, and neither waits nor raises.
type Keep = Callable[[bytes], None]


class Output(IntEnum):
    """Which output of a command."""

    STDOUT = 1
    STDERR = 2


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that a command printed, as they came; they are to be escaped before a terminal gets them."""

    output: Output
    data: bytes


@dataclass(frozen=True, slots=True)
class Missing:
    """So many bytes of output were not kept at this place."""

    count: int


class OutputLog:
    """Keeps output in a machine's directory, which stays the caller's; `limit` in bytes, 0: nothing is kept."""

    def __init__(self, directory: Directory, limit: int) -> None:
        self._directory = directory
        self._most = limit // 2
        self._fd = -1
        self._size = 0
        #: Bytes of output until now, and whether the file says so where it ends.
        self._position = 0
        self._is_told = False
        if self._most:
            with suppress(OSError):  # it is tried again with the first bytes
                self._begin()

    def keep(self, output: Output) -> Keep:
        """What keeps bytes of this output."""
        return partial(self.write, output)

    def write(self, output: Output, data: bytes) -> None:
        """Keep these bytes; of more than the bound holds, the last ones."""
        at = max(0, len(data) - self._most)
        self._lose(at)
        while at < len(data):
            try:
                piece = data[at : at + self._room()]
                self._append(_HEAD.pack(output, len(piece)) + piece)
            except OSError:
                self._lose(len(data) - at)
                return
            self._position += len(piece)
            at += len(piece)

    def close(self) -> None:
        """Say what is missing at the end, if the disk takes that, and close the file; what is written later is lost."""
        self._most = 0
        if self._fd >= 0:
            with suppress(OSError):
                if self._position and not self._is_told:
                    self._append(b"")
            os.close(self._fd)
            self._fd = -1

    def _room(self) -> int:
        """How many bytes of output the next record may have, in a new file where this one is full. Raises OSError."""
        if self._fd < 0 or self._left() <= 0:
            self._begin()
        return min(self._left(), _MOST)

    def _left(self) -> int:
        return self._most - self._size - _HEAD.size - (0 if self._is_told else _POSITION.size)

    def _begin(self) -> None:
        if self._fd >= 0:
            self._directory.rename(NEWER, OLDER, durable=False)
            os.close(self._fd)
            self._fd = -1
        self._fd = self._directory.create_file(NEWER)
        self._size, self._is_told = 0, False

    def _append(self, record: bytes) -> None:
        """Write this record, and the position before it where the file doesn't say it. Raises OSError."""
        position = b"" if self._is_told else _POSITION.pack(*_MARK, self._position)
        if os.pwrite(self._fd, position + record, self._size) < len(position + record):
            raise OSError("a full disk took a part of it")
        self._size += len(position + record)
        self._is_told = True

    def _lose(self, count: int) -> None:
        """Count what isn't kept. What the disk took of a record is cut off: a reader would wait for the rest."""
        if not count:
            return
        self._position += count
        self._is_told = False
        if self._fd >= 0:
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)


class OutputReader:
    """Reads what is kept in a machine's directory, which stays the caller's."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._fd = -1
        self._offset = 0
        #: The position with which the file begins, and that of the next byte.
        self._begins = -1
        self._position = 0

    @property
    def has_begun(self) -> bool:
        """Whether anything was kept, be it nothing yet: that is so from the command's start on."""
        return any(map(self._directory.exists, (NEWER, OLDER)))

    def read(self) -> Iterator[Piece | Missing]:
        """What is there and wasn't read yet; comes to its end however fast the other side writes.

        Raises MvmnixError for a file that isn't what mvm writes.
        """
        left = sum(map(self._size, (NEWER, OLDER))) + (os.fstat(self._fd).st_size if self._fd >= 0 else 0)
        while left > 0 and (self._fd >= 0 or self._open_next()):
            is_newest = self._is_newest()  # asked before the last look at the file
            used = yield from self._records(os.pread(self._fd, _CHUNK, self._offset))
            self._offset += used
            left -= used
            if not used:
                if is_newest:
                    return
                self.close()

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _records(self, data: bytes) -> Generator[Piece | Missing, None, int]:
        """The whole records with which this begins; returns how many bytes they have."""
        at = 0
        while at + _HEAD.size <= len(data):
            kind, size = _HEAD.unpack_from(data, at)
            after = at + _HEAD.size + size
            if (kind, size) != _MARK and (size > _MOST or kind not in set(Output)):
                raise self._malformed()
            if after > len(data):
                break
            if (kind, size) == _MARK:
                (_, _, position) = _POSITION.unpack_from(data, at)
                if position < self._position:
                    raise self._malformed()
                if position > self._position:
                    yield Missing(position - self._position)
                self._position = position
            else:
                self._position += size
                yield Piece(Output(kind), data[at + _HEAD.size : after])
            at = after
        return at

    def _malformed(self) -> MvmnixError:
        where = self._directory.where(NEWER)
        hint = f"look at {self._directory.path}; the kernel's console: mvm logs --console"
        return MvmnixError(f"{where}, or the older {OLDER}, is not what mvm writes", hint=hint)

    def _is_newest(self) -> bool:
        """Whether no later file was begun. Between two files the older one is the newest, and none has its name."""
        for name in (NEWER, OLDER):
            with suppress(FileNotFoundError):
                newest = os.stat(name, dir_fd=self._directory.fd, follow_symlinks=False)
                return os.path.samestat(newest, os.fstat(self._fd))
        return True

    def _open_next(self) -> bool:
        """Open the oldest file that begins behind the one before; whether there is one.

        The newer one first: one that is renamed in between is then opened twice, and not overlooked.
        """
        found = sorted(filter(None, map(self._opened, (NEWER, OLDER))))
        for _, fd in found[1:]:
            os.close(fd)
        if not found:
            return False
        self._begins, self._fd = found[0]
        self._offset = 0
        return True

    def _opened(self, name: str) -> tuple[int, int] | None:
        """The position with which a file begins, and its descriptor; None for one that was read, or is empty yet."""
        try:
            fd = self._directory.open_file(name)
        except FileNotFoundError:
            return None
        head = os.pread(fd, _POSITION.size, 0)
        *mark, begins = _POSITION.unpack(head) if len(head) == _POSITION.size else (*_MARK, -1)
        if tuple(mark) == _MARK and begins > self._begins:
            return begins, fd
        os.close(fd)
        if tuple(mark) != _MARK:
            raise self._malformed()
        return None

    def _size(self, name: str) -> int:
        try:
            return os.stat(name, dir_fd=self._directory.fd, follow_symlinks=False).st_size
        except FileNotFoundError:
            return 0
