"""Verifying a whole log: every tampering by somebody without the key, and what only a pinned checkpoint shows."""

import os
from collections.abc import Callable
from dataclasses import replace as replaced
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mvmnix.audit.log import AuditLog
from mvmnix.audit.merkle import CompactRange
from mvmnix.audit.note import Checkpoint
from mvmnix.audit.reading import last_records
from mvmnix.audit.record import Record, RecordKind
from mvmnix.audit.segment import BLANK, CAPACITY, PLACES, WIDTH, Segment, SegmentSeal, segment_name
from mvmnix.audit.tail import VERIFIER_KEY, read_head
from mvmnix.audit.verify import verify_log
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError, UnreadableError
from mvmnix.system.private_dirs import Directory
from tests.support.refusals import refusal_codes
from tests.unit.audit.world import NOON, SIZE, World, content, new_signer, record

#: Lines before the first record of a segment.
HEAD = 1 + PLACES
FIRST, SECOND, THIRD = (segment_name(index * CAPACITY) for index in range(3))


def refusal(world: World, pinned: bytes | None = None) -> str:
    with pytest.raises(RefusedError) as caught:
        verify_log(world.directory, world.key, pinned)
    assert set(caught.value.codes) == {ReasonCode.LOG_MISMATCH}
    return str(caught.value)


def lines(path: Path) -> list[bytes]:
    return content(path).splitlines(keepends=True)


def put(path: Path, content: list[bytes]) -> None:
    path.write_bytes(b"".join(content))


def drop(name: str, position: int) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        content = lines(world.path / name)
        del content[position]
        put(world.path / name, content)

    return tamper


def swap(name: str, one: int, other: int) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        content = lines(world.path / name)
        content[one], content[other] = content[other], content[one]
        put(world.path / name, content)

    return tamper


def repeat(name: str, position: int) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        content = lines(world.path / name)
        content.insert(position, content[position])
        put(world.path / name, content)

    return tamper


def replace(name: str, position: int, old: bytes, new: bytes) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        content = lines(world.path / name)
        assert old in content[position]
        content[position] = content[position].replace(old, new)
        put(world.path / name, content)

    return tamper


def drop_segments(world: World) -> None:
    for name in (FIRST, SECOND, THIRD):
        (world.path / name).unlink()


def swap_segments(world: World) -> None:
    (world.path / FIRST).rename(world.path / "x")
    (world.path / SECOND).rename(world.path / FIRST)
    (world.path / "x").rename(world.path / SECOND)


def swap_records_of_segments(world: World) -> None:
    first, second = lines(world.path / FIRST), lines(world.path / SECOND)
    put(world.path / FIRST, [*first[:HEAD], *second[HEAD:]])
    put(world.path / SECOND, [*second[:HEAD], *first[HEAD:]])


def move_between_segments(world: World) -> None:
    first, second = lines(world.path / FIRST), lines(world.path / SECOND)
    put(world.path / FIRST, first[:-1])
    put(world.path / SECOND, [*second[:HEAD], first[-1], *second[HEAD:]])


def rewrite_consistently(world: World, seal: SegmentSeal | None = None) -> None:
    """Change a record and recompute everything but the signature: what somebody without the key can do at most."""
    tree = CompactRange()
    for name in (FIRST, SECOND, THIRD):
        segment = parse(world, name)
        changed = tuple(line.replace(b'"m0"', b'"m9"') for line in segment.lines)
        (world.path / name).write_bytes(replaced(segment, before=tree, lines=changed).data)
        tree = tree.extend(changed)
    if seal is not None:
        put_seal(world, THIRD, seal)


def forge(world: World) -> None:
    rewrite_consistently(world)
    tree = CompactRange().extend(line for name in (FIRST, SECOND, THIRD) for line in parse(world, name).lines)
    put_seal(world, THIRD, SegmentSeal.of(Checkpoint.sign(tree.size, tree.root(), new_signer(2))))


def parse(world: World, name: str) -> Segment:
    return Segment.parse(name, (world.path / name).read_bytes())


def put_seal(world: World, name: str, seal: SegmentSeal) -> None:
    """Make this the only seal of a segment."""
    even, odd = (seal.line if place == seal.place else BLANK for place in range(PLACES))
    (world.path / name).write_bytes(replaced(parse(world, name), places=(even, odd)).data)


def blank_seals(world: World) -> None:
    (world.path / THIRD).write_bytes(parse(world, THIRD).closed.data)


def seal_of_another_size(world: World) -> None:
    (seal,) = parse(world, THIRD).seals
    put_seal(world, THIRD, replaced(seal, size=seal.size - 2))


TAMPERINGS: dict[str, Callable[[World], object]] = {
    "first record changed": replace(FIRST, HEAD, b'"m0"', b'"m1"'),
    "record in the middle changed": replace(SECOND, HEAD + 8, b"start", b"admission"),
    "last record changed": replace(THIRD, -1, b"2026", b"2025"),
    "respelled without another meaning": replace(FIRST, HEAD + 4, b'"kind":', b'"kind": '),
    "first record dropped": drop(FIRST, HEAD),
    "record in the middle dropped": drop(SECOND, HEAD + 99),
    "last record of a segment dropped": drop(FIRST, -1),
    "last record dropped": drop(THIRD, -1),
    "neighbours reordered": swap(FIRST, HEAD + 2, HEAD + 3),
    "reordered in the last segment": swap(THIRD, HEAD, HEAD + 4),
    "record duplicated": repeat(FIRST, HEAD + 6),
    "last record of a segment duplicated": repeat(FIRST, HEAD + CAPACITY - 1),
    "first record of a segment duplicated": repeat(SECOND, HEAD),
    "segments swapped": swap_segments,
    "records of segments swapped": swap_records_of_segments,
    "record moved to the next segment": move_between_segments,
    "first segment dropped": lambda world: (world.path / FIRST).unlink(),
    "middle segment dropped": lambda world: (world.path / SECOND).unlink(),
    "last segment dropped": lambda world: (world.path / THIRD).unlink(),
    "all segments dropped": drop_segments,
    "segment emptied": lambda world: (world.path / SECOND).write_bytes(b""),
    "segment without its last newline": lambda world: os.truncate(
        world.path / FIRST, (world.path / FIRST).stat().st_size - 1
    ),
    "torn line in a full segment": lambda world: (world.path / FIRST).write_bytes(
        (world.path / FIRST).read_bytes() + b"x"
    ),
    "hash in a header changed": replace(SECOND, 0, b'"hashes":["', b'"hashes":["0'),
    "header of the last segment changed": replace(THIRD, 0, b'"first":256', b'"first":255'),
    "unknown version": replace(FIRST, 0, b'"version":2', b'"version":3'),
    "room in a full segment": lambda world: (world.path / FIRST).write_bytes((world.path / FIRST).read_bytes() + b" "),
    "seal blanked": blank_seals,
    "seal of another size": seal_of_another_size,
    "seal planted in a full segment": lambda world: put_seal(world, FIRST, parse(world, THIRD).seals[0]),
    "places for seals cut off": lambda world: os.truncate(world.path / THIRD, 200),
    "rewritten, seal forged": forge,
    "rewritten, seal kept": rewrite_consistently,
    "two records beyond the seal": lambda world: put(
        world.path / THIRD, [*lines(world.path / THIRD), b"{}\n", b"{}\n"]
    ),
    "a segment of the future": lambda world: (world.path / segment_name(9999)).write_bytes(
        b'{"first":9999,"hashes":[],"version":2}\n'
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_found(long: World, name: str) -> None:
    TAMPERINGS[name](long)
    refusal(long)


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_refusal_says_whether_anything_starts(long: World, name: str) -> None:
    """A start stands on the log's end alone, and is refused where its record can't be appended."""
    TAMPERINGS[name](long)
    told = refusal(long).lower()
    try:
        AuditLog(long.directory, long.signer).append(record(SIZE))
    except RefusedError as refused:
        assert "nothing starts until" in told
        assert "nothing starts until" in str(refused).lower()
        assert "machines start" not in told
    else:
        assert "machines start and are recorded all the same" in told
        assert "nothing starts" not in told


@pytest.mark.parametrize("is_published", [True, False], ids=["with the key beside it", "without"])
def test_a_log_that_another_key_sealed_is_named(long: World, *, is_published: bool) -> None:
    """Both keys, and both explanations: a host key that was lost, and somebody else's log."""
    other = new_signer(2)
    if not is_published:
        (long.path / VERIFIER_KEY).unlink()
    with pytest.raises(RefusedError) as refused:
        AuditLog(long.directory, other).append(record(SIZE))
    told = str(refused.value)
    name = long.key.name if is_published else f"a key with the ID {long.key.identity.hex()}"
    assert f"by {name}, and the key here is {other.key.name}" in told
    assert "the host key was lost or replaced" in told
    assert "this is another host's log" in told
    assert "find out who changed it" not in told


def test_a_key_that_was_put_beside_a_log_is_not_named_for_its_seal(long: World) -> None:
    (long.path / VERIFIER_KEY).write_text(f"{new_signer(3).key}\n")
    with pytest.raises(RefusedError) as refused:
        verify_log(long.directory, new_signer(2).key)
    assert new_signer(3).key.name not in str(refused.value)
    assert f"a key with the ID {long.key.identity.hex()}" in str(refused.value)


def blank_place(world: World) -> range:
    """The bytes of the last segment where the next seal will be."""
    start = parse(world, THIRD).start + (SIZE + 1) % PLACES * WIDTH
    return range(start, start + WIDTH)


@pytest.mark.parametrize("name", [FIRST, SECOND, THIRD])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_flipped_bit_is_found(long: World, name: str, data: st.DataObject) -> None:
    original = (long.path / name).read_bytes()
    blank = blank_place(long)
    spoiled = bytearray(original)
    position = data.draw(st.integers(0, len(content(long.path / name)) - 1))
    spoiled[position] ^= 1 << data.draw(st.integers(0, 7))
    (long.path / name).write_bytes(spoiled)
    try:
        if name == THIRD and position in blank:  # where a writer that was killed leaves a torn seal
            assert verify_log(long.directory, long.key).tail == WIDTH
        else:
            refusal(long)
    finally:
        (long.path / name).write_bytes(original)


@pytest.mark.parametrize("position", [0, 1, 1000, -1])
def test_a_flipped_bit_of_the_room_ahead_is_found(long: World, position: int) -> None:
    original, end = (long.path / THIRD).read_bytes(), len(content(long.path / THIRD))
    spoiled = bytearray(original)
    spoiled[end + position if position >= 0 else position] ^= 1
    (long.path / THIRD).write_bytes(spoiled)
    assert verify_log(long.directory, long.key).tail > 0


def test_every_flipped_bit_of_the_seals_is_found(long: World) -> None:
    original = (long.path / THIRD).read_bytes()
    blank = blank_place(long)
    for position in range(parse(long, THIRD).start + PLACES * WIDTH):
        spoiled = bytearray(original)
        spoiled[position] ^= 1 << position % 8
        (long.path / THIRD).write_bytes(spoiled)
        if position % 7 == 0:  # the rest by what it begins with, which does not look at all records
            if position in blank:
                assert verify_log(long.directory, long.key).tail == WIDTH
            else:
                refusal(long)
        elif position in blank:
            assert len(read_head(long.directory, long.key).unsealed) == WIDTH
        else:
            with pytest.raises(RefusedError):
                read_head(long.directory, long.key)


def test_an_untouched_log_verifies(long: World, notes: dict[int, bytes]) -> None:
    evidence = verify_log(long.directory, long.key)
    assert evidence.checkpoint.note == notes[SIZE]
    assert (evidence.checkpoint.size, evidence.pinned, evidence.tail) == (SIZE, None, 0)


@pytest.mark.parametrize("size", [1, 2, CAPACITY - 1, CAPACITY, CAPACITY + 1, SIZE - 1, SIZE])
def test_every_earlier_checkpoint_is_consistent(long: World, notes: dict[int, bytes], size: int) -> None:
    evidence = verify_log(long.directory, long.key, notes[size])
    assert evidence.pinned is not None
    assert evidence.pinned.size == size


def test_a_change_is_located(long: World) -> None:
    replace(SECOND, HEAD + 8, b"start", b"admission")(long)
    message = refusal(long)
    assert f"a record before {2 * CAPACITY} was changed" in message
    assert "do not give the root" not in message  # which proves the header of the last segment, and what it tells


def test_all_changes_are_named(long: World) -> None:
    replace(FIRST, HEAD + 8, b"start", b"admission")(long)
    drop(SECOND, HEAD + 2)(long)
    (long.path / THIRD).write_bytes(b"")
    message = refusal(long)
    assert f"a record before {CAPACITY} was changed" in message
    assert f"a record before {2 * CAPACITY} was changed" not in message, "its header can't be read"
    assert message.count(f"{THIRD} does not parse") == 1


def test_a_segment_that_can_not_be_read_is_named(long: World) -> None:
    (long.path / SECOND).write_bytes(b"x" + (long.path / SECOND).read_bytes())
    told = refusal(long)
    assert SECOND in told.partition("after record")[0], "itself, and not only the gap that it leaves"
    assert "after record" in told
    put(long.path / SECOND, [])
    (long.path / THIRD).write_bytes(b"x")
    assert f"{THIRD} " in refusal(long), "and the last one, whose seal is looked for first"


def test_what_has_begun_and_not_ended(world: World) -> None:
    world.fill(3)
    world.log.append(replaced(record(1), kind=RecordKind.END))
    visited = list[int]()
    found = verify_log(world.directory, world.key, visit=lambda index, _: visited.append(index))
    assert [(it.index, it.record) for it in found.unended] == [(0, record(0)), (2, record(2))]
    assert visited == [0, 1, 2, 3]


def test_the_root_of_no_records_is_known(world: World) -> None:
    world.fill(1)
    pinned = Checkpoint.sign(0, CompactRange().root(), world.signer).note
    assert verify_log(world.directory, world.key, pinned).pinned is not None


@pytest.mark.parametrize("size", [0, 1, CAPACITY, CAPACITY + 1, SIZE])
def test_a_pinned_root_that_is_another_is_told_once(long: World, size: int) -> None:
    said = refusal(long, Checkpoint.sign(size, bytes(32), long.signer).note)
    assert said.count("not give the root of the checkpoint kept elsewhere") == 1


def test_records_are_compared_where_the_end_does_not_verify(long: World, notes: dict[int, bytes]) -> None:
    replace(FIRST, HEAD, b'"m0"', b'"m1"')(long)
    put_seal(long, FIRST, parse(long, THIRD).seals[0])
    blank_seals(long)
    said = refusal(long, notes[5])
    assert "the first 5 records do not give the root" in said
    assert "rolled back" not in said, "how many there are is not known"


def test_a_gap_is_located(long: World) -> None:
    (long.path / SECOND).unlink()
    assert f"after record {CAPACITY - 1} comes the segment of record {2 * CAPACITY}" in refusal(long)


def test_another_key_is_refused(long: World) -> None:
    assert refusal_codes(verify_log, long.directory, new_signer(2).key) == (ReasonCode.LOG_MISMATCH,)


# -- what a checkpoint kept elsewhere adds


def roll_back(world: World, notes: dict[int, bytes], size: int) -> None:
    """Put an older state of the log back as a whole; needs no key, but its seal."""
    last = FIRST
    for index, name in enumerate((FIRST, SECOND, THIRD)):
        if index * CAPACITY >= size:
            (world.path / name).unlink()
        else:
            segment = parse(world, name)
            kept = segment.lines[: size - index * CAPACITY]
            (world.path / name).write_bytes(replaced(segment.closed, lines=kept).data)
            last = name
    put_seal(world, last, old_seal(world, notes, size))


def old_seal(world: World, notes: dict[int, bytes], size: int) -> SegmentSeal:
    return SegmentSeal.of(Checkpoint.verified(notes[size], world.key))


@pytest.mark.parametrize("size", [1, CAPACITY, CAPACITY + 7, SIZE - 1])
def test_a_roll_back_shows_against_a_pinned_checkpoint_only(long: World, notes: dict[int, bytes], size: int) -> None:
    roll_back(long, notes, size)
    assert verify_log(long.directory, long.key).checkpoint.size == size
    assert verify_log(long.directory, long.key, notes[size]).pinned is not None
    assert "rolled back" in refusal(long, notes[SIZE])
    AuditLog(long.directory, long.signer).append(record(7777))
    if size + 1 < SIZE:
        assert "rolled back" in refusal(long, notes[SIZE])
    else:
        assert "do not give the root of the checkpoint kept elsewhere" in refusal(long, notes[SIZE])


@pytest.mark.parametrize("size", [1, CAPACITY - 1, CAPACITY, 2 * CAPACITY - 1, 2 * CAPACITY, SIZE - 2])
@pytest.mark.parametrize("name", [FIRST, SECOND, THIRD])
def test_an_older_seal_alone_is_found(long: World, notes: dict[int, bytes], size: int, name: str) -> None:
    put_seal(long, name, old_seal(long, notes, size))
    refusal(long)
    if name == THIRD:
        with pytest.raises(RefusedError):
            AuditLog(long.directory, long.signer).append(record(0))


@pytest.mark.parametrize("size", [CAPACITY - 1, CAPACITY, 2 * CAPACITY - 1, 2 * CAPACITY, SIZE - 1])
def test_records_that_are_dropped_without_their_seals_are_found(long: World, size: int) -> None:
    """Old seals are not kept, so whoever comes later can't go back to one."""
    for index, name in enumerate((FIRST, SECOND, THIRD)):
        if index * CAPACITY >= size:
            (long.path / name).unlink()
        else:
            segment = parse(long, name)
            (long.path / name).write_bytes(replaced(segment, lines=segment.lines[: size - segment.first]).data)
    refusal(long)


def test_the_last_seal_but_one_looks_like_a_killed_writer(long: World, notes: dict[int, bytes]) -> None:
    """Somebody who puts it back takes the last record out of the log; its bytes are kept, and the pin shows it."""
    put_seal(long, THIRD, old_seal(long, notes, SIZE - 1))
    assert verify_log(long.directory, long.key).tail == len(record(SIZE - 1).line) + 1
    refusal(long, notes[SIZE])
    AuditLog(long.directory, long.signer).append(record(7))
    recovery = next(last_records(long.directory, long.key, last=2)).record
    assert (long.path / f"tail-{recovery.digests['tail'].hex}").read_bytes() == record(SIZE - 1).line + b"\n"
    refusal(long, notes[SIZE])


def test_a_rewrite_by_the_key_s_holder_shows_against_a_pinned_checkpoint_only(
    long: World, notes: dict[int, bytes]
) -> None:
    for file in long.path.iterdir():
        file.unlink()
    for number in range(SIZE + 3):
        long.log.append(record(number if number != 4 else 4444))
    verify_log(long.directory, long.key)
    verify_log(long.directory, long.key, notes[4])
    assert "do not give the root of the checkpoint kept elsewhere" in refusal(long, notes[5])
    refusal(long, notes[SIZE])


def test_a_log_that_was_begun_anew_is_named_beside_the_contradiction(long: World, notes: dict[int, bytes]) -> None:
    """The checkpoint may be one of the log before it, and no sign of a rewrite."""
    for file in long.path.iterdir():
        file.unlink()
    AuditLog(long.directory, long.signer).append(
        Record(kind=RecordKind.NEW_LOG, time=NOON, digests={"was": Digest.of(b"")})
    )
    verify_log(long.directory, long.key)
    said = refusal(long, notes[SIZE])
    assert "rolled back" in said
    assert "record 0 says that a new log was begun on purpose at 2026-01-31T12:00:00Z" in said


@pytest.mark.parametrize("note", [b"", b"x", Checkpoint.sign(1, bytes(32), new_signer(2)).note])
def test_a_pinned_checkpoint_of_another_log_is_refused(long: World, note: bytes) -> None:
    assert "kept elsewhere" in refusal(long, note)


@pytest.mark.parametrize("line", [b"{}", b"", record(1).line + b" ", b'{"kind":"start","argv":["--token"]}'])
def test_what_is_sealed_but_no_record_is_refused(world: World, line: bytes) -> None:
    """Only the key's holder can do that; a record is read by its type all the same."""
    tree = CompactRange().extend([record(0).line, line])
    seal = SegmentSeal.of(Checkpoint.sign(2, tree.root(), world.signer))
    world.directory.write_atomic(FIRST, Segment(CompactRange(), (record(0).line,)).sealed(line, seal).data)
    assert "record 1 is malformed" in refusal(world)
    assert refusal_codes(list, last_records(world.directory, world.key, last=1)) == (ReasonCode.LOG_MISMATCH,)


def test_of_many_problems_the_first_are_named(world: World) -> None:
    """A log of which everything was changed is refused in few words."""
    lines = [b"%d" % number for number in range(21)]
    seal = SegmentSeal.of(Checkpoint.sign(21, CompactRange().extend(lines).root(), world.signer))
    segment = Segment(CompactRange(), tuple(lines[:-1])).sealed(lines[-1], seal)
    world.directory.write_atomic(FIRST, segment.data)
    with pytest.raises(RefusedError) as caught:
        verify_log(world.directory, world.key)
    assert [it.why.partition(" is malformed")[0] for it in caught.value.reasons] == [f"record {it}" for it in range(20)]


# -- no log at all


@pytest.mark.parametrize("name", [FIRST, THIRD])
def test_a_disk_that_cannot_be_read_is_no_refusal(long: World, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    real = Directory.read

    def read(directory: Directory, wanted: str, limit: int) -> bytes:
        if wanted == name:
            raise OSError(5, "Input/output error")
        return real(directory, wanted, limit)

    monkeypatch.setattr(Directory, "read", read)
    with pytest.raises(UnreadableError, match="cannot be read"):
        verify_log(long.directory, long.key)


def test_no_log_is_neither_verified_nor_refused(world: World) -> None:
    for action in (
        lambda: verify_log(world.directory, world.key),
        lambda: list(last_records(world.directory, world.key, last=1)),
    ):
        with pytest.raises(UnreadableError, match="holds no audit log"):
            action()


def test_no_log_where_one_was_seen_is_refused(long: World, notes: dict[int, bytes]) -> None:
    for file in long.path.iterdir():
        file.unlink()
    assert "the log is gone" in refusal(long, notes[3])


def test_an_exported_copy_is_left_as_it_is(long: World) -> None:
    (long.path / "lock").unlink()
    before = sorted(long.path.iterdir())
    verify_log(long.directory, long.key)
    assert sorted(long.path.iterdir()) == before


@pytest.mark.parametrize("name", [FIRST, THIRD])
def test_records_that_are_handed_out_were_checked(long: World, name: str) -> None:
    replace(name, HEAD + 1, b"start", b"admission")(long)
    if name == FIRST:
        assert len(list(last_records(long.directory, long.key, last=CAPACITY))) == CAPACITY
    assert refusal_codes(list, last_records(long.directory, long.key, last=SIZE)) == (ReasonCode.LOG_MISMATCH,)


def test_a_log_that_was_begun_anew_is_no_excuse_for_another_problem(world: World) -> None:
    for file in world.path.iterdir():
        file.unlink()
    AuditLog(world.directory, world.signer).append(
        Record(kind=RecordKind.NEW_LOG, time=NOON, digests={"was": Digest.of(b"")})
    )
    world.log.append(record(1))
    replace(FIRST, -1, b'"m1"', b'"m2"')(world)
    assert "begun on purpose" not in refusal(world)
