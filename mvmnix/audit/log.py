"""The only writer of the audit log: appends records durably, and refuses to when the log does not verify.

The order of writes, each on the disk before the next begins, so that a kill or power cut at any byte is told apart
from tampering and loses nothing that `append` has returned for:

1. the record's line, at the end of the last segment (a full one is followed by a new one, which appears whole);
2. the checkpoint that covers it, by renaming a complete file over the old one.

A crash between the two leaves a tail beyond the checkpoint: one line, whole or torn, for which no `append` returned,
so nothing was started on its account. Nobody can tell who wrote those bytes, so the key never seals them as a record.
The next append moves them to a file of their own and seals a record of kind `recovery` with their digest.
"""

import os
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mvmnix.audit.head import CHECKPOINT, LOCK, PENDING, Head, is_begun, read_head
from mvmnix.audit.merkle import CompactRange, leaf_hash
from mvmnix.audit.note import Checkpoint, Signer
from mvmnix.audit.record import MAX_LINE, Kind, Record
from mvmnix.audit.segment import CAPACITY, MAX_SEGMENT, Segment, segment_name
from mvmnix.errors import MvmnixError
from mvmnix.model import Digest
from mvmnix.state import Directory

_MAX_PENDING: Final = 2 * MAX_SEGMENT


@dataclass(frozen=True, slots=True)
class Entry:
    """A record that is in the log, durably: its index, its leaf's hash, and a checkpoint that covers it."""

    index: int
    leaf: Digest
    checkpoint: Checkpoint


class AuditLog:
    """The log in a directory, as its host writes it. Safe for any number of processes and threads at once."""

    def __init__(self, directory: Directory, signer: Signer) -> None:
        """The directory stays the caller's to close."""
        self._directory = directory
        self._signer = signer

    def check(self) -> Checkpoint | None:
        """The checkpoint, once the log's end verified; None before the first record. Raises RefusedError."""
        with self._directory.lock(LOCK):
            return read_head(self._directory, self._signer.key).checkpoint if is_begun(self._directory) else None

    def append(self, record: Record) -> Entry:
        """Put a record at the log's end; on return it is on the disk and sealed.

        Raises RefusedError [log-mismatch] when the log's end does not verify, MvmnixError when it cannot be written:
        whoever wanted to record the start of something must then not start it.
        """
        if record.kind is Kind.RECOVERY:
            raise ValueError("only the log itself writes recoveries")
        try:
            with self._directory.lock(LOCK):
                head = self._recovered(self._head(), record.time)
                return self._append(head, record)
        except OSError as error:
            hint = "make room or repair the disk; until the log can be written, nothing starts"
            raise MvmnixError(f"the audit log {self._directory.path} cannot be written: {error}", hint=hint) from error

    def _head(self) -> Head:
        """The log's end, verified; an empty log begins with a checkpoint, so that records without one are noticed."""
        if not is_begun(self._directory):
            self._seal(CompactRange())
        return read_head(self._directory, self._signer.key)

    def _append(self, head: Head, record: Record) -> Entry:
        line = record.line
        if len(line) >= MAX_LINE:
            raise ValueError(f"a record of {len(line)} bytes is too long")
        segment = self._segment(head)
        self._write(segment, head.checkpoint.size, line + b"\n")
        leaf = leaf_hash(line)
        checkpoint = self._seal(head.tree.append(leaf))
        return Entry(head.checkpoint.size, Digest(leaf.hex()), checkpoint)

    def _segment(self, head: Head) -> Segment:
        """The segment that takes the next record; a new one when there is none yet, or the last one is full."""
        segment = head.segment
        if segment is None or head.checkpoint.size - segment.first >= CAPACITY:
            segment = Segment(head.tree, ())
            self._directory.write_atomic(segment_name(segment.first), segment.header)
        return segment

    def _write(self, segment: Segment, size: int, data: bytes) -> None:
        """Make `data` all that follows the records below index `size`."""
        fd = self._directory.open_writable(segment_name(segment.first))
        try:
            offset = segment.offset(size)
            if os.fstat(fd).st_size != offset:
                os.ftruncate(fd, offset)
            written = 0
            while written < len(data):
                written += os.pwrite(fd, data[written:], offset + written)
            os.fdatasync(fd)
        finally:
            os.close(fd)

    def _seal(self, tree: CompactRange) -> Checkpoint:
        checkpoint = Checkpoint.sign(tree.size, tree.root(), self._signer)
        self._directory.write_atomic(CHECKPOINT, checkpoint.note)
        return checkpoint

    def _recovered(self, head: Head, time: datetime) -> Head:
        """Set a tail aside and seal a record of it; repeatable, since we too may be killed at any moment.

        1. The tail is kept in a file, added to what an unfinished recovery kept there. 2. It is taken off the segment.
        3. The record is sealed. 4. The file gets its final name, the digest that the record holds.
        """
        kept = self._pending()
        if not head.tail and kept is None:
            return head
        tail = kept if kept is not None and kept.endswith(head.tail) else (kept or b"") + head.tail
        if tail != kept:
            self._directory.write_atomic(PENDING, tail)  # 1
        if head.segment is not None:
            self._write(head.segment, head.checkpoint.size, b"")  # 2
        digest = Digest.of(tail)
        self._append(head, Record(kind=Kind.RECOVERY, time=time, digests={"tail": digest}))  # 3
        self._directory.rename(PENDING, f"tail-{digest.hex}")  # 4
        return read_head(self._directory, self._signer.key)

    def _pending(self) -> bytes | None:
        try:
            return self._directory.read(PENDING, _MAX_PENDING)
        except FileNotFoundError:
            return None
