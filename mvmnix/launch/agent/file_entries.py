"""Reads the records by which a guest lists and describes files (docs/reference/channel.md, "Files"), strictly; no I/O.

What a guest sends is hostile: it is bounded, typed and in order, or refused whole.
"""

import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mvmnix.launch.copy.records import LONGEST_NAME, is_name

#: How many entries a listed directory may have; the agent refuses more.
MOST_ENTRIES: Final = 65_536
_HEAD: Final = struct.Struct(">BBHIQqII")
#: The kind of the last record.
_END: Final = 0
_LARGEST_MODE: Final = 0o7777
_LARGEST_SIZE: Final = 2**63 - 1


class FileEntryError(ValueError):
    """The guest sent entry records that docs/reference/channel.md forbids; none of them is used."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the guest broke the protocol of file operations: {why}")


class FileKind(StrEnum):
    """The type of a file (inode(7))."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    FIFO = "fifo"
    SOCKET = "socket"
    CHARACTER_DEVICE = "character-device"
    BLOCK_DEVICE = "block-device"


#: By the high four bits of its mode.
_KINDS: Final = {
    1: FileKind.FIFO,
    2: FileKind.CHARACTER_DEVICE,
    4: FileKind.DIRECTORY,
    6: FileKind.BLOCK_DEVICE,
    8: FileKind.FILE,
    10: FileKind.LINK,
    12: FileKind.SOCKET,
}


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file in the guest, links not followed, as the guest reports it. Raises ValueError for what can't be."""

    name: str
    """In its directory, with surrogate escapes for what isn't UTF-8; empty in the answer to stat."""
    kind: FileKind
    mode: int
    """Permissions, at most 0o7777."""
    size: int
    """In bytes."""
    mtime_ns: int
    """Unix time of the last modification, in nanoseconds, within 64 bits."""
    uid: int
    gid: int

    def __post_init__(self) -> None:
        if self.name and not is_name(self.name.encode("utf-8", "surrogateescape")):
            raise ValueError(f"not a file's name: {self.name!r}")
        if not 0 <= self.mode <= _LARGEST_MODE or not 0 <= self.size <= _LARGEST_SIZE:
            raise ValueError(f"not a file's mode and size: {self.mode:#o}, {self.size}")


class FileEntryReader:
    """Parser of the guest's output, fed in any portions. Raises FileEntryError."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._entries: list[FileEntry] = []
        self._last = b""
        self._is_complete = False

    def write(self, data: bytes) -> None:
        """Take more of the output."""
        self._buffer += data
        at = 0
        while not self._is_complete and (end := self._record_end(at)) <= len(self._buffer):
            self._take(at, end)
            at = end
        del self._buffer[:at]
        if self._is_complete and self._buffer:
            raise FileEntryError("something follows its end")

    def listing(self) -> tuple[FileEntry, ...]:
        """Return the entries of a directory, ordered by the bytes of their names."""
        self._check_end()
        if self._entries and not self._entries[0].name:
            raise FileEntryError("a listing with a record without a name")
        return tuple(self._entries)

    def status(self) -> FileEntry:
        """Return the answer to stat."""
        self._check_end()
        if len(self._entries) != 1 or self._entries[0].name:
            raise FileEntryError("an answer to stat that is not one record without a name")
        return self._entries[0]

    def _check_end(self) -> None:
        if not self._is_complete:
            raise FileEntryError("it ends too early")

    def _record_end(self, at: int) -> int:
        """Return the end of the record that begins there, or of its head where that is not complete."""
        end = at + _HEAD.size
        if end > len(self._buffer):
            return end
        length: int = _HEAD.unpack_from(self._buffer, at)[3]
        if length > LONGEST_NAME:
            raise FileEntryError(f"a name of {length} bytes")
        return end + length

    def _take(self, at: int, end: int) -> None:
        kind, zero, mode, _, size, *rest = _HEAD.unpack_from(self._buffer, at)
        name = bytes(self._buffer[at + _HEAD.size : end])
        if kind == _END:
            self._is_complete = True
            if (zero, mode, name, size, *rest) != (0, 0, b"", len(self._entries), 0, 0, 0):
                raise FileEntryError(f"an end of {size} entries, where {len(self._entries)} came, or with more fields")
            return
        self._check_order(name)
        if kind not in _KINDS or zero:
            raise FileEntryError(f"a record of kind {kind}, {zero}")
        try:
            self._entries.append(FileEntry(name.decode("utf-8", "surrogateescape"), _KINDS[kind], mode, size, *rest))
        except ValueError as error:
            raise FileEntryError(str(error)) from error
        self._last = name

    def _check_order(self, name: bytes) -> None:
        """Refuse one entry too many, and a name that is not greater than the one before."""
        if len(self._entries) == MOST_ENTRIES:
            raise FileEntryError(f"more than {MOST_ENTRIES} entries")
        if self._entries and name <= self._last:
            raise FileEntryError(f"the name {name!r} behind {self._last!r}")
