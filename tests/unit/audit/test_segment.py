"""Segment files: their names, their header's only spelling, where the log's end lies in them."""

import pytest

from mvmnix.audit.merkle import CompactRange
from mvmnix.audit.segment import CAPACITY, Segment, first_of, segment_name
from mvmnix.strict import MalformedError

LINES = tuple(b"line %d" % number for number in range(3))
EMPTY = Segment(CompactRange(), ()).header
BEFORE = CompactRange().extend(b"x" for _ in range(CAPACITY))


def test_round_trip() -> None:
    data = Segment(BEFORE, ()).header + b"".join(line + b"\n" for line in LINES) + b"to"
    segment = Segment.parse(segment_name(CAPACITY), data)
    assert segment == Segment(BEFORE, LINES, b"to")
    assert segment.first == CAPACITY


@pytest.mark.parametrize("count", range(4))
def test_where_the_log_ends(count: int) -> None:
    segment = Segment(BEFORE, LINES, b"to")
    data = segment.header + b"".join(line + b"\n" for line in LINES) + b"to"
    size = CAPACITY + count
    assert data[segment.offset(size) :] == segment.beyond(size)
    assert segment.after(size) == BEFORE.extend(LINES[:count])


@pytest.mark.parametrize("size", [CAPACITY - 1, CAPACITY + 4])
def test_records_that_are_not_in_it(size: int) -> None:
    with pytest.raises(ValueError, match="is not in the segment"):
        Segment(BEFORE, LINES).after(size)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (segment_name(0), b""),
        (segment_name(0), b"\n"),
        (segment_name(0), EMPTY[:-1]),
        (segment_name(0), b"{}\n"),
        (segment_name(0), b"[]\n"),
        (segment_name(0), EMPTY.replace(b":", b": ")),
        (segment_name(0), EMPTY.replace(b"}", b',"more":1}')),
        (segment_name(0), EMPTY.replace(b'"version":1', b'"version":2')),
        (segment_name(0), EMPTY.replace(b'"first":0', b'"first":1')),
        (segment_name(CAPACITY), EMPTY),
        (segment_name(3), Segment(CompactRange().extend(LINES), ()).header),
        (segment_name(CAPACITY), Segment(BEFORE, ()).header.replace(b'"]', b'","' + b"0" * 64 + b'"]')),
        (segment_name(CAPACITY), Segment(BEFORE, ()).header.upper()),
    ],
)
def test_files_that_are_none_are_refused(name: str, data: bytes) -> None:
    with pytest.raises(MalformedError):
        Segment.parse(name, data)


@pytest.mark.parametrize("name", ["", "checkpoint", "1.jsonl", "00000000000000001.jsonl", "-000000000000001.jsonl"])
def test_names_that_are_none(name: str) -> None:
    assert first_of(name) is None
