"""Proofs out of the log, as files: that a record is in it, and that it goes on from an older state; pure.

They are checked with the log's public key and nothing else. A record's proof is C2SP's tlog-proof, with the record
itself as `extra` data, which its path proves. A proof of consistency is what C2SP's tlog-witness sends to witnesses:
`old`, the older size, the path, and the newer checkpoint; the older checkpoint is one that a user kept.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from mvmnix.audit.merkle import CompactRange, leaf_hash
from mvmnix.audit.merkle_proof import (
    LONGEST,
    PathError,
    consistency_path,
    inclusion_path,
    root_by_inclusion,
    roots_by_consistency,
)
from mvmnix.audit.note import MAX_NOTE, Checkpoint, NoteError, NoteKey
from mvmnix.audit.reading import SealedRecord
from mvmnix.audit.record import MAX_LINE, Record
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.formats.strict import MalformedError
from mvmnix.plural import counted

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
            if self.old == 0:
                roots = _from_nothing(self, newer)
            else:
                roots = roots_by_consistency(self.old, older.root.raw, newer.size, self.path)
        except PathError as error:
            raise _refused(str(error)) from error
        if roots != known:  # 3
            raise _refused("the log of its checkpoint does not go on from the one kept elsewhere: it was forked")
        return newer


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
