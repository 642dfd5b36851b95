"""Checks a whole log against its checkpoint and one kept elsewhere; needs the host's public key, nothing else of it."""

from dataclasses import dataclass
from typing import Final

from mvmnix.audit.head import (
    TOO_MUCH,
    absent,
    is_begun,
    mismatch,
    quiet,
    read_checkpoint,
    read_segment,
    segment_indices,
)
from mvmnix.audit.merkle import CompactRange, leaf_hash
from mvmnix.audit.note import Checkpoint, NoteError, NoteKey
from mvmnix.audit.record import Record
from mvmnix.audit.segment import Segment, segment_name
from mvmnix.errors import Reason, RefusedError
from mvmnix.state import Directory
from mvmnix.strict import MalformedError

_MAX_REASONS: Final = 20


@dataclass(frozen=True, slots=True)
class LogEvidence:
    """What was found of a log that verified in full: the checkpoint that seals it, and what it was compared with.

    `tail` is the number of bytes beyond the checkpoint, which belong to no record: left by a writer that was killed.
    """

    checkpoint: Checkpoint
    pinned: Checkpoint | None
    tail: int


def verify_log(directory: Directory, key: NoteKey, pinned: bytes | None = None) -> LogEvidence:
    """Check every record of a log against its checkpoint, and this against a note that was kept elsewhere.

    1. The checkpoint is signed by the key. 2. So is the pinned one, and it is not ahead of it. 3. The segments follow
    each other without gap or overlap, and each header is the tree of all records before it. 4. Every sealed line is a
    record in its canonical form. 5. All records together give the signed root. 6. The first of them, as many as were
    pinned, give the pinned root. 7. Beyond the checkpoint stands at most one line.

    Whoever lacks the key cannot change, drop, add or reorder a record unnoticed, but can put an older state back as a
    whole; the holder of the key can rewrite everything. Both are found against a pinned checkpoint only.
    Raises RefusedError [log-mismatch] with all that was found, UnreadableError when there is no log.
    """
    if not is_begun(directory):
        if pinned is not None:
            raise RefusedError(mismatch(directory, "the log is gone, of which a checkpoint was kept elsewhere"))
        raise absent(directory)
    walk = _Walk(directory)
    with quiet(directory):
        checkpoint = read_checkpoint(directory, key)  # 1
        indices = segment_indices(directory)
        # the other segments are full: nobody writes to them again, so they can be read without the lock
        last = walk.read(indices[-1]) if indices else None
    walk.expect("the checkpoint", checkpoint)
    earlier = None if pinned is None else walk.pinned(pinned, key, checkpoint)  # 2
    for first in indices[:-1]:
        walk.full(walk.read(first))
    tail = walk.last(last, checkpoint)
    walk.finish()
    return LogEvidence(checkpoint, earlier, len(tail))


class _Walk:
    """One pass over a log, from the first record on: the tree so far, the roots to be met, what was wrong."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._tree = CompactRange()
        self._expected: list[tuple[str, Checkpoint]] = []
        self._reasons: list[Reason] = []

    def read(self, first: int) -> Segment | None:
        """A segment, or None when it cannot be read, so that the later ones are looked at too."""
        try:
            return read_segment(self._directory, first)
        except RefusedError as error:
            self._reasons.extend(error.reasons)
            return None

    def pinned(self, note: bytes, key: NoteKey, checkpoint: Checkpoint) -> Checkpoint | None:
        try:
            pinned = Checkpoint.verified(note, key)
        except NoteError as error:
            self._problem(f"the checkpoint kept elsewhere is not one of this log: {error}")
            return None
        if pinned.size > checkpoint.size:
            self._problem(f"it was rolled back: {pinned.size} records were seen elsewhere, {checkpoint.size} are left")
        else:
            self.expect("the checkpoint kept elsewhere", pinned)
        return pinned

    def expect(self, what: str, checkpoint: Checkpoint) -> None:
        """Compare with this root when the walk has passed as many records."""
        self._expected.append((what, checkpoint))

    def full(self, segment: Segment | None) -> None:
        """Walk over a segment that another one follows."""
        if segment is None:
            return
        self._fold(segment, segment.lines)
        if segment.torn:
            self._problem(f"{segment_name(segment.first)} ends in the middle of a line, though another one follows")

    def last(self, segment: Segment | None, checkpoint: Checkpoint) -> bytes:
        """Walk over the last segment, up to the checkpoint; return what lies beyond."""
        self._compare()
        if segment is None:
            return b""
        if segment.first > checkpoint.size:
            self._problem(
                f"{segment_name(segment.first)} begins beyond the {checkpoint.size} records of the checkpoint"
            )
        self._fold(segment, segment.lines[: max(0, checkpoint.size - segment.first)])
        tail = segment.beyond(max(segment.first, checkpoint.size))
        if b"\n" in tail[:-1]:  # 7
            self._problem(TOO_MUCH)
        return tail

    def finish(self) -> None:
        """Refuse with everything that was found, if anything was."""
        for what, checkpoint in self._expected:
            if checkpoint.size > self._tree.size:
                self._problem(f"{what} knows {checkpoint.size} records, but only {self._tree.size} are there")
        if self._reasons:
            raise RefusedError(*self._reasons[:_MAX_REASONS])

    def _problem(self, why: str) -> None:
        self._reasons.append(mismatch(self._directory, why))

    def _fold(self, segment: Segment, lines: tuple[bytes, ...]) -> None:
        if segment.before.size != self._tree.size:  # 3
            self._problem(f"after record {self._tree.size - 1} comes the segment of record {segment.first}")
        elif segment.before != self._tree:
            name = segment_name(segment.first)
            self._problem(f"a record before {segment.first} was changed, or the header of {name}")
        # go on from what the header says, so that a change further on is found too
        self._tree = segment.before
        self._compare()
        for line in lines:
            try:
                Record.parse(line)  # 4
            except MalformedError as error:
                self._problem(f"record {self._tree.size} is none: {error}")
            self._tree = self._tree.append(leaf_hash(line))
            self._compare()

    def _compare(self) -> None:
        for what, checkpoint in self._expected:
            if checkpoint.size == self._tree.size and checkpoint.root.raw != self._tree.root():  # 5, 6
                self._problem(f"the first {checkpoint.size} records do not give the root of {what}")
