"""Checks a whole log against its seal and a checkpoint kept elsewhere; of the host it needs the public key alone."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from mvmnix.audit.merkle import CompactRange
from mvmnix.audit.note import Checkpoint, NoteError, NoteKey
from mvmnix.audit.reading import SealedRecord
from mvmnix.audit.record import Record, RecordKind, spelled
from mvmnix.audit.segment import CAPACITY, Segment, segment_name
from mvmnix.audit.tail import (
    Head,
    foreign_checkpoint,
    hold_writers,
    is_begun,
    log_mismatch,
    no_log,
    other_root,
    read_head,
    read_segment,
    rolled_back,
    segment_indices,
)
from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.formats.strict import MalformedError
from mvmnix.plural import counted
from mvmnix.system.private_dirs import Directory

_MAX_REASONS: Final = 20
#: Is handed each record's index and its text by field (`spelled`), in order, whether or not the log verifies then.
type Visit = Callable[[int, re.Match[str]], None]


def no_visit(_index: int, _record: re.Match[str]) -> None:
    """For a check of the log alone."""


@dataclass(frozen=True, slots=True)
class LogEvidence:
    """What was found of a log that verified in full: the checkpoint that seals it, and what it was compared with.

    `tail` is the number of bytes that no seal covers and that belong to no record: left by a writer that was killed.
    `unended` are the starts of machines that have no end: of those that live, and those whose supervisor was lost.
    """

    checkpoint: Checkpoint
    pinned: Checkpoint | None
    tail: int
    unended: tuple[SealedRecord, ...] = ()


def verify_log(directory: Directory, key: NoteKey, pinned: bytes | None = None, visit: Visit = no_visit) -> LogEvidence:
    """Check every record of a log against the seal at its end, and this against a note that was kept elsewhere.

    1. The log's end is sealed by the key (`read_head`). 2. The pinned checkpoint is signed by the same key, and not
    ahead of it. 3. The segments follow each other without gap or overlap, and each header is the tree of all records
    before it; since the last one's records give the sealed root, so do all. 4. Every sealed line is a record in its
    canonical form. 5. The first records, as many as were pinned, give the pinned root. 6. Every segment but the last
    is full, and has neither torn line, seal nor room; the one before a segment of one record may not be closed yet.

    Where a pinned checkpoint is contradicted and the log was begun on purpose after another one (`mvm audit new-log`),
    the record that says so is named, too.

    Without the key a record cannot be changed, dropped, added or reordered unnoticed, but an older state can be put
    back as a whole; the holder of the key can rewrite everything. Both are found against a pinned checkpoint only.
    Raises RefusedError [log-mismatch] with all that was found, UnreadableError when there is no log.
    """
    if not is_begun(directory):
        if pinned is not None:
            raise RefusedError(log_mismatch(directory, "the log is gone, of which a checkpoint was kept elsewhere"))
        raise no_log(directory)
    walk = _Walk(directory, visit)
    with hold_writers(directory):
        head = walk.head(key)  # 1
        indices = segment_indices(directory)
    earlier = None if pinned is None else walk.pinned(pinned, key, head)  # 2
    # all segments but the last are full: no process writes to them again, so they can be read without the lock
    for first in indices:
        if head is None or first < head.segment.first:
            walk.full(walk.read(first), head)
        elif first == head.segment.first:
            walk.fold(head.whole)
        else:
            sealed = counted(head.checkpoint.size, "record that is", "records that are")
            walk.problem(f"{segment_name(first)} begins beyond the {sealed} sealed")
    verified = walk.finish(head)
    return LogEvidence(verified.checkpoint, earlier, len(verified.unsealed), walk.unended)


class _Walk:
    """One pass over a log, from the first record on: the tree so far, the root to be met, what was wrong."""

    def __init__(self, directory: Directory, visit: Visit) -> None:
        self._directory = directory
        self._visit = visit
        self._tree = CompactRange()
        self._pinned: Checkpoint | None = None
        self._is_contradicted = False
        self._is_end_bad = False
        self._begun_anew: tuple[int, str] | None = None
        self._reasons: list[Reason] = []
        #: By machine, index and line: records by the thousand would keep the garbage collector busy.
        self._begun: dict[str | None, tuple[int, bytes]] = {}

    @property
    def unended(self) -> tuple[SealedRecord, ...]:
        """The starts without an end so far."""
        return tuple(SealedRecord(index, Record.parse(line)) for index, line in self._begun.values())

    def head(self, key: NoteKey) -> Head | None:
        """The log's end, or None when it does not verify, so that the records are looked at all the same."""
        try:
            return read_head(self._directory, key)
        except RefusedError as error:
            self._reasons.extend(error.reasons)
            self._is_end_bad = True
            return None

    def read(self, first: int) -> Segment | None:
        """A segment, or None when it cannot be read, so that the later ones are looked at too."""
        try:
            return read_segment(self._directory, first, is_end=self._is_end_bad)
        except RefusedError as error:
            self._reasons.extend(reason for reason in error.reasons if reason not in self._reasons)
            return None

    def pinned(self, note: bytes, key: NoteKey, head: Head | None) -> Checkpoint | None:
        try:
            pinned = Checkpoint.verified(note, key)
        except NoteError as error:
            self._reasons.append(foreign_checkpoint(self._directory, error))
            return None
        if head is not None and pinned.size > head.checkpoint.size:
            left = head.checkpoint.size
            self._contradicted(rolled_back(pinned.size, left))
        self._pinned = pinned
        return pinned

    def full(self, segment: Segment | None, head: Head | None) -> None:
        """Walk over a segment that another one follows."""
        if segment is None:
            return
        self.fold(segment)
        name = segment_name(segment.first)
        if segment.torn:  # 6
            self.problem(f"{name} ends in the middle of a line, though another one follows")
        after = segment.first + CAPACITY
        if segment != segment.closed and head is not None and head.checkpoint.size != after + 1:
            self.problem(f"{name} has a seal, or room for more, though another segment follows")

    def finish(self, head: Head | None) -> Head:
        """The log's end; or refuse with everything that was found, if anything was."""
        if head is None or self._reasons:
            raise RefusedError(*self._reasons[:_MAX_REASONS], *self._new_log())
        return head

    def _new_log(self) -> Iterator[Reason]:
        """That the pinned checkpoint may be one of the log before this one."""
        if self._is_contradicted and self._begun_anew is not None:
            index, time = self._begun_anew
            why = f"record {index} says that a new log was begun on purpose at {time}, after another one"
            hint = "a checkpoint of the log before it is held against that one: mvm audit verify --directory"
            yield Reason(ReasonCode.LOG_MISMATCH, self._directory.path, why, hint)

    def _contradicted(self, why: str) -> None:
        """Note that the pinned checkpoint and the log don't go together."""
        self._is_contradicted = True
        self.problem(why)

    def problem(self, why: str) -> None:
        """Note something for `finish`."""
        self._reasons.append(log_mismatch(self._directory, why, is_end=self._is_end_bad))

    def fold(self, segment: Segment) -> None:
        """Walk over the records of a segment."""
        if segment.before.size != self._tree.size:  # 3
            self.problem(f"after record {self._tree.size - 1} comes the segment of record {segment.first}")
        elif segment.before != self._tree:
            name = segment_name(segment.first)
            self.problem(f"a record before {segment.first} was changed, or the header of {name}")
        for index, line in enumerate(segment.lines, segment.first):
            try:
                said = spelled(line)  # 4
            except MalformedError as error:
                self.problem(f"record {index} is malformed: {error}")
                continue
            if said["kind"] == RecordKind.NEW_LOG:
                self._begun_anew = index, said["time"]
            self._follow(said["kind"], said["machine"], index, line)
            self._visit(index, said)
        if self._pinned is not None:
            self._compare(segment, self._pinned)
        # go on from what the header says, so that a change further on is found too
        self._tree = segment.before.extend(segment.lines)

    def _follow(self, kind: str, machine: str | None, index: int, line: bytes) -> None:
        """Keep account of machines that started and ended."""
        match kind:
            case RecordKind.START:
                self._begun[machine] = index, line
            case RecordKind.END:
                self._begun.pop(machine, None)
            case _:
                pass

    def _compare(self, segment: Segment, pinned: Checkpoint) -> None:
        """Hold the pinned checkpoint against the segment in which it ends; that of no records, against the first."""
        is_here = segment.first < pinned.size <= segment.first + len(segment.lines) or pinned.size == segment.first == 0
        if is_here and segment.after(pinned.size).root() != pinned.root.raw:  # 5
            self._contradicted(f"the {other_root(pinned.size)}")
