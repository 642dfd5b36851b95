"""Reads records out of a log, the last ones first checked: none is handed out that the checkpoint does not cover."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from mvmnix.audit.head import Head, absent, is_begun, mismatch, quiet, read_head, read_segment
from mvmnix.audit.merkle import CompactRange, leaf_hash
from mvmnix.audit.note import NoteKey
from mvmnix.audit.record import Record
from mvmnix.audit.segment import CAPACITY, Segment
from mvmnix.errors import RefusedError
from mvmnix.state import Directory
from mvmnix.strict import MalformedError


@dataclass(frozen=True, slots=True)
class Listed:
    """A sealed record and its index in the log."""

    index: int
    record: Record


def records(directory: Directory, key: NoteKey, *, last: int) -> Iterator[Listed]:
    """The last so many sealed records, oldest first; see `backwards` for what is checked and raised."""
    yield from reversed(list(islice(backwards(directory, key), max(0, last))))


def backwards(directory: Directory, key: NoteKey) -> Iterator[Listed]:
    """All sealed records, the last one first; whoever stops asking has read and checked no more than was needed.

    The checkpoint proves the header of the last segment, which proves the records of the segment before it and, with
    them, its header, and so on. Raises RefusedError [log-mismatch], UnreadableError when there is no log.
    """
    if not is_begun(directory):
        raise absent(directory)
    with quiet(directory):
        head = read_head(directory, key)
    segment: Segment | None = head.segment
    end = head.checkpoint.size
    while segment is not None:
        for index in range(end - 1, segment.first - 1, -1):
            yield Listed(index, _parse(directory, index, segment.lines[index - segment.first]))
        end = segment.first
        segment = _before(directory, segment)


def tree_at(directory: Directory, head: Head, size: int) -> CompactRange:
    """The tree of the log's first `size` records, from as few segments as it takes, all of them verified.

    Raises RefusedError [log-mismatch]; ValueError when the log has fewer records.
    """
    if not 0 <= size <= head.checkpoint.size:
        raise ValueError(f"a log of {head.checkpoint.size} records has no state of {size}")
    if size == head.checkpoint.size:
        return head.tree
    segment: Segment | None = head.segment
    while segment is not None and segment.first > size:
        segment = _before(directory, segment)
    return CompactRange() if segment is None else segment.after(size)


def leaf_hashes(directory: Directory, head: Head) -> list[bytes]:
    """The hashes of all sealed records, in order, all of them verified. Raises RefusedError [log-mismatch]."""
    chain = [head.whole]
    while (segment := _before(directory, chain[-1])) is not None:
        chain.append(segment)
    return [leaf_hash(line) for segment in reversed(chain) for line in segment.lines]


def _before(directory: Directory, segment: Segment) -> Segment | None:
    """The segment before a verified one, verified; None before the first."""
    if segment.first == 0:
        return None
    before = read_segment(directory, segment.first - CAPACITY)
    if _after(before, segment.first) != segment.before:
        why = f"the records {before.first} to {segment.first - 1} are not those that were sealed"
        raise RefusedError(mismatch(directory, why))
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
        raise RefusedError(mismatch(directory, f"record {index} is sealed, but none: {error}")) from error
