"""Proofs out of the log, as files: that a record is in it, and that it goes on from an older state; pure.

They are checked with the log's public key and nothing else. A record's proof is C2SP's tlog-proof, with the record
itself as `extra` data, which its path proves. A proof of consistency is what C2SP's tlog-witness sends to witnesses:
`old`, the older size, the path, and the newer checkpoint; the older checkpoint is one that a user kept.
"""

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

from mvmnix.audit.merkle import CompactRange, leaf_hash, node_hash
from mvmnix.audit.note import MAX_NOTE, Checkpoint, NoteError, NoteKey
from mvmnix.audit.reading import SealedRecord
from mvmnix.audit.record import MAX_LINE, Record
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.formats.strict import MalformedError
from mvmnix.plural import counted

# Audit paths and consistency paths of RFC 6962, sections 2.1.1 and 2.1.2: how they are made, and checked; pure.
#
# Checking follows RFC 9162, sections 2.1.3.2 and 2.1.4.2, which spell the algorithms out for the same paths.

#: A tree of 2^63 leaves has paths of so many hashes; a consistency path may have one more.
LONGEST: Final = 64


class PathError(ValueError):
    """A path does not prove what it should."""


def inclusion_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """PATH(m, D[n]): from the leaf to the root, the subtree beside it; `leaves` are hashes. Raises IndexError."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"there is no record {index}, but {counted(len(leaves), 'record')}")
    if len(leaves) == 1:
        return ()
    half = _half(len(leaves))
    if index < half:
        return (*inclusion_path(leaves[:half], index), _root(leaves[half:]))
    return (*inclusion_path(leaves[half:], index - half), _root(leaves[:half]))


def consistency_path(leaves: Sequence[bytes], old: int) -> tuple[bytes, ...]:
    """PROOF(m, D[n]) for the tree of the first `old` leaves. Raises IndexError for a larger one.

    Of no or of all leaves there is nothing to prove: the path is empty.
    """
    if not 0 <= old <= len(leaves):
        raise IndexError(f"there never was a log of {counted(old, 'record')}, but of {len(leaves)} at most")
    return _subproof(leaves, old, whole=True) if old else ()


def root_by_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root of a tree of `size` leaves in which this leaf has this path. Raises PathError for a wrong length."""
    if not 0 <= index < size:
        raise PathError(f"record {index} is not in a tree of {size}")
    root = leaf
    for beside, is_left in _climb(path, index, size - 1):
        root = node_hash(beside, root) if is_left else node_hash(root, beside)
    return root


def roots_by_consistency(old: int, old_root: bytes, size: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The roots of `old` leaves and of `size` that this path connects, to be compared. Raises PathError."""
    if not 0 < old <= size:
        raise PathError(f"a tree of {size} does not go on from one of {old}")
    if old == size:
        if path:
            raise PathError("the path is too long")
        return old_root, old_root
    hashes = [old_root, *path] if old.bit_count() == 1 else list(path)
    if not hashes:
        raise PathError("the path is too short")
    position, last = old - 1, size - 1
    while position % 2:
        position, last = position >> 1, last >> 1
    older = newer = hashes[0]
    for beside, is_left in _climb(hashes[1:], position, last):
        if is_left:
            older = node_hash(beside, older)
        newer = node_hash(beside, newer) if is_left else node_hash(newer, beside)
    return older, newer


def _climb(path: Sequence[bytes], position: int, last: int) -> Iterator[tuple[bytes, bool]]:
    """From a node to the root: the hash beside it at each level, and whether it stands on the left. Raises PathError.

    `position` counts the nodes of the level from 0 on, `last` is the last one's: where that has no brother, its level
    is passed over.
    """
    for beside in path:
        if last == 0:
            raise PathError("the path is too long")
        is_left = bool(position % 2) or position == last
        yield beside, is_left
        while is_left and position % 2 == 0 and position:
            position, last = position >> 1, last >> 1
        position, last = position >> 1, last >> 1
    if last:
        raise PathError("the path is too short")


def _subproof(leaves: Sequence[bytes], old: int, *, whole: bool) -> tuple[bytes, ...]:
    """SUBPROOF(m, D[n], b); `whole` says that the subtree of the old leaves is a tree that the checker knows."""
    if old == len(leaves):
        return () if whole else (_root(leaves),)
    half = _half(len(leaves))
    if old <= half:
        return (*_subproof(leaves[:half], old, whole=whole), _root(leaves[half:]))
    return (*_subproof(leaves[half:], old - half, whole=False), _root(leaves[:half]))


def _half(count: int) -> int:
    """The largest power of two below a number above 1."""
    return int(1 << (count - 1).bit_length() - 1)


def _root(leaves: Sequence[bytes]) -> bytes:
    return CompactRange().extend_hashed(leaves).root()


MAGIC: Final = "c2sp.org/tlog-proof@v1"
#: No proof of ours is larger, in bytes.
MAX_PROOF: Final = MAX_NOTE + 4 * MAX_LINE
_HASH: Final = r"[A-Za-z0-9+/]{43}="
_NUMBER: Final = r"(0|[1-9][0-9]{0,18})"
_PATH: Final = rf"((?:{_HASH}\n){{0,{LONGEST}}})"
_INCLUSION: Final = re.compile(
    rf"{re.escape(MAGIC)}\nextra ([A-Za-z0-9+/]+={{0,2}})\nindex {_NUMBER}\n{_PATH}\n(.*)", re.DOTALL
)
_CONSISTENCY: Final = re.compile(rf"old {_NUMBER}\n{_PATH}\n(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Proven:
    """A record of a log, and the checkpoint that covers it."""

    listed: SealedRecord
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """That a record's line is in the log of a checkpoint, `note`, at `index`; nothing of it is verified yet."""

    index: int
    line: bytes
    path: tuple[bytes, ...]
    note: bytes

    @classmethod
    def make(cls, leaves: Sequence[bytes], index: int, line: bytes, note: bytes) -> Self:
        """The proof for one record of a log whose leaves have these hashes. Raises IndexError."""
        return cls(index, line, inclusion_path(leaves, index), note)

    @property
    def text(self) -> bytes:
        """The file."""
        head = f"{MAGIC}\nextra {base64.b64encode(self.line).decode()}\nindex {self.index}\n"
        return f"{head}{_show(self.path)}\n".encode() + self.note

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a file. Raises RefusedError [log-mismatch]."""
        line, index, path, note = _parts(_INCLUSION, data)
        proof = cls(int(index), base64.b64decode(line), _path(path), note.encode())
        if proof.text != data:
            raise _refused("it is not in its canonical form")
        return proof

    def verified(self, key: NoteKey) -> Proven:
        """What it proves. Raises RefusedError [log-mismatch].

        1. The checkpoint is signed by the key. 2. The path leads from the record's line, at its index, to the
        checkpoint's root. 3. The line is a record in its canonical form.
        """
        checkpoint = _checkpoint(self.note, key)  # 1
        try:
            root = root_by_inclusion(leaf_hash(self.line), self.index, checkpoint.size, self.path)
        except PathError as error:
            raise _refused(str(error)) from error
        if root != checkpoint.root.raw:  # 2
            raise _refused(f"the record is not record {self.index} of the log whose checkpoint it names")
        try:
            return Proven(SealedRecord(self.index, Record.parse(self.line)), checkpoint)  # 3
        except MalformedError as error:
            raise _refused(f"what it proves is not a record: {error}") from error


@dataclass(frozen=True, slots=True)
class ConsistencyProof:
    """That the log of a checkpoint, `note`, begins with the `old` records of an older one; nothing is verified yet."""

    old: int
    path: tuple[bytes, ...]
    note: bytes

    @classmethod
    def make(cls, leaves: Sequence[bytes], old: int, note: bytes) -> Self:
        """The proof for a log whose leaves have these hashes. Raises IndexError."""
        return cls(old, consistency_path(leaves, old), note)

    @property
    def text(self) -> bytes:
        """The file."""
        return f"old {self.old}\n{_show(self.path)}\n".encode() + self.note

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a file. Raises RefusedError [log-mismatch]."""
        old, path, note = _parts(_CONSISTENCY, data)
        proof = cls(int(old), _path(path), note.encode())
        if proof.text != data:
            raise _refused("it is not in its canonical form")
        return proof

    def verified(self, key: NoteKey, pinned: bytes) -> Checkpoint:
        """The newer checkpoint, once the log is known to go on from the pinned one. Raises RefusedError [log-mismatch].

        1. Both checkpoints are signed by the key. 2. The older one has the size that the proof is about. 3. The path
        connects both roots.
        """
        newer, older = _checkpoint(self.note, key), _checkpoint(pinned, key)  # 1
        if older.size != self.old:  # 2
            raise _refused(
                f"it goes on from {counted(self.old, 'record')}, but the checkpoint kept elsewhere has {older.size}"
            )
        known = (older.root.raw, newer.root.raw)
        try:
            roots = _from_nothing(self, newer) if self.old == 0 else self._roots(older, newer)
        except PathError as error:
            raise _refused(str(error)) from error
        if roots != known:  # 3
            raise _refused("the log of its checkpoint does not go on from the one kept elsewhere: it was forked")
        return newer

    def _roots(self, older: Checkpoint, newer: Checkpoint) -> tuple[bytes, bytes]:
        return roots_by_consistency(self.old, older.root.raw, newer.size, self.path)


def _from_nothing(proof: ConsistencyProof, newer: Checkpoint) -> tuple[bytes, bytes]:
    """Every log goes on from the empty one."""
    if proof.path:
        raise PathError("the path is too long")
    return CompactRange().root(), newer.root.raw


def _show(path: tuple[bytes, ...]) -> str:
    return "".join(f"{base64.b64encode(each).decode()}\n" for each in path)


def _path(text: str) -> tuple[bytes, ...]:
    return tuple(base64.b64decode(line) for line in text.splitlines())


def _parts(pattern: re.Pattern[str], data: bytes) -> tuple[str, ...]:
    match = None if len(data) > MAX_PROOF else pattern.fullmatch(data.decode(errors="replace"))
    if match is None:
        raise _refused("it does not parse")
    return match.groups()


def _checkpoint(note: bytes, key: NoteKey) -> Checkpoint:
    try:
        return Checkpoint.verified(note, key)
    except NoteError as error:
        raise _refused(f"a checkpoint does not verify: {error}") from error


def _refused(why: str) -> RefusedError:
    hint = "take the proof as `mvm audit prove` wrote it, with the key of the host whose log it is about"
    return refuse(ReasonCode.LOG_MISMATCH, "the proof", why, hint)
