"""Reads one layer's tar archive, strictly: what two readers could take for two things is refused; extracts nothing.

POSIX.1-2001 pax and ustar (POSIX, "pax", "EXTENDED DESCRIPTION"), GNU's long names and large numbers (GNU tar manual,
"Basic Tar Format"). Runs inside the builder VM, with Python's standard library alone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import BinaryIO, Final

BLOCK: Final = 512
#: Bounds on what stands before an entry: bytes of a pax header or long name, digits of a record's length.
MAX_HEADER: Final = 1 << 20
MAX_PATH: Final = 4095
MAX_ID: Final = 2**32 - 2

_OCTAL: Final = re.compile(rb" *([0-7]*)[ \0]*")
_RECORD: Final = re.compile(rb"([1-9][0-9]{0,6}) ([^=]{1,255})=", re.DOTALL)
#: POSIX keeps lower-case keywords for itself; these are read or say nothing about a file system.
_READ: Final = frozenset({b"path", b"linkpath", b"size", b"uid", b"gid"})
_IDLE: Final = frozenset({b"atime", b"charset", b"comment", b"ctime", b"gname", b"hdrcharset", b"mtime", b"uname"})


class LayerError(ValueError):
    """A layer is refused; the text says which entry, and why."""


class Kind(Enum):
    """What an entry is, by its type flag."""

    FILE = b"0"
    HARD_LINK = b"1"
    SYMLINK = b"2"
    CHARACTER_DEVICE = b"3"
    BLOCK_DEVICE = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: `name` and `link` as they stand there, `offset` where its `size` bytes begin in the archive."""

    name: bytes
    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int
    offset: int
    link: bytes


@dataclass(slots=True)
class _Extended:
    """What headers before an entry said of it; `style` is b"x" for pax, b"L" for GNU, which are not mixed."""

    style: bytes = b""
    values: dict[bytes, bytes] = field(default_factory=dict)

    def add(self, style: bytes, values: dict[bytes, bytes]) -> None:
        if self.style not in {b"", style} or (style == b"x" and self.style):
            raise LayerError("an entry has extended headers of two kinds, or twice")
        self.style = style
        if self.values.keys() & values.keys():
            raise LayerError("an entry has two long names")
        self.values |= values


def entries(archive: BinaryIO, size: int) -> Iterator[Entry]:
    """The entries of an uncompressed archive of `size` bytes, in its order. Raises LayerError."""
    offset, extended = 0, _Extended()
    while True:
        header = _exactly(archive, offset, BLOCK)
        offset += BLOCK
        if header == bytes(BLOCK):
            break
        flag, length = _checked(header), _number(header[124:136], 2**62)
        if flag in {b"x", b"g", b"L", b"K"}:
            if length > MAX_HEADER:
                raise LayerError(f"an extended header of {length} bytes")
            _extend(extended, flag, _exactly(archive, offset, length))
        else:
            entry = _entry(header, flag, length, offset, extended)
            length, extended = entry.size, _Extended()
            yield entry
        offset += -(-length // BLOCK) * BLOCK
        if offset > size:
            raise LayerError("the archive is cut off")
    if extended.style:
        raise LayerError("the archive ends after an extended header")
    _only_zeros(archive, offset)


def _exactly(archive: BinaryIO, offset: int, size: int) -> bytes:
    archive.seek(offset)
    data = archive.read(size)
    if len(data) != size:
        raise LayerError("the archive is cut off")
    return data


def _only_zeros(archive: BinaryIO, offset: int) -> None:
    """Behind the end mark, where some readers go on."""
    archive.seek(offset)
    while data := archive.read(1 << 16):
        if data.count(0) != len(data):
            raise LayerError("something stands behind the archive's end")


def _checked(header: bytes) -> bytes:
    """The type flag of a header whose sum and magic are right."""
    if _number(header[148:156], 2**31) != sum(header[:148]) + 8 * 0x20 + sum(header[156:]):
        raise LayerError("a header's sum is wrong")
    if header[257:265] not in {b"ustar\x0000", b"ustar  \0"}:
        raise LayerError("a header that is neither ustar's nor GNU's")
    return b"0" if header[156:157] == b"\0" else header[156:157]


def _number(text: bytes, most: int) -> int:
    if text[0] == 0x80:  # GNU's large numbers: big-endian behind a mark
        value = int.from_bytes(text[1:], "big")
    else:
        match = _OCTAL.fullmatch(text)
        if match is None:
            raise LayerError(f"no number: {text!r}")
        value = int(match[1] or b"0", 8)
    if value > most:
        raise LayerError(f"the number {value} is too large")
    return value


def _text(data: bytes) -> bytes:
    return data.partition(b"\0")[0]


def _extend(extended: _Extended, flag: bytes, data: bytes) -> None:
    if flag in {b"L", b"K"}:
        extended.add(b"L", {b"path" if flag == b"L" else b"linkpath": data.removesuffix(b"\0")})
        return
    values = dict(_records(data))
    if flag == b"g":
        if values.keys() - {b"comment"}:
            raise LayerError("a pax header that is meant for all entries behind it")
        return
    extended.add(b"x", values)


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records that mean something here. Keywords with capitals are vendors': attributes, which are dropped."""
    offset = 0
    while offset < len(data):
        match = _RECORD.match(data, offset)
        end = offset + int(match[1]) if match else 0
        if match is None or end > len(data) or end <= match.end() or data[end - 1 : end] != b"\n":
            raise LayerError("a pax header that can't be read")
        key, value = match[2], data[match.end() : end - 1]
        if key.startswith((b"GNU.sparse.", b"SCHILY.realsize")):
            raise LayerError("a sparse file, which is not supported")
        if key in _READ or key == b"comment":
            yield key, value
        elif key == key.lower() and key not in _IDLE:
            raise LayerError(f"a pax keyword that is not known: {key!r}")
        offset = end


def _entry(header: bytes, flag: bytes, length: int, offset: int, extended: _Extended) -> Entry:
    values = extended.values
    prefix = _text(header[345:500]) if header[257:265] == b"ustar\x0000" else b""
    short = prefix + b"/" + _text(header[:100]) if prefix else _text(header[:100])
    name = values.get(b"path", short)
    shown = repr(name[:200])
    try:
        kind = Kind(flag)
    except ValueError:
        raise LayerError(f"{shown}: entries of type {flag!r} are not supported (sparse files, volumes, …)") from None
    try:
        size = _decimal(values, b"size", length, 2**62)
        uid = _decimal(values, b"uid", _number(header[108:116], MAX_ID), MAX_ID)
        gid = _decimal(values, b"gid", _number(header[116:124], MAX_ID), MAX_ID)
        mode = _number(header[100:108], 2**31)
        link = values.get(b"linkpath", _text(header[157:257]))
    except LayerError as error:
        raise LayerError(f"{shown}: {error}") from None
    _must_be_plain(shown, kind, name, link, size)
    return Entry(name, kind, mode & 0o7777, uid, gid, size, offset, link)


def _decimal(values: dict[bytes, bytes], key: bytes, usual: int, most: int) -> int:
    if key not in values:
        return usual
    text = values[key]
    if not re.fullmatch(rb"[0-9]{1,19}", text) or int(text) > most:
        raise LayerError(f"no {key.decode()}: {text[:40]!r}")
    return int(text)


def _must_be_plain(shown: str, kind: Kind, name: bytes, link: bytes, size: int) -> None:
    if b"\0" in name or b"\0" in link or len(name) > MAX_PATH or len(link) > MAX_PATH or not name:
        raise LayerError(f"{shown}: a name or target that is empty, too long or holds a zero byte")
    if size and kind is not Kind.FILE:
        raise LayerError(f"{shown}: has contents, and is not a file")
    if kind in {Kind.SYMLINK, Kind.HARD_LINK} and not link:
        raise LayerError(f"{shown}: links to nothing")
    if kind is not Kind.DIRECTORY and name.endswith(b"/"):
        raise LayerError(f"{shown}: named like a directory, and is none")
