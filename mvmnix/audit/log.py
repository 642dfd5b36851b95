"""The only writer of the audit log: appends records durably, and refuses to when the log does not verify.

A record and its seal are written to the same file and made durable by one `fdatasync`, so that an append costs what a
bare write and fsync costs. The order of writes, which tells a kill or power cut at any byte apart from tampering and
loses nothing that `append` has returned for:

1. the record's line, at the end of the last segment, and its seal, at the place that does not hold the seal before it;
   both become durable, in whatever order. (A full segment is followed by a new one, which appears whole, with both.)
2. the seal before it is blanked, without waiting for the disk: two seals mean that a writer was interrupted here.

A crash before 1 is over leaves the seal before, and maybe a tail: one line beyond it, whole or torn, or a torn seal.
No `append` returned for it, so nothing was started on its account. The writer of those bytes is unknown, so the key
never seals them as a record: the next append moves them to a file of their own and seals a record of kind `recovery`
with their digest.

Where a log was and is gone, none begins by itself: what it had recorded would go unnoticed. A record of kind `new-log`
begins one on purpose.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Self

from mvmnix.audit.merkle import CompactRange
from mvmnix.audit.note import Checkpoint, Signer
from mvmnix.audit.reading import matching_records
from mvmnix.audit.record import MAX_LINE, Record, RecordKind, Serials
from mvmnix.audit.segment import BLANK, CAPACITY, MAX_SEGMENT, PLACES, SPARE, WIDTH, Segment, SegmentSeal, segment_name
from mvmnix.audit.tail import (
    LOCK,
    PENDING,
    VERIFIER_KEY,
    Head,
    is_begun,
    log_mismatch,
    lost_log,
    read_head,
    read_segment,
)
from mvmnix.audit.vouched import vouch
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, RefusedError, UsageError
from mvmnix.system import log
from mvmnix.system.private_dirs import Directory


@dataclass(frozen=True, slots=True)
class End:
    """A verified end of the log, as far as the next record needs it; `places` and offsets are in bytes of the file.

    `before` is the tree before the last segment's first record, `start` where its places for seals begin, `end` where
    the next record will; from there on spaces are written ahead, up to `size`.
    """

    checkpoint: Checkpoint
    tree: CompactRange
    before: CompactRange
    places: bytes
    start: int
    end: int
    size: int

    @classmethod
    def of(cls, checkpoint: Checkpoint, tree: CompactRange, segment: Segment) -> Self:
        """The end in a segment whose sealed records are all that it has."""
        places, size = b"".join(segment.places), len(segment.data)
        return cls(checkpoint, tree, segment.before, places, segment.start, size - segment.spare, size)

    @classmethod
    def of_head(cls, head: Head) -> Self:
        """The end where nothing but spaces follows; where something does, it is cut off before anything else."""
        return cls.of(head.checkpoint, head.tree, head.whole if head.tail else head.segment)

    @property
    def first(self) -> int:
        """The index of the last segment's first record."""
        return self.before.size

    @property
    def is_full(self) -> bool:
        """Whether the next record begins another segment."""
        return self.tree.size - self.first >= CAPACITY

    def place(self, number: int) -> int:
        """Where in the file a place for a seal is."""
        return self.start + number % PLACES * WIDTH


_MAX_PENDING: Final = 2 * MAX_SEGMENT


@dataclass(frozen=True, slots=True)
class Entry:
    """A record that is in the log, durably: its index, and a checkpoint that covers it."""

    index: int
    checkpoint: Checkpoint


class _StaleError(OSError):
    """The log doesn't end any more where we thought it does."""


def no_traces() -> str:
    """For a log that nothing else on the host remembers."""
    return ""


class AuditLog:
    """The log in a directory, as its host writes it. Safe for any number of processes and threads at once."""

    def __init__(self, directory: Directory, signer: Signer, traces: Callable[[], str] = no_traces) -> None:
        """The directory stays the caller's to close.

        `traces` says, for a message, what is there that a log had recorded; empty where there never was one.
        """
        self._directory = directory
        self._signer = signer
        self._traces = traces
        self._known: End | None = None

    def is_begun(self) -> bool:
        """Whether there is a log. Raises RefusedError [log-mismatch] where there was one, and it is gone."""
        if is_begun(self._directory):
            return True
        if traces := self._traces():
            raise RefusedError(lost_log(self._directory, traces))
        return False

    def check(self) -> Checkpoint | None:
        """The checkpoint, once the log's end verified; None before the first record. Raises RefusedError."""
        with self._directory.lock(LOCK):
            return read_head(self._directory, self._signer.key).checkpoint if self.is_begun() else None

    def latest_serials(self) -> Serials | None:
        """The policy's serial numbers in the last sealed record that has any; None when none has.

        Read from verified bytes only, from the end backwards. Raises RefusedError [log-mismatch].
        """
        if not is_begun(self._directory):
            return None
        found = (each.record.serials for each in matching_records(self._directory, self._signer.key, b'"serials":['))
        return next((serials for serials in found if serials is not None), None)

    def about(self, machine: str) -> tuple[Record, ...]:
        """A machine's sealed records, from the last one back to its start, or to its creation if it has no start.

        Raises RefusedError [log-mismatch].
        """
        found = list[Record]()
        if self.is_begun():
            for listed in matching_records(self._directory, self._signer.key, f'"machine":"{machine}"'.encode()):
                found.append(listed.record)
                if listed.record.kind in {RecordKind.START, RecordKind.CREATION}:
                    break
        return tuple(found)

    def vouch(self, record: Record) -> bytes:
        """A signed note that says that the log has this record, which `append` returned for or `about` handed out."""
        return vouch(record, self._signer)

    def append(self, record: Record) -> Entry:
        """Put a record at the log's end; on return it is on the disk and sealed.

        Raises RefusedError [log-mismatch] when the log's end does not verify or the log is gone, MvmnixError when it
        cannot be written: what was to be recorded before it starts must then not start. UsageError for a
        record of kind `new-log` where there is a log.
        """
        if record.kind is RecordKind.RECOVERY:
            raise ValueError("only the log itself writes recoveries")
        if record.kind is not RecordKind.NEW_LOG and self._known is None:
            self.is_begun()  # before the lock, whose file would stay
        try:
            with self._directory.lock(LOCK):
                if self._known is not None and record.kind is not RecordKind.NEW_LOG:
                    with suppress(_StaleError):  # another process has written since
                        return self._append(self._known, record)
                return self._append(self._end(record), record)
        except OSError as error:
            hint = "make room or repair the disk; until the log can be written, nothing starts"
            raise MvmnixError(f"the audit log {self._directory.path} cannot be written: {error}", hint=hint) from error

    def _end(self, record: Record) -> End | None:
        """The log's end before a record, read and verified, with nothing beyond it; None before the first one."""
        self._known = None
        is_new = record.kind is RecordKind.NEW_LOG
        if is_new and is_begun(self._directory):
            hint = "mvm audit verify checks it; one that is refused is moved away first, as the refusal says"
            raise UsageError(f"there is a log in {self._directory.path}", hint=hint)
        if is_new or not self.is_begun():
            return self._recovered(None, record.time)
        return self._recovered(read_head(self._directory, self._signer.key), record.time)

    def _append(self, end: End | None, record: Record) -> Entry:
        """Put a record behind this end. Raises _StaleError when it is none any more, and nothing was written then."""
        line = record.line
        if len(line) >= MAX_LINE:
            raise ValueError(f"a record of {len(line)} bytes is too long")
        tree = (CompactRange() if end is None else end.tree).extend([line])
        checkpoint = Checkpoint.sign(tree.size, tree.root(), self._signer)
        self._known = None  # until all is well
        if end is None:
            known = self._begin(CompactRange(), line, checkpoint, tree)
            self._publish_key()
        elif end.is_full:
            os.close(self._opened(end, MAX_LINE))
            known = self._begin(end.tree, line, checkpoint, tree)
        else:
            known = self._go_on(end, line + b"\n", checkpoint, tree)
        self._known = known
        entry = Entry(tree.size - 1, checkpoint)
        log.info("audit", "record %d: %s", entry.index, record.kind)
        return entry

    def _begin(self, before: CompactRange, line: bytes, checkpoint: Checkpoint, tree: CompactRange) -> End:
        """Another segment, whole at once."""
        segment = Segment(before, ()).sealed(line, SegmentSeal.of(checkpoint))
        self._directory.write_atomic(segment_name(segment.first), segment.data)
        return End.of(checkpoint, tree, segment)

    def _go_on(self, end: End, line: bytes, checkpoint: Checkpoint, tree: CompactRange) -> End:
        """A line at the end of the last segment, and its seal. See the module's text for the order."""
        after, seal = end.end + len(line), SegmentSeal.of(checkpoint)
        ahead, size = (b"", end.size) if after <= end.size else (b" " * SPARE, after + SPARE)
        fd = self._opened(end, len(line))
        try:
            self._close_before(end)
            try:
                _write_at(fd, line + ahead, end.end)
                _write_at(fd, seal.line, end.place(seal.size))
                os.fdatasync(fd)  # 1
            except OSError:
                with suppress(OSError):  # what could not be made durable shall not look sealed
                    _write_at(fd, BLANK, end.place(seal.size))
                raise
            _write_at(fd, BLANK, end.place(seal.size - 1))  # 2
        finally:
            os.close(fd)
        return End(checkpoint, tree, end.before, b"".join(seal.alone), end.start, after, size)

    def _opened(self, end: End, room: int) -> int:
        """A descriptor of the last segment, if it ends as it did when we read or wrote it. Raises _StaleError.

        It ends with our seal then, which vouches for the tree that we remember, and the next `room` bytes are blank or
        not there. Records before it are not looked at again: if one was changed meanwhile, the next seal is still
        for what was sealed, and what was changed doesn't fit it.
        """
        if self._directory.exists(segment_name(end.first + CAPACITY)):
            raise _StaleError("another segment follows")
        try:
            fd = self._directory.open_writable(segment_name(end.first))
        except FileNotFoundError as error:
            raise _StaleError("its last segment is gone") from error
        same_size = os.lseek(fd, 0, os.SEEK_END) == end.size
        if same_size and _is_blank(os.pread(fd, room, end.end)) and _places(fd, end) == end.places:
            return fd
        os.close(fd)
        raise _StaleError("another process wrote to it")

    def _close_before(self, end: End) -> None:
        """Take the seals off the segment before the last, once that has its first record: they are of no use any more.

        Here and not when the last segment began, so that it is made up for after a crash in between.
        """
        if end.first == 0 or end.tree.size != end.first + 1:
            return
        before = read_segment(self._directory, end.first - CAPACITY)
        if before == before.closed:
            return
        if before.after(before.first + len(before.lines)) != end.before or before.torn:
            why = f"the records {before.first} to {end.first - 1} are not those that were sealed"
            raise RefusedError(log_mismatch(self._directory, why))
        self._directory.write_atomic(segment_name(before.first), before.closed.data)

    def _recovered(self, head: Head | None, time: datetime) -> End | None:
        """Set a tail aside and seal a record of it; repeatable, since we too may be killed at any moment.

        1. The tail is kept in a file, added to what an unfinished recovery kept there. 2. It is taken off the segment.
        3. The record is sealed. 4. The file gets its final name, the digest that the record holds.
        """
        end = None if head is None else End.of_head(head)
        kept, left = self._pending(), b"" if head is None else head.unsealed
        if end is not None and not self._directory.exists(VERIFIER_KEY):
            self._publish_key()
        if kept is None and not left:
            return end
        tail = (kept or b"").removesuffix(left) + left
        if tail != kept:
            self._directory.write_atomic(PENDING, tail)  # 1
        if end is not None:
            end = self._cut(end)  # 2
        digest = Digest.of(tail)
        self._append(end, Record(kind=RecordKind.RECOVERY, time=time, digests={"tail": digest}))  # 3
        recovered, self._known = self._known, None  # until the file has its name, this is not over
        self._directory.rename(PENDING, f"tail-{digest.hex}")  # 4
        return recovered

    def _publish_key(self) -> None:
        self._directory.write_atomic(VERIFIER_KEY, f"{self._signer.key}\n".encode())

    def _cut(self, end: End) -> End:
        """Take what no seal covers off the last segment, and what was written ahead with it."""
        fd = self._directory.open_writable(segment_name(end.first))
        try:
            os.ftruncate(fd, end.end)
            _write_at(fd, BLANK, end.place(end.tree.size + 1))
            os.fdatasync(fd)
            return replace(end, size=end.end, places=_places(fd, end))
        finally:
            os.close(fd)

    def _pending(self) -> bytes | None:
        try:
            return self._directory.read(PENDING, _MAX_PENDING)
        except FileNotFoundError:
            return None


def _places(fd: int, end: End) -> bytes:
    """What stands at the places for seals now."""
    return os.pread(fd, len(end.places), end.start)


def _is_blank(data: bytes) -> bool:
    return not data.strip(b" ")


def _write_at(fd: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written
