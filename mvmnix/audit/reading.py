"""Reads records out of a log, the last ones first checked: none is handed out that the checkpoint does not cover."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from mvmnix.audit.merkle import CompactRange, leaf_hash
from mvmnix.audit.note import NoteKey
from mvmnix.audit.record import Record
from mvmnix.audit.segment import CAPACITY, Segment
from mvmnix.audit.tail import Head, hold_writers, is_begun, log_mismatch, no_log, read_head, read_segment
from mvmnix.errors import RefusedError
from mvmnix.formats.strict import MalformedError, show_time
from mvmnix.plural import counted
from mvmnix.system.private_dirs import Directory


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """A sealed record and its index in the log."""

    index: int
    record: Record


def last_records(directory: Directory, key: NoteKey, *, last: int) -> Iterator[SealedRecord]:
    """The last so many sealed records, oldest first; see `records_backwards` for what is checked and raised."""
    yield from reversed(list(islice(records_backwards(directory, key), last)))


def records_backwards(directory: Directory, key: NoteKey) -> Iterator[SealedRecord]:
    """All sealed records, the last one first; a caller that stops early has read and checked no more than it needed.

    The checkpoint proves the header of the last segment, which proves the records of the segment before it and, with
    them, its header, and so on. Raises RefusedError [log-mismatch], UnreadableError when there is no log.
    """
    for segment in _segments(directory, key):
        for index, line in _reversed(segment):
            yield SealedRecord(index, _parse(directory, index, line))


def matching_records(
    directory: Directory, key: NoteKey, text: bytes, *, since: datetime | None = None
) -> Iterator[SealedRecord]:
    """The sealed records whose lines hold `text`, the last first, checked as by `records_backwards`; no other is read.

    The search ends with the first full segment all of whose records are older than `since`. It costs one SHA-256 and
    one look for each record on the way: about 1 ms for each segment of 128. Raises as `records_backwards`.
    """
    oldest = b"" if since is None else show_time(since).encode()
    for segment in _segments(directory, key):
        for index, line in _reversed(segment):
            if text in line:
                yield SealedRecord(index, _parse(directory, index, line))
        if len(segment.lines) == CAPACITY and max(map(_time, segment.lines)) < oldest:
            return


def _time(line: bytes) -> bytes:
    """When a record was written, as its line ends: `…"time":"2026-01-31T12:00:00Z"}`; sorts as the times do."""
    return line.removesuffix(b'"}')[-20:]


def _reversed(segment: Segment) -> Iterator[tuple[int, bytes]]:
    """The lines of a segment with their indices, the last one first."""
    return reversed([*enumerate(segment.lines, segment.first)])


def _segments(directory: Directory, key: NoteKey) -> Iterator[Segment]:
    """The segments of a log whose end is read and verified here; see `_chain`."""
    if not is_begun(directory):
        raise no_log(directory)
    with hold_writers(directory):
        head = read_head(directory, key)
    yield from _chain(directory, head)


def _chain(directory: Directory, head: Head) -> Iterator[Segment]:
    """All segments, the last one first, without what lies beyond its sealed records; verified before it is yielded."""
    segment = head.whole
    yield segment
    while segment.first:
        segment = _before(directory, segment)
        yield segment


def tree_at(directory: Directory, head: Head, size: int) -> CompactRange:
    """The tree of the log's first `size` records, from as few segments as it takes, all of them verified.

    Raises RefusedError [log-mismatch]; ValueError when the log has fewer records.
    """
    if not 0 <= size <= head.checkpoint.size:
        raise ValueError(f"a log of {counted(head.checkpoint.size, 'record')} has no state of {size}")
    if size == head.checkpoint.size:
        return head.tree
    return next(segment.after(size) for segment in _chain(directory, head) if segment.first <= size)


def leaf_hashes(directory: Directory, head: Head) -> list[bytes]:
    """The hashes of all sealed records, in order, all of them verified. Raises RefusedError [log-mismatch]."""
    return [leaf_hash(line) for segment in reversed([*_chain(directory, head)]) for line in segment.lines]


def _before(directory: Directory, segment: Segment) -> Segment:
    """The segment before a verified one that is not the first, verified."""
    before = read_segment(directory, segment.first - CAPACITY, is_end=False)
    if _after(before, segment.first) != segment.before:
        why = f"the records {before.first} to {segment.first - 1} are not those that were sealed"
        raise RefusedError(log_mismatch(directory, why, is_end=False))
    return before


def _after(segment: Segment, size: int) -> CompactRange | None:
    try:
        return segment.after(size)
    except ValueError:
        return None


def _parse(directory: Directory, index: int, line: bytes) -> Record:
    try:
        return Record.parse(line)
    except MalformedError as error:
        raise RefusedError(log_mismatch(directory, f"record {index} is sealed, but none: {error}")) from error
