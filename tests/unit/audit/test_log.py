"""Appending: what is written, that a killed writer loses nothing sealed, that many writers agree, when it refuses."""

import errno
import json
import os
import re
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mvmnix.audit.log import AuditLog
from mvmnix.audit.merkle import CompactRange
from mvmnix.audit.note import Checkpoint, Signer
from mvmnix.audit.reading import last_records, matching_records, tree_at
from mvmnix.audit.record import Record, RecordKind
from mvmnix.audit.segment import CAPACITY, NO_SEALS, PLACES, SPARE, WIDTH, Segment, SegmentSeal, segment_name
from mvmnix.audit.tail import PENDING, VERIFIER_KEY, read_head
from mvmnix.audit.verify import verify_log
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, UnreadableError, UsageError
from tests.descriptors import open_below
from tests.support.refusals import refusal_codes
from tests.unit.audit.killed import restore, snapshot
from tests.unit.audit.world import NOON, World, content, new_signer, record

FIRST = segment_name(0)
HEADER = b'{"first":0,"hashes":[],"version":2}\n'


def test_an_entry_says_where_the_record_is(world: World) -> None:
    assert world.log.check() is None
    tree = CompactRange()
    for number in range(5):
        entry = world.log.append(record(number))
        assert entry.index == number
        assert entry.checkpoint.size == number + 1
        assert Checkpoint.verified(entry.checkpoint.note, world.key) == entry.checkpoint
        assert world.log.check() == entry.checkpoint
        tree = tree.extend([record(number).line])
        assert entry.checkpoint.root.raw == tree.root()


def test_files_are_what_the_documentation_shows(world: World) -> None:
    world.fill(2)
    header, even, odd, *lines = content(world.path / FIRST).decode().splitlines()
    assert header == '{"first":0,"hashes":[],"version":2}'
    assert re.fullmatch(r'\{"seal":"[A-Za-z0-9+/]{91}=","size":"0000000000000002"\}', even)
    assert odd == " " * len(even)
    assert [json.loads(line)["machine"] for line in lines] == ["m0", "m1"]
    assert {file.stat().st_mode & 0o777 for file in world.path.iterdir()} == {0o600}


@pytest.mark.usefixtures("volatile")
def test_a_full_segment_is_followed_by_another(world: World) -> None:
    world.fill(2 * CAPACITY + 3)
    assert sorted(file.name for file in world.path.glob("*.jsonl")) == [
        "0000000000000000.jsonl",
        "0000000000000128.jsonl",
        "0000000000000256.jsonl",
    ]
    header = json.loads((world.path / segment_name(2 * CAPACITY)).read_bytes().splitlines()[0])
    assert (header["first"], len(header["hashes"])) == (2 * CAPACITY, 1)
    assert verify_log(world.directory, world.key).checkpoint.size == 2 * CAPACITY + 3


@pytest.mark.usefixtures("volatile")
def test_a_start_does_not_read_old_segments(world: World) -> None:
    world.fill(CAPACITY + 2)
    (world.path / FIRST).write_bytes(b"")
    AuditLog(world.directory, world.signer).append(record(0))
    with pytest.raises(RefusedError):
        verify_log(world.directory, world.key)


@pytest.mark.usefixtures("volatile")
def test_records_are_read_from_the_end(world: World) -> None:
    total = 2 * CAPACITY + 3
    world.fill(total)
    for last in (0, 1, 3, 4, CAPACITY + 3, CAPACITY + 4, total, total + 10):
        found = list(last_records(world.directory, world.key, last=last))
        assert [item.index for item in found] == list(range(max(0, total - last), total))
        assert all(item.record == record(item.index) for item in found)


@pytest.mark.usefixtures("volatile")
def test_records_are_found_by_a_text_of_theirs(world: World) -> None:
    """Those of one second and later, in whole segments: the others are neither read nor hashed."""
    total = 2 * CAPACITY + 3
    world.fill(total)

    def found(text: str, since: int | None = None) -> list[int]:
        moment = None if since is None else NOON + timedelta(seconds=since)
        return [it.index for it in matching_records(world.directory, world.key, text.encode(), since=moment)]

    assert found('"kind":"start"') == list(range(total))[::-1]
    assert found('"machine":"m5"') == [5]
    assert found('"machine":"m5"', CAPACITY) == [5], "its segment is looked through to the end"
    assert found('"machine":"m5"', CAPACITY + 1) == [5], "the segment behind it has a record of then"
    assert found('"machine":"m5"', 2 * CAPACITY - 1) == [5], "so has the last record of the full segment behind it"
    assert found('"machine":"m5"', 2 * CAPACITY) == [], "none of the records of the full segment behind it is of then"
    assert found('"machine":"m5"', 10**6) == [], "one that isn't full never ends the search"
    assert found(f'"machine":"m{CAPACITY + 5}"', 10**6) == [CAPACITY + 5]
    flip(world.path / FIRST, -100)
    assert found('"machine":"m200"', 2 * CAPACITY) == [200]
    with pytest.raises(RefusedError):
        found('"machine":"m200"')


def test_the_latest_serials_are_those_of_the_last_record_that_has_any(world: World) -> None:
    assert world.log.latest_serials() is None
    world.fill(2)
    assert world.log.latest_serials() is None
    for serial in (1, 2):
        world.log.append(replace(record(3), serials=(serial, 0, 5, 9)))
        world.fill(2)
        assert world.log.latest_serials() == (serial, 0, 5, 9)


@pytest.mark.usefixtures("volatile")
def test_the_latest_serials_stand_in_an_older_segment(world: World) -> None:
    world.log.append(replace(record(0), serials=(1, 2, 3, 4)))
    world.fill(CAPACITY + 3)
    assert world.log.latest_serials() == (1, 2, 3, 4)
    flip(world.path / FIRST, -100)
    assert refusal_codes(world.log.latest_serials) == (ReasonCode.LOG_MISMATCH,)


def test_a_log_that_is_gone_is_not_begun_anew_without_a_word(world: World) -> None:
    log = AuditLog(world.directory, world.signer, lambda: "2 receipts")
    for ask in (log.is_begun, log.check, lambda: log.append(record(0)), lambda: log.about("m0")):
        with pytest.raises(RefusedError, match="2 receipts") as caught:
            ask()
        assert caught.value.codes == (ReasonCode.LOG_MISMATCH,)
    for file in world.path.iterdir():
        file.unlink()
    with pytest.raises(RefusedError):
        AuditLog(world.directory, world.signer, lambda: "2 receipts").append(record(0))
    assert list(world.path.iterdir()) == [], "nothing is left of it, and no lock"
    log.append(Record(kind=RecordKind.NEW_LOG, time=NOON, digests={"was": Digest.of(b"")}))
    assert log.append(record(1)).index == 1
    for writer in (log, AuditLog(world.directory, world.signer)):
        with pytest.raises(UsageError, match="there is a log in"):
            writer.append(Record(kind=RecordKind.NEW_LOG, time=NOON, digests={"was": Digest.of(b"")}))


def test_what_the_log_has_of_a_machine(world: World) -> None:
    assert world.log.about("m1") == ()
    world.fill(3)
    end = replace(record(1), kind=RecordKind.END)
    world.log.append(end)
    assert world.log.about("m1") == (end, record(1))
    assert world.log.about("m7") == ()


def test_a_record_that_is_too_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.audit.log.MAX_LINE", len(record(0).line) + 1)
    world.log.append(record(0))
    with pytest.raises(ValueError, match="is too long"):
        world.log.append(record(10))


def test_a_key_that_is_gone_is_written_again(world: World) -> None:
    world.fill(1)
    (world.path / VERIFIER_KEY).unlink()
    AuditLog(world.directory, world.signer).append(record(1))
    assert (world.path / VERIFIER_KEY).read_text() == f"{world.key}\n"


def test_a_tree_that_never_was(world: World) -> None:
    world.fill(2)
    head = read_head(world.directory, world.key)
    assert tree_at(world.directory, head, 1).size == 1
    for size in (-1, 3):
        with pytest.raises(ValueError, match=f"has no state of {size}"):
            tree_at(world.directory, head, size)


@pytest.mark.usefixtures("volatile")
def test_nothing_is_left_open(world: World) -> None:
    """By this writer, another one that goes on, and one that takes up after a killed one."""
    world.fill(2)
    before = open_below(world.path)
    other = AuditLog(world.directory, world.signer)
    for number in range(CAPACITY):
        (world.log, other)[number % 2].append(record(number))
    with (world.path / segment_name(CAPACITY)).open("r+b") as file:
        file.seek(len(content(world.path / segment_name(CAPACITY))))
        file.write(b"killed")
    other.append(record(0))
    assert open_below(world.path) == before


def test_no_key_is_published_before_the_first_record(world: World) -> None:
    """Where it is without a log there had been one."""

    def sign(_: bytes) -> bytes:
        raise OSError(5, "Input/output error")

    with pytest.raises(MvmnixError, match="cannot be written"):
        AuditLog(world.directory, replace(world.signer, sign=sign)).append(record(0))
    assert not (world.path / VERIFIER_KEY).exists()
    assert not world.log.is_begun()


def test_nothing_but_the_log_writes_recoveries(world: World) -> None:
    with pytest.raises(ValueError, match="only the log itself"):
        world.log.append(Record(kind=RecordKind.RECOVERY, time=NOON, digests={"tail": Digest("a" * 64)}))


# -- more than one writer, and room ahead


@pytest.mark.usefixtures("volatile")
def test_room_is_made_ahead(world: World) -> None:
    """So that most records change no file's size, which would be one more thing to make durable."""
    sizes = set()
    for number in range(CAPACITY):
        world.log.append(record(number))
        sizes.add((world.path / FIRST).stat().st_size)
    assert len(sizes) < 4
    assert verify_log(world.directory, world.key).tail == 0
    for more in (1, 2):
        world.log.append(record(0))
        full = Segment.parse(FIRST, (world.path / FIRST).read_bytes())
        assert (full == full.closed) == (more == 2)


@pytest.mark.parametrize("missing", [0, 1])
def test_room_ahead_is_used_to_the_last_byte(world: World, missing: int) -> None:
    world.fill(1)
    size = len(content(world.path / FIRST)) + len(record(1).line) + 1
    os.truncate(world.path / FIRST, size - missing)
    AuditLog(world.directory, world.signer).append(record(1))
    assert (world.path / FIRST).stat().st_size == size + (SPARE if missing else 0)


@pytest.mark.usefixtures("volatile")
def test_bytes_that_somebody_put_into_the_room_ahead(world: World) -> None:
    """The process that wrote last notices them like any other: they become a tail."""
    world.fill(2)
    data = bytearray((world.path / FIRST).read_bytes())
    data[len(content(world.path / FIRST)) + 5] = ord("x")
    (world.path / FIRST).write_bytes(data)
    assert verify_log(world.directory, world.key).tail == 6
    world.log.append(record(2))
    assert world.kinds == [RecordKind.START, RecordKind.START, RecordKind.RECOVERY, RecordKind.START]
    assert verify_log(world.directory, world.key).tail == 0


@pytest.mark.usefixtures("volatile")
def test_two_writers_in_turns(world: World) -> None:
    """Each notices that the other was there, also where one has begun another segment."""
    other = AuditLog(world.directory, world.signer)
    for number in range(2 * CAPACITY + 3):
        log = (world.log, other)[number // 3 % 2]
        assert log.append(record(number)).index == number
    evidence = verify_log(world.directory, world.key)
    assert (evidence.checkpoint.size, evidence.tail) == (2 * CAPACITY + 3, 0)


@pytest.mark.usefixtures("volatile")
@pytest.mark.parametrize("whole", [1, CAPACITY - 2])
@pytest.mark.parametrize("length", [1, WIDTH // 2, WIDTH - 1])
def test_another_writer_was_killed_at_its_seal(world: World, whole: int, length: int) -> None:
    """By the one that remembers where the log had ended before the other came."""
    world.fill(whole)
    AuditLog(world.directory, world.signer).append(record(whole))
    data = bytearray((world.path / FIRST).read_bytes())
    place = Segment.parse(FIRST, bytes(data)).start + (whole + 2) % PLACES * WIDTH
    data[place : place + length] = b'{"seal":"AAAA'.ljust(WIDTH, b"A")[:length]
    (world.path / FIRST).write_bytes(data)
    world.log.append(record(whole + 1))
    assert world.kinds[whole:] == [RecordKind.START, RecordKind.RECOVERY, RecordKind.START]
    assert verify_log(world.directory, world.key).tail == 0


@pytest.mark.usefixtures("volatile")
@pytest.mark.parametrize("size", [2, CAPACITY])
@pytest.mark.parametrize("kept", [0, 1, 20, SPARE])
def test_room_ahead_that_is_cut_is_no_loss(world: World, size: int, kept: int) -> None:
    """Blanks at the end say nothing: a log verifies without them, and both writers, old and new, go on."""
    world.fill(size)
    whole = (world.path / FIRST).read_bytes()
    cut = content(world.path / FIRST).ljust(min(len(whole) - 1, len(content(world.path / FIRST)) + kept))
    for log in (world.log, AuditLog(world.directory, world.signer)):
        (world.path / FIRST).write_bytes(cut)
        evidence = verify_log(world.directory, world.key)
        assert (evidence.checkpoint.size, evidence.tail) == (size, 0)
        assert log.append(record(size)).index == size
        assert verify_log(world.directory, world.key).checkpoint.size == size + 1
        for file in world.path.glob("*.jsonl"):
            file.unlink()
        (world.path / FIRST).write_bytes(whole)


MEANWHILE: dict[str, Callable[[World], object]] = {
    "cut": lambda world: cut(world.path / FIRST, 5),
    "gone": lambda world: (world.path / FIRST).unlink(),
    "another segment follows": lambda world: shutil.copy(world.path / FIRST, world.path / segment_name(CAPACITY)),
    "a seal of another key": lambda world: resealed(world, seal(5, new_signer(2))),
}


@pytest.mark.parametrize("name", MEANWHILE)
def test_what_was_changed_since_this_writer_wrote_is_refused(world: World, name: str) -> None:
    world.fill(5)
    MEANWHILE[name](world)
    before = snapshot(world.path)
    assert refusal_codes(world.log.append, record(5)) == (ReasonCode.LOG_MISMATCH,)
    assert snapshot(world.path) == before


def test_somebody_who_writes_without_the_lock(world: World) -> None:
    """Between reading the end and writing to it: nothing is written, and it is said."""
    world.fill(2)

    def sign(data: bytes) -> bytes:
        with (world.path / FIRST).open("ab") as file:
            file.write(b" ")
        return world.signer.sign(data)

    before = content(world.path / FIRST)
    with pytest.raises(MvmnixError, match=r"cannot be written: another process wrote to it"):
        AuditLog(world.directory, replace(world.signer, sign=sign)).append(record(2))
    assert content(world.path / FIRST) == before
    assert AuditLog(world.directory, world.signer).append(record(2)).index == 2


def test_threads_of_one_process(world: World) -> None:
    threads = [threading.Thread(target=world.fill, args=(10,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify_log(world.directory, world.key).checkpoint.size == 40


# -- refusals: nothing is appended, nothing is changed


def cut(path: Path, count: int) -> None:
    path.write_bytes(content(path)[:-count])


def flip(path: Path, position: int) -> None:
    data = bytearray(content(path))
    data[position] ^= 1
    path.write_bytes(data)


def resealed(world: World, *seals: SegmentSeal) -> None:
    """Put other seals at their places."""
    segment = Segment.parse(FIRST, (world.path / FIRST).read_bytes())
    places = list(NO_SEALS)
    for seal in seals:
        places[seal.place] = seal.line
    (world.path / FIRST).write_bytes(replace(segment, places=(places[0], places[1])).data)


def seal(size: int, signer: Signer) -> SegmentSeal:
    tree = CompactRange().extend(record(number).line for number in range(size))
    return SegmentSeal.of(Checkpoint.sign(size, tree.root(), signer))


def at_the_wrong_place(world: World) -> None:
    segment = Segment.parse(FIRST, (world.path / FIRST).read_bytes())
    (world.path / FIRST).write_bytes(replace(segment, places=segment.places[::-1]).data)


REFUSED: dict[str, Callable[[World], object]] = {
    "no seal": resealed,
    "a seal of another key": lambda world: resealed(world, seal(5, new_signer(2))),
    "a seal of three records": lambda world: resealed(world, seal(3, world.signer)),
    "an older seal beside a foreign one": lambda world: resealed(world, seal(2, world.signer), seal(5, new_signer(2))),
    "a seal at the wrong place": at_the_wrong_place,
    "a flipped byte of the seal": lambda world: flip(world.path / FIRST, len(HEADER) + WIDTH + 20),
    "a seal of other records": lambda world: resealed(
        world, replace(seal(5, world.signer), signature=seal(4, world.signer).signature)
    ),
    "no segment": lambda world: (world.path / FIRST).unlink(),
    "an empty segment": lambda world: (world.path / FIRST).write_bytes(b""),
    "a flipped byte of the header": lambda world: flip(world.path / FIRST, 10),
    "a flipped byte of a record": lambda world: flip(world.path / FIRST, len(HEADER) + 2 * WIDTH + 100),
    "a cut head": lambda world: os.truncate(world.path / FIRST, len(HEADER) + WIDTH),
    "a flipped last newline": lambda world: flip(world.path / FIRST, -1),
    "a dropped last record": lambda world: cut(world.path / FIRST, len(record(4).line) + 1),
    "a torn last record": lambda world: cut(world.path / FIRST, 5),
    "two records planted": lambda world: (world.path / FIRST).write_bytes(
        content(world.path / FIRST) + 2 * (record(9).line + b"\n")
    ),
    "a record and an empty line planted": lambda world: (world.path / FIRST).write_bytes(
        content(world.path / FIRST) + record(9).line + b"\n\n"
    ),
    "a segment from the future": lambda world: (world.path / FIRST).rename(world.path / segment_name(7)),
    "a segment that follows too early": lambda world: shutil.copy(
        world.path / FIRST, world.path / segment_name(CAPACITY)
    ),
    "a segment by a wrong name": lambda world: (world.path / FIRST).rename(world.path / segment_name(2)),
    "a segment beyond all bounds": lambda world: os.truncate(world.path / FIRST, 10**8),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_log_that_does_not_verify_is_not_appended_to(world: World, name: str) -> None:
    world.fill(5)
    REFUSED[name](world)
    before = snapshot(world.path)
    for action in (
        lambda: AuditLog(world.directory, world.signer).append(record(5)),
        world.log.check,
        lambda: list(last_records(world.directory, world.key, last=9)),
    ):
        assert refusal_codes(action) == (ReasonCode.LOG_MISMATCH,)
    assert snapshot(world.path) == before


FOREIGN_SEAL = "it is sealed by another host key: by a key with the ID"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a seal of another key", f"{FOREIGN_SEAL} 8f07684b, and the key here is {new_signer().key.name}"),
        ("a dropped last record", "a seal knows 5 records, but only 4 are there"),
        ("no segment", f"{FIRST} is missing"),
    ],
)
def test_why_a_log_is_refused(world: World, name: str, why: str) -> None:
    world.fill(5)
    REFUSED[name](world)
    with pytest.raises(RefusedError) as caught:
        world.log.check()
    assert caught.value.reasons[0].why == why


def test_how_much_of_an_unfinished_recovery_is_read(world: World) -> None:
    """Two segments: what it kept, and what a writer that was killed after it left."""
    kept = b"x" * 2_195_976
    (world.path / PENDING).write_bytes(kept + b"x")
    with pytest.raises(UnreadableError, match="is larger than"):
        world.log.append(record(0))
    (world.path / PENDING).write_bytes(kept)
    world.log.append(record(0))
    assert (world.path / f"tail-{Digest.of(kept).hex}").read_bytes() == kept
    assert world.kinds == [RecordKind.RECOVERY, RecordKind.START]


FULL: dict[str, Callable[[bytes], bytes]] = {
    "a changed record": lambda data: data[:-100] + bytes([data[-100] ^ 1]) + data[-99:],
    "a changed header": lambda data: data.replace(b'"first":0', b'"first":1', 1),
    "a record less": lambda data: data[: data[:-1].rindex(b"\n") + 1],
    "a record more": lambda data: data + record(9).line + b"\n",
    "two records exchanged": lambda data: b"\n".join([*(lines := data.split(b"\n"))[:-3], lines[-2], lines[-3], b""]),
    "a torn line": lambda data: data + b"x",
}


@pytest.mark.usefixtures("volatile")
@pytest.mark.parametrize("other", [False, True], ids=["the same writer", "another writer"])
@pytest.mark.parametrize("name", FULL)
def test_a_full_segment_that_was_changed_before_it_is_closed_is_refused(
    world: World, name: str, *, other: bool
) -> None:
    """With the second record of the next segment its seal comes off: what it sealed is compared before that."""
    world.fill(CAPACITY + 1)
    (world.path / FIRST).write_bytes(FULL[name](content(world.path / FIRST)))
    before = snapshot(world.path)
    log = AuditLog(world.directory, world.signer) if other else world.log
    for _ in range(2):
        assert refusal_codes(log.append, record(0)) == (ReasonCode.LOG_MISMATCH,)
    assert snapshot(world.path) == before


def test_another_key_is_refused(world: World) -> None:
    world.fill(1)
    assert refusal_codes(AuditLog(world.directory, new_signer(2)).append, record(1)) == (ReasonCode.LOG_MISMATCH,)


@pytest.mark.usefixtures("volatile")
def test_a_segment_that_another_writer_began_is_kept(world: World) -> None:
    """The one that remembers a full segment looks for the next one before it writes it."""
    world.fill(CAPACITY)
    AuditLog(world.directory, world.signer).append(record(1000))
    assert world.log.append(record(1001)).index == CAPACITY + 1
    assert verify_log(world.directory, world.key).checkpoint.size == CAPACITY + 2
    last = [listed.record for listed in last_records(world.directory, world.key, last=2)]
    assert last == [record(1000), record(1001)]


def test_a_link_in_place_of_a_file_is_refused(world: World, tmp_path: Path) -> None:
    world.fill(1)
    (world.path / FIRST).rename(tmp_path / "elsewhere")
    (world.path / FIRST).symlink_to(tmp_path / "elsewhere")
    assert refusal_codes(world.log.append, record(1)) == (ReasonCode.STATE_PERMISSIONS,)


@pytest.mark.usefixtures("volatile")
@pytest.mark.parametrize(
    ("size", "call"), [(2, "pwrite"), (2, "fdatasync"), (CAPACITY, "rename"), (CAPACITY, "fsync"), (0, "rename")]
)
def test_a_disk_that_fails_fails_the_append(
    world: World, monkeypatch: pytest.MonkeyPatch, size: int, call: str
) -> None:
    world.fill(size)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(MvmnixError, match=r"cannot be written.*nothing starts"):
            world.log.append(record(99))
    world.log.append(record(3))
    assert verify_log(world.directory, world.key).tail == 0
    kept = [listed.record for listed in last_records(world.directory, world.key, last=10**6) if listed.index >= size]
    assert kept[-1] == record(3)
    # what reached the disk before it failed is not vouched for, unless it was there with its seal at once
    assert record(99) not in kept or call == "fsync"


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file of this process may be larger: the kernel writes what fits, then fails (setrlimit(2), EFBIG)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("volatile")
def test_a_disk_that_is_full_at_any_byte(world: World) -> None:
    """Nothing starts, nothing that was sealed is lost, and the log goes on once there is room."""
    world.fill(2)
    start = snapshot(world.path)
    whole = len(content(world.path / FIRST))
    for size in range(0, whole + len(record(2).line) + 1, 11):
        restore(world.path, start)
        log = AuditLog(world.directory, world.signer)
        with room_for(size), pytest.raises(MvmnixError, match=r"cannot be written.*nothing starts"):
            log.append(record(2))
        evidence = verify_log(world.directory, world.key)
        assert (evidence.checkpoint.size, evidence.tail) == (2, max(0, size - whole))
        log.append(record(3))
        found = [listed.record for listed in last_records(world.directory, world.key, last=10)]
        assert (found[:2], found[-1]) == ([record(0), record(1)], record(3))
        assert verify_log(world.directory, world.key).tail == 0


def test_a_file_system_that_is_read_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def open_(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, "Read-only file system", path)
        return real(path, flags, mode, dir_fd=dir_fd)

    for size in (0, 2):
        world.fill(size)
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", open_)
            with pytest.raises(MvmnixError, match=r"cannot be written.*Read-only.*nothing starts"):
                world.log.append(record(2))


def test_short_writes_are_continued(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:7], offset))
        world.fill(3)
    assert verify_log(world.directory, world.key).checkpoint.size == 3
