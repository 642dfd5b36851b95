"""The files in which the records lie: names, header and lines of a segment; pure.

A segment is named after the index of its first record. Its first line is a header with the compact range of the tree
before that record; each further line is one record. The header is not signed and need not be: whoever folds the
segment's records into it must arrive at the root that the checkpoint signs.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from mvmnix import strict
from mvmnix.audit.merkle import HASH_SIZE, CompactRange
from mvmnix.audit.record import MAX_LINE
from mvmnix.strict import MalformedError

#: A full segment has this many records, and each but the last is full: so the name of the last follows from the log's
#: size, and what a start reads and hashes is bounded.
CAPACITY: Final = 128
_MAX_HEADER: Final = 8192
#: The largest file that a writer of ours leaves behind: a full segment and a torn line after it.
MAX_SEGMENT: Final = _MAX_HEADER + (CAPACITY + 1) * MAX_LINE
_NAME: Final = re.compile(r"([0-9]{16})\.jsonl")
_HASH: Final = rf"[0-9a-f]{{{2 * HASH_SIZE}}}"
_VERSION: Final = 1


def segment_name(first: int) -> str:
    """The file whose first record has this index."""
    return f"{first:016d}.jsonl"


def first_of(name: str) -> int | None:
    """The index in a segment's name; None when it is no such name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as it lies on the disk: the tree before it, its complete lines, what follows the last newline."""

    before: CompactRange
    lines: tuple[bytes, ...]
    torn: bytes = b""

    @classmethod
    def parse(cls, name: str, data: bytes) -> Self:
        """Read a file of that name. Raises MalformedError."""
        header, *lines = data.split(b"\n")
        torn = lines.pop() if lines else b""
        before = strict.read(strict.parse_json(header), "header", _parse_header)
        if _header(before) != header or not data.startswith(header + b"\n"):
            raise MalformedError("header: not in its canonical form")
        if first_of(name) != before.size or before.size % CAPACITY:
            raise MalformedError(f"header: it says that it begins at record {before.size}")
        return cls(before, tuple(lines), torn)

    @property
    def first(self) -> int:
        """The index of its first record."""
        return self.before.size

    @property
    def header(self) -> bytes:
        """The header's line, with its newline."""
        return _header(self.before) + b"\n"

    def after(self, size: int) -> CompactRange:
        """The tree of `size` leaves that ends in this segment. Raises ValueError when its records are too few."""
        count = size - self.first
        if not 0 <= count <= len(self.lines):
            raise ValueError(f"record {size - 1} is not in the segment of record {self.first}")
        return self.before.extend(self.lines[:count])

    def beyond(self, size: int) -> bytes:
        """Whatever follows the records below index `size`, byte for byte."""
        rest = self.lines[size - self.first :]
        return b"".join(line + b"\n" for line in rest) + self.torn

    def offset(self, size: int) -> int:
        """Where in the file `beyond(size)` begins."""
        return len(self.header) + sum(len(line) + 1 for line in self.lines[: size - self.first])


def _header(before: CompactRange) -> bytes:
    hashes = [item.hex() for item in before.hashes]
    return strict.canonical({"first": before.size, "hashes": hashes, "version": _VERSION})


def _parse_header(fields: strict.Record) -> CompactRange:
    fields.integer("version", _VERSION, _VERSION)
    hashes = fields.texts("hashes", _HASH, 64)
    return CompactRange(fields.integer("first", 0, strict.MAX_INTEGER), tuple(bytes.fromhex(item) for item in hashes))
