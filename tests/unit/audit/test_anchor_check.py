"""A log against a checkpoint that was kept elsewhere: older, forked, gone or another's is refused, all else goes on."""

import pytest

from mvmnix.audit.anchored_log import check_against_anchor
from mvmnix.audit.note import Checkpoint
from mvmnix.audit.segment import CAPACITY, segment_name
from mvmnix.errors import ReasonCode, RefusedError
from tests.unit.audit.world import SIZE, World, new_signer, record


def refusal(world: World, note: bytes) -> str:
    with pytest.raises(RefusedError) as caught:
        check_against_anchor(world.directory, world.key, note)
    assert caught.value.codes == (ReasonCode.LOG_MISMATCH,)
    return str(caught.value)


@pytest.mark.parametrize("size", [1, CAPACITY - 1, CAPACITY, CAPACITY + 1, 2 * CAPACITY, SIZE - 1, SIZE])
def test_a_log_that_went_on_is_taken(long: World, notes: dict[int, bytes], size: int) -> None:
    ours = check_against_anchor(long.directory, long.key, notes[size])
    assert ours.note == notes[SIZE]
    long.log.append(record(SIZE))
    assert check_against_anchor(long.directory, long.key, notes[size]).size == SIZE + 1


@pytest.mark.parametrize("size", [2 * CAPACITY, SIZE])
def test_what_the_anchor_has_seen_last_needs_no_old_segment(long: World, notes: dict[int, bytes], size: int) -> None:
    (long.path / segment_name(0)).write_bytes(b"")
    (long.path / segment_name(CAPACITY)).write_bytes(b"")
    assert check_against_anchor(long.directory, long.key, notes[size]).size == SIZE
    refusal(long, notes[CAPACITY + 5])


def test_an_older_log_is_refused(world: World, notes: dict[int, bytes]) -> None:
    world.fill(3)
    assert check_against_anchor(world.directory, world.key, notes[3]).size == 3
    assert "rolled back: 4 records were seen elsewhere, 3 are left" in refusal(world, notes[4])


@pytest.mark.parametrize("size", [4, 5])
def test_a_forked_log_is_refused(world: World, notes: dict[int, bytes], size: int) -> None:
    world.fill(3)
    for number in (99, 4):
        world.log.append(record(number))
    assert check_against_anchor(world.directory, world.key, notes[3]).size == 5
    assert f"forked: its first {size} records" in refusal(world, notes[size])


def test_no_log_where_one_was_seen_is_refused(world: World, notes: dict[int, bytes]) -> None:
    assert "the log is gone" in refusal(world, notes[1])


@pytest.mark.parametrize("note", [b"", b"x", Checkpoint.sign(1, bytes(32), new_signer(2)).note])
def test_a_checkpoint_of_another_log_is_refused(long: World, note: bytes) -> None:
    assert "is not one of this log" in refusal(long, note)


def test_a_log_that_does_not_verify_is_refused(long: World, notes: dict[int, bytes]) -> None:
    file = long.path / segment_name(2 * CAPACITY)
    file.write_bytes(file.read_bytes().replace(b"start", b"START", 1))
    refusal(long, notes[SIZE])
