"""Segment files: their names, their header's only spelling, where the log's end lies in them."""

from dataclasses import replace

import pytest

from mvmnix.audit.merkle import CompactRange
from mvmnix.audit.note import Checkpoint
from mvmnix.audit.segment import BLANK, CAPACITY, NO_SEALS, PLACES, WIDTH, Segment, SegmentSeal, first_of, segment_name
from mvmnix.formats.strict import MalformedError
from tests.unit.audit.world import new_signer

LINES = tuple(b"line %d" % number for number in range(3))
EMPTY = Segment(CompactRange(), ()).data
BEFORE = CompactRange().extend(b"x" for _ in range(CAPACITY))


def test_round_trip() -> None:
    data = Segment(BEFORE, ()).data + b"".join(line + b"\n" for line in LINES) + b"to"
    segment = Segment.parse(segment_name(CAPACITY), data)
    assert segment == Segment(BEFORE, LINES, b"to")
    assert (segment.first, segment.data) == (CAPACITY, data)
    assert Segment.parse(segment_name(0), EMPTY) == Segment(CompactRange(), ())


@pytest.mark.parametrize("count", range(4))
def test_where_the_log_ends(count: int) -> None:
    segment = Segment(BEFORE, LINES, b"to")
    size = CAPACITY + count
    assert segment.beyond(size) == b"".join(line + b"\n" for line in LINES[count:]) + b"to"
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
        (segment_name(0), EMPTY.partition(b"\n")[0]),
        (segment_name(0), b"{}\n"),
        (segment_name(0), b"[]\n"),
        (segment_name(0), EMPTY.replace(b":", b": ")),
        (segment_name(0), EMPTY.replace(b"}", b',"more":1}')),
        (segment_name(0), EMPTY.replace(b'"version":2', b'"version":1')),
        (segment_name(0), EMPTY.replace(b'"first":0', b'"first":1')),
        (segment_name(CAPACITY), EMPTY),
        (segment_name(3), Segment(CompactRange().extend(LINES), ()).data),
        (segment_name(CAPACITY), Segment(BEFORE, ()).data.replace(b'"]', b'","' + b"0" * 64 + b'"]')),
        (segment_name(CAPACITY), Segment(BEFORE, ()).data.upper()),
    ],
)
def test_files_that_are_none_are_refused(name: str, data: bytes) -> None:
    with pytest.raises(MalformedError):
        Segment.parse(name, data)


@pytest.mark.parametrize("name", ["", "checkpoint", "1.jsonl", "00000000000000001.jsonl", "-000000000000001.jsonl"])
def test_names_that_are_none(name: str) -> None:
    assert first_of(name) is None


def seal(size: int) -> SegmentSeal:
    return SegmentSeal.of(Checkpoint.sign(size, bytes(32), new_signer()))


@pytest.mark.parametrize("size", [1, 2, 127, 10**15])
def test_a_seal_is_a_checkpoint_s_signature(size: int) -> None:
    signer = new_signer()
    one = seal(size)
    assert len(one.line) == WIDTH == len(BLANK)
    assert SegmentSeal.parse(one.line, size % PLACES) == one
    assert SegmentSeal.parse(one.line, (size + 1) % PLACES) is None
    assert one.checkpoint(bytes(32), signer.key) == Checkpoint.sign(size, bytes(32), signer)
    for root, key in ((b"x" * 32, signer.key), (bytes(32), new_signer(2).key)):
        with pytest.raises(ValueError, match="signature"):
            one.checkpoint(root, key)


@pytest.mark.parametrize("line", [BLANK, b"", b"\xff" * WIDTH, seal(2).line[:-1], seal(2).line + b"\n"])
def test_what_is_no_seal(line: bytes) -> None:
    assert SegmentSeal.parse(line, 0) is None


def test_seals_that_a_segment_may_have() -> None:
    segment = Segment(BEFORE, LINES)
    assert segment.seals == ()
    sealed = segment.sealed(b"line 4", seal(CAPACITY + 4))
    assert (sealed.lines, sealed.seals) == ((*LINES, b"line 4"), (seal(CAPACITY + 4),))
    assert sealed.closed.places == NO_SEALS
    assert replace(sealed, spare=3).closed.data == replace(sealed, places=NO_SEALS, spare=0).data
    for size in (CAPACITY, 2 * CAPACITY + 2):
        assert segment.sealed(b"", seal(size)).seals == (), "those of other segments"
    both = Segment(BEFORE, LINES, b"", (seal(CAPACITY + 2).line, seal(CAPACITY + 3).line))
    assert [one.size for one in both.seals] == [CAPACITY + 3, CAPACITY + 2]
