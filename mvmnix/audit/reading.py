"""Reads records out of a log, the last ones first checked: none is handed out that the checkpoint does not cover."""

from collections.abc import Iterator
from dataclasses import dataclass

from mvmnix.audit.head import Head, absent, is_begun, mismatch, quiet, read_head, read_segment
from mvmnix.audit.merkle import CompactRange
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
    """The last so many sealed records, oldest first.

    The checkpoint proves the header of the last segment, which proves the records of the segment before it and, with
    them, its header, and so on: as much of the log is read and checked as is asked for, from its end.
    Raises RefusedError [log-mismatch], UnreadableError when there is no log.
    """
    if not is_begun(directory):
        raise absent(directory)
    with quiet(directory):
        head = read_head(directory, key)
    start = max(0, head.checkpoint.size - last)
    chain = _chain(directory, head, start)
    for segment, end in reversed(chain):
        for index in range(max(start, segment.first), end):
            yield Listed(index, _parse(directory, index, segment.lines[index - segment.first]))


def _chain(directory: Directory, head: Head, start: int) -> list[tuple[Segment, int]]:
    """Verified segments from the last back to the one that holds `start`, each with the index where it ends."""
    if head.segment is None:
        return []
    chain = [(head.segment, head.checkpoint.size)]
    while (after := chain[-1][0].before).size > start:
        segment = read_segment(directory, after.size - CAPACITY)
        if _after(segment, after.size) != after:
            why = f"the records {segment.first} to {after.size - 1} are not those that were sealed"
            raise RefusedError(mismatch(directory, why))
        chain.append((segment, after.size))
    return chain


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
