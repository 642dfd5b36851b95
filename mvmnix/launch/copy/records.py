"""The records that a copy is made of (docs/reference/channel.md, "Copies"), written and read strictly; no I/O.

What a guest sends is hostile: names, sizes, numbers and nesting are bounded before anything is done with them.
"""

import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from mvmnix.errors import ReasonCode, RefusedError, refuse

#: How deep directories may lie in one another, and how long a name may be in bytes.
DEPTH: Final = 64
LONGEST_NAME: Final = 255
_HEAD: Final = struct.Struct(">BBHIQ")


class CopyKind(IntEnum):
    """What a record is: a file, a directory, the end of one, something that was left out, the end of all."""

    FILE = 1
    DIRECTORY = 2
    LEAVE = 3
    LEFT_OUT = 4
    END = 5


#: What can be left out, by the high four bits of its mode (inode(7)).
_LEFT_OUT: Final = {1: "a FIFO", 2: "a character device", 6: "a block device", 10: "a symbolic link", 12: "a socket"}


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """Most records of a copy, and most bytes of all its files together.

    With `leaves_out`, what is neither a file nor a directory is counted and named, in place of being refused.
    """

    records: int = 100_000
    size: int = 1 << 30
    leaves_out: bool = False

    @property
    def size_exceeded(self) -> str:
        """Why a copy is refused that has more bytes."""
        return f"more than {self.size} bytes; --limit-mib allows more"


class Receiver(Protocol):
    """Where a copy goes; names are single components, empty for what was asked for itself."""

    def file(self, name: bytes, mode: int, size: int) -> None:
        """A file begins, of so many bytes."""

    def data(self, data: bytes) -> None:
        """More of it."""

    def file_end(self) -> None:
        """It is complete."""

    def enter(self, name: bytes, mode: int) -> None:
        """A directory begins; what follows lies in it."""

    def leave(self) -> None:
        """It is complete."""


def copy_refusal(what: str, why: str) -> RefusedError:
    """The refusal of something that would be copied."""
    hint = "copy less of it, or have the guest put it into a file first"
    return refuse(ReasonCode.COPY_REFUSED, what, why, hint)


def special_refusal(name: str, what: str) -> RefusedError:
    """The refusal of something that is neither a file nor a directory."""
    return copy_refusal(name, f"it is {what}, and those are not copied; --leave-out goes on without them")


def record_head(kind: CopyKind, name: bytes = b"", *, mode: int = 0, size: int = 0) -> bytes:
    """A record, whose file's bytes are to follow. Raises ValueError for what can't be one."""
    if name and not is_name(name):
        raise ValueError(f"not a name: {name!r}")
    return _HEAD.pack(kind, 0, mode, len(name), size) + name


def is_name(name: bytes) -> bool:
    """Whether it can be the name of something in a directory."""
    return 0 < len(name) <= LONGEST_NAME and name not in {b".", b".."} and not set(name) & set(b"/\0")


class Reader:
    """Feed it the stream; it tells the receiver. Raises RefusedError [copy-refused], and whatever the receiver does."""

    def __init__(self, receiver: Receiver, limits: CopyLimits) -> None:
        #: The names of what was left out.
        self.skipped: list[str] = []
        self._receiver = receiver
        self._limits = limits
        self._buffer = bytearray()
        self._left = 0
        self._in_file = False
        self._depth = self._records = self._size = 0
        self._ended = False

    def write(self, data: bytes) -> None:
        """Take more of the stream."""
        view = memoryview(data)
        while view or (self._in_file and not self._left):
            view = self._body(view) if self._in_file else self._record(view)

    def close(self) -> None:
        """The stream has ended."""
        if not self._ended:
            raise copy_refusal("the copy", "it ends too early")

    def _body(self, view: memoryview) -> memoryview:
        taken = min(self._left, len(view))
        if taken:
            self._receiver.data(bytes(view[:taken]))
        self._left -= taken
        if not self._left:
            self._in_file = False
            self._receiver.file_end()
        return view[taken:]

    def _record(self, view: memoryview) -> memoryview:
        if self._ended:
            raise copy_refusal("the copy", "something follows its end")
        wanted = _HEAD.size if len(self._buffer) < _HEAD.size else _HEAD.size + self._name_length()
        taken = min(wanted - len(self._buffer), len(view))
        self._buffer += view[:taken]
        if len(self._buffer) >= _HEAD.size and len(self._buffer) == _HEAD.size + self._name_length():
            kind, zero, mode, _, size = _HEAD.unpack_from(self._buffer)
            name = bytes(self._buffer[_HEAD.size :])
            self._buffer.clear()
            self._judge(kind, zero, mode, name, size)
            self._tell(CopyKind(kind), mode, name, size)
        return view[taken:]

    def _name_length(self) -> int:
        length: int = _HEAD.unpack_from(self._buffer)[3]
        if length > LONGEST_NAME:
            raise copy_refusal("the copy", f"a name of {length} bytes")
        return length

    def _judge(self, kind: int, zero: int, mode: int, name: bytes, size: int) -> None:
        """Whether such a record may come here."""
        self._records += 1
        self._size += size
        named = kind in {CopyKind.FILE, CopyKind.DIRECTORY, CopyKind.LEFT_OUT} and self._depth > 0
        begins = kind in {CopyKind.FILE, CopyKind.DIRECTORY} and self._records == 1
        problems = (
            (kind not in set(CopyKind) or zero != 0, "a record of an unknown kind"),
            (self._records > self._limits.records, f"more than {self._limits.records} files and directories"),
            (self._size > self._limits.size, self._limits.size_exceeded),
            (size > 0 and kind != CopyKind.FILE, "a size of something that is not a file"),
            (not self._mode_fits(kind, mode), f"a mode of {mode:#o}"),
            (bool(name) != named or (named and not is_name(name)), f"a record with the name {name!r}"),
            (
                self._depth == 0 and not begins and not (kind == CopyKind.END and self._records > 1),
                "a record out of order",
            ),
            (self._depth > 0 and kind == CopyKind.END, "an end within a directory"),
            (self._depth >= DEPTH and kind == CopyKind.DIRECTORY, f"directories more than {DEPTH} deep"),
        )
        for bad, why in problems:
            if bad:
                raise copy_refusal("the copy", why)

    @staticmethod
    def _mode_fits(kind: int, mode: int) -> bool:
        match kind:
            case CopyKind.FILE | CopyKind.DIRECTORY:
                return mode <= 0o777
            case CopyKind.LEFT_OUT:
                return mode in _LEFT_OUT
            case _:
                return mode == 0

    def _tell(self, kind: CopyKind, mode: int, name: bytes, size: int) -> None:
        match kind:
            case CopyKind.FILE:
                self._in_file, self._left = True, size
                self._receiver.file(name, mode, size)
            case CopyKind.DIRECTORY:
                self._depth += 1
                self._receiver.enter(name, mode)
            case CopyKind.LEAVE:
                self._depth -= 1
                self._receiver.leave()
            case CopyKind.LEFT_OUT:
                if not self._limits.leaves_out:
                    raise special_refusal(os.fsdecode(name), _LEFT_OUT[mode])
                self.skipped.append(os.fsdecode(name))
            case CopyKind.END:
                self._ended = True
