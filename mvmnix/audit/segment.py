"""The files in which the records lie: names, header, seals and lines of a segment; pure.

A segment is named after the index of its first record. Its first line is a header with the compact range of the tree
before that record; two places of fixed width for seals follow, of which one at most is needed, then each line is one
record. The header is not signed and need not be: folding the segment's records into it must arrive at the root that a
seal signs. Behind the last line of the last segment are spaces, written ahead, so that a record changes no file's size
when it comes.
"""

import base64
import re
from dataclasses import dataclass, replace
from typing import Final, Self

from mvmnix.audit.merkle import HASH_SIZE, CompactRange
from mvmnix.audit.note import Checkpoint, NoteKey
from mvmnix.audit.record import MAX_LINE
from mvmnix.formats import strict
from mvmnix.formats.strict import MalformedError

_DIGITS: Final = 16
#: Base64 of the 4 bytes of a key's ID and the 64 bytes of an Ed25519 signature.
_SIGNATURE: Final = r"[A-Za-z0-9+/]{91}="
_LINE: Final = re.compile(rf'\{{"seal":"({_SIGNATURE})","size":"([0-9]{{{_DIGITS}}})"\}}\n')
#: How many places there are.
PLACES: Final = 2
#: Bytes of one place, its newline included.
WIDTH: Final = len('{"seal":"","size":""}\n') + 92 + _DIGITS
#: A place without a seal.
BLANK: Final = b" " * (WIDTH - 1) + b"\n"
NO_SEALS: Final = (BLANK, BLANK)

#: A full segment has this many records, and each but the last is full: so the name of the last follows from the log's
#: size, and what a start reads and hashes is bounded.
CAPACITY: Final = 128
_MAX_HEADER: Final = 8192
#: So many spaces are written ahead at a time. One that is written over by a torn line makes no second line of it.
SPARE: Final = 32_768
_SPACE: Final = b" "
#: The largest file that a writer of ours leaves behind: a full segment, a torn line, what was written ahead.
MAX_SEGMENT: Final = _MAX_HEADER + PLACES * WIDTH + (CAPACITY + 1) * MAX_LINE + SPARE
_NAME: Final = re.compile(r"([0-9]{16})\.jsonl")
_HASH: Final = rf"[0-9a-f]{{{2 * HASH_SIZE}}}"
_VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class SegmentSeal:
    """The signature over the checkpoint of `size` records, as it stands in the note's last line (base64).

    The seal of a log of n records is kept at place n mod 2, so that a new one never covers the one before it. Size and
    root follow from the records, and with them the whole signed note.
    """

    size: int
    signature: str

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        """The seal that says what this checkpoint of our own says."""
        return cls(checkpoint.size, checkpoint.note.decode().rstrip("\n").rpartition(" ")[2])

    @classmethod
    def parse(cls, line: bytes, place: int) -> Self | None:
        """Read what stands at a place; None when it is blank, torn or does not belong there."""
        match = _LINE.fullmatch(line.decode(errors="replace"))
        if match is None or int(match[2]) % PLACES != place:
            return None
        return cls(int(match[2]), match[1])

    @property
    def key_id(self) -> bytes:
        """The ID of the key that it claims to be made with (C2SP signed-note): the first 4 bytes."""
        return base64.b64decode(self.signature)[:4]

    @property
    def place(self) -> int:
        """Where it is kept."""
        return self.size % PLACES

    @property
    def line(self) -> bytes:
        """What stands there, `WIDTH` bytes."""
        return f'{{"seal":"{self.signature}","size":"{self.size:0{_DIGITS}}"}}\n'.encode()

    @property
    def alone(self) -> tuple[bytes, bytes]:
        """Both places where there is no other seal."""
        return (self.line, BLANK) if self.place == 0 else (BLANK, self.line)

    def checkpoint(self, root: bytes, key: NoteKey) -> Checkpoint:
        """The checkpoint, once the signature holds for this root. Raises NoteError."""
        return Checkpoint.verified(Checkpoint.signed_text(self.size, root, key, self.signature), key)


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as it lies on the disk: the tree before it, its complete lines, what follows the last newline.

    `places` are the bytes at the two places for seals, not trusted before a seal there was verified. `spare` is
    the number of spaces at the end.
    """

    before: CompactRange
    lines: tuple[bytes, ...]
    torn: bytes = b""
    places: tuple[bytes, bytes] = NO_SEALS
    spare: int = 0

    @classmethod
    def parse(cls, name: str, data: bytes) -> Self:
        """Read a file of that name. Raises MalformedError."""
        header, newline, rest = data.partition(b"\n")
        before = strict.read(strict.parse_json(header), "header", _parse_header)
        if _header(before) != header or not newline:
            raise MalformedError("header: not in its canonical form")
        if first_of(name) != before.size or before.size % CAPACITY:
            raise MalformedError(f"header: it says that it begins at record {before.size}")
        if len(rest) < PLACES * WIDTH:
            raise MalformedError("seals: they are cut off")
        *lines, last = rest[PLACES * WIDTH :].split(b"\n")
        torn = last.rstrip(_SPACE)
        places = (rest[:WIDTH], rest[WIDTH : PLACES * WIDTH])
        return cls(before, tuple(lines), torn, places, len(last) - len(torn))

    @property
    def first(self) -> int:
        """The index of its first record."""
        return self.before.size

    @property
    def seals(self) -> tuple[SegmentSeal, ...]:
        """What may be seals of this segment's records, that of the most records first; none is verified."""
        found = (SegmentSeal.parse(line, place) for place, line in enumerate(self.places))
        ours = [seal for seal in found if seal is not None and self.first < seal.size <= self.first + CAPACITY]
        return tuple(sorted(ours, key=lambda seal: seal.size, reverse=True))

    @property
    def data(self) -> bytes:
        """The file's bytes."""
        return self._head + b"".join(line + b"\n" for line in self.lines) + self.torn + self.spare * _SPACE

    @property
    def closed(self) -> "Segment":
        """The same without seals and spaces: what another segment follows is proven by that one's header."""
        return replace(self, places=NO_SEALS, spare=0)

    @property
    def _head(self) -> bytes:
        return _header(self.before) + b"\n" + b"".join(self.places)

    def sealed(self, line: bytes, seal: SegmentSeal) -> "Segment":
        """The same with one more record, its seal, no other seal, and spaces written ahead."""
        return replace(self, lines=(*self.lines, line), places=seal.alone, spare=SPARE)

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

    @property
    def start(self) -> int:
        """Where in the file the places for seals begin."""
        return len(self._head) - PLACES * WIDTH


def segment_name(first: int) -> str:
    """The file whose first record has this index."""
    return f"{first:016d}.jsonl"


def first_of(name: str) -> int | None:
    """The index in a segment's name; None when it is no such name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def _header(before: CompactRange) -> bytes:
    hashes = [item.hex() for item in before.hashes]
    return strict.canonical({"first": before.size, "hashes": hashes, "version": _VERSION})


def _parse_header(fields: strict.Record) -> CompactRange:
    fields.integer("version", _VERSION, _VERSION)
    hashes = fields.texts("hashes", _HASH, strict.MAX_INTEGER.bit_count())
    return CompactRange(fields.integer("first", 0, strict.MAX_INTEGER), tuple(bytes.fromhex(item) for item in hashes))
