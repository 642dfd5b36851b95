"""Appending: what is written, that a killed writer loses nothing sealed, that many writers agree, when it refuses."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mvmnix.audit.head import CHECKPOINT, LOCK, PENDING
from mvmnix.audit.log import AuditLog
from mvmnix.audit.merkle import CompactRange
from mvmnix.audit.note import Checkpoint
from mvmnix.audit.reading import records
from mvmnix.audit.record import Kind, Record
from mvmnix.audit.segment import CAPACITY, segment_name
from mvmnix.audit.verify import verify_log
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.model import Digest
from tests.unit.audit.world import NOON, World, new_signer, record

FIRST = segment_name(0)


@pytest.fixture
def volatile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes its time for nothing: for tests that append often and cut no power."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _: None)


def kinds(world: World) -> list[Kind]:
    return [listed.record.kind for listed in records(world.directory, world.key, last=10**6)]


def snapshot(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def restore(path: Path, files: dict[str, bytes]) -> None:
    for file in path.iterdir():
        file.unlink()
    for name, data in files.items():
        (path / name).write_bytes(data)


def test_an_entry_says_where_the_record_is(world: World) -> None:
    assert world.log.check() is None
    tree = CompactRange()
    for number in range(5):
        entry = world.log.append(record(number))
        assert entry.index == number
        assert entry.checkpoint.size == number + 1
        assert Checkpoint.verified((world.path / CHECKPOINT).read_bytes(), world.key) == entry.checkpoint
        assert world.log.check() == entry.checkpoint
        tree = tree.extend([record(number).line])
        assert entry.checkpoint.root.raw == tree.root()


def test_files_are_what_the_documentation_shows(world: World) -> None:
    world.fill(2)
    header, *lines = (world.path / FIRST).read_bytes().decode().splitlines()
    assert header == '{"first":0,"hashes":[],"version":1}'
    assert [json.loads(line)["machine"] for line in lines] == ["m0", "m1"]
    assert {file.stat().st_mode & 0o777 for file in world.path.iterdir()} == {0o600}


@pytest.mark.usefixtures("volatile")
def test_a_full_segment_is_followed_by_another(world: World) -> None:
    world.fill(2 * CAPACITY + 3)
    assert sorted(file.name for file in world.path.glob("*.jsonl")) == [
        segment_name(0),
        segment_name(CAPACITY),
        segment_name(2 * CAPACITY),
    ]
    header = json.loads((world.path / segment_name(2 * CAPACITY)).read_bytes().splitlines()[0])
    assert (header["first"], len(header["hashes"])) == (2 * CAPACITY, 1)
    assert verify_log(world.directory, world.key).checkpoint.size == 2 * CAPACITY + 3


@pytest.mark.usefixtures("volatile")
def test_a_start_does_not_read_old_segments(world: World) -> None:
    world.fill(CAPACITY + 1)
    (world.path / FIRST).unlink()
    world.log.append(record(0))
    with pytest.raises(RefusedError):
        verify_log(world.directory, world.key)


@pytest.mark.usefixtures("volatile")
def test_records_are_read_from_the_end(world: World) -> None:
    total = 2 * CAPACITY + 3
    world.fill(total)
    for last in (0, 1, 3, 4, CAPACITY + 3, CAPACITY + 4, total, total + 10):
        found = list(records(world.directory, world.key, last=last))
        assert [item.index for item in found] == list(range(max(0, total - last), total))
        assert all(item.record == record(item.index) for item in found)


def test_nothing_but_the_log_writes_recoveries(world: World) -> None:
    with pytest.raises(ValueError, match="only the log itself"):
        world.log.append(Record(kind=Kind.RECOVERY, time=NOON, digests={"tail": Digest("a" * 64)}))


# -- killed writers


def states_of_an_append(world: World) -> list[dict[str, bytes]]:
    """Every state of the disk that a kill at any byte of an append can leave: each file torn at each length."""
    before = snapshot(world.path)
    world.log.append(record(99))
    after = snapshot(world.path)
    states = []
    now = dict(before)
    for name in sorted(
        name for name in set(after) - set(before) if name != LOCK
    ):  # a new segment appears whole, with its header alone
        torn = after[name].splitlines(keepends=True)[0]
        states += [now | {f".{name}.0.tmp": torn[:length]} for length in range(len(torn) + 1)]
        now |= {name: torn}
        states.append(dict(now))
    segment = next(name for name in sorted(after) if name.endswith(".jsonl") and after[name] != now[name])
    start = len(now[segment])
    states += [now | {segment: after[segment][:length]} for length in range(start, len(after[segment]) + 1)]
    now |= {segment: after[segment]}
    note = after[CHECKPOINT]
    states += [now | {f".{CHECKPOINT}.0.tmp": note[:length]} for length in range(0, len(note) + 1, 20)]
    return states


@pytest.mark.usefixtures("volatile")
@pytest.mark.parametrize("size", [0, 1, 3, CAPACITY - 1, CAPACITY])
def test_killed_at_every_byte_of_an_append(world: World, size: int) -> None:
    world.fill(size)
    if size == 0:
        world.directory.write_atomic(CHECKPOINT, Checkpoint.sign(0, CompactRange().root(), world.signer).note)
    sealed = [record(number).line for number in range(size)]
    # a full segment takes its time, and is torn at the same places as the short ones
    for state in states_of_an_append(world)[:: 1 if size < CAPACITY - 1 else 13]:
        restore(world.path, state)
        evidence = verify_log(world.directory, world.key)
        assert evidence.checkpoint.size == size
        world.log.append(record(100))
        found = [listed.record for listed in records(world.directory, world.key, last=10**6)]
        assert [item.line for item in found[:size]] == sealed
        assert found[-1] == record(100)
        recovered = found[size:-1]
        assert len(recovered) == (1 if evidence.tail else 0)
        if recovered:
            tail = (world.path / f"tail-{recovered[0].digests['tail'].hex}").read_bytes()
            assert len(tail) == evidence.tail
            assert (record(99).line + b"\n").startswith(tail)
        assert verify_log(world.directory, world.key).tail == 0


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, and every write after it is lost."""


@pytest.mark.parametrize("tail", [b"torn", record(50).line + b"\n"])
def test_killed_at_every_step_of_a_recovery(world: World, monkeypatch: pytest.MonkeyPatch, tail: bytes) -> None:
    world.fill(2)
    with (world.path / FIRST).open("ab") as file:
        file.write(tail)
    start = snapshot(world.path)
    step = 0
    while True:
        restore(world.path, start)
        with monkeypatch.context() as patch:
            count = kill_at(patch, step)
            with suppress(Killed):
                world.log.append(record(3))
        finished = count() < step
        assert verify_log(world.directory, world.key).checkpoint.size >= 2
        world.log.append(record(4))
        found = kinds(world)
        assert found[:2] == [Kind.START, Kind.START]
        assert Kind.RECOVERY in found[2:]
        assert found[-1] is Kind.START
        kept = b"".join(file.read_bytes() for file in world.path.iterdir() if file.name.startswith("tail-"))
        assert tail in kept
        assert not (world.path / PENDING).exists()
        if finished:
            break
        step += 1
    assert step > 8


def kill_at(patch: pytest.MonkeyPatch, step: int) -> Callable[[], int]:
    """Raise Killed instead of the system call number `step` of those that change the disk."""
    calls = 0

    def counted[**P, R](real: Callable[P, R]) -> Callable[P, R]:
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            nonlocal calls
            if calls == step:
                raise Killed
            calls += 1
            return real(*args, **kwargs)

        return call

    for name in ("rename", "pwrite", "ftruncate", "fdatasync", "fsync"):
        patch.setattr(os, name, counted(getattr(os, name)))
    return lambda: calls


WRITER = """
import sys
sys.path.insert(0, sys.argv[3])
from mvmnix.audit.log import AuditLog
from mvmnix.state import Directory
from tests.unit.audit.world import new_signer, record
log = AuditLog(Directory.open(sys.argv[1]), new_signer())
for number in range(int(sys.argv[2])):
    print(log.append(record(number)).index, flush=True)
"""
ROOT = str(Path(__file__).parents[3])


def writer(world: World, count: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", WRITER, str(world.path), str(count), ROOT]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def test_eight_processes_at_once(world: World) -> None:
    processes = [writer(world, 20) for _ in range(8)]
    outputs = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    assert sorted(int(index) for output in outputs for index in output) == list(range(160))
    evidence = verify_log(world.directory, world.key)
    assert (evidence.checkpoint.size, evidence.tail) == (160, 0)
    machines = Counter(listed.record.machine for listed in records(world.directory, world.key, last=160))
    assert machines == {f"m{number}": 8 for number in range(20)}


def test_kill_9_loses_no_sealed_record(world: World) -> None:
    sealed: list[int] = []
    for _ in range(6):
        with writer(world, 10**6) as process:
            assert process.stdout is not None
            sealed += [int(process.stdout.readline()) for _ in range(7)]
            process.send_signal(signal.SIGKILL)
            sealed += [int(line) for line in process.stdout.read().split()]
    evidence = verify_log(world.directory, world.key)
    assert evidence.checkpoint.size > max(sealed)
    found = {listed.index: listed.record.kind for listed in records(world.directory, world.key, last=10**6)}
    assert all(found[index] is Kind.START for index in sealed)


def test_threads_of_one_process(world: World) -> None:
    threads = [threading.Thread(target=world.fill, args=(10,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify_log(world.directory, world.key).checkpoint.size == 40


# -- refusals: nothing is appended, nothing is changed


def cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def older_checkpoint(world: World, size: int) -> None:
    tree = CompactRange().extend(record(number).line for number in range(size))
    world.directory.write_atomic(CHECKPOINT, Checkpoint.sign(size, tree.root(), world.signer).note)


def foreign_checkpoint(world: World) -> None:
    tree = CompactRange().extend(record(number).line for number in range(5))
    world.directory.write_atomic(CHECKPOINT, Checkpoint.sign(5, tree.root(), new_signer(2)).note)


REFUSED: dict[str, Callable[[World], object]] = {
    "no checkpoint": lambda world: (world.path / CHECKPOINT).unlink(),
    "an empty checkpoint": lambda world: (world.path / CHECKPOINT).write_bytes(b""),
    "a huge checkpoint": lambda world: (world.path / CHECKPOINT).write_bytes(bytes(10**6)),
    "a checkpoint of another key": foreign_checkpoint,
    "an older checkpoint": lambda world: older_checkpoint(world, 3),
    "a checkpoint of nothing": lambda world: older_checkpoint(world, 0),
    "a doubled signature": lambda world: (world.path / CHECKPOINT).write_bytes(
        (note := (world.path / CHECKPOINT).read_bytes()) + note.splitlines(keepends=True)[-1]
    ),
    "a signature of somebody else beside ours": lambda world: (world.path / CHECKPOINT).write_bytes(
        (world.path / CHECKPOINT).read_bytes() + new_signer(2).note(b"x\n").split(b"\n\n")[1]
    ),
    "no segment": lambda world: (world.path / FIRST).unlink(),
    "an empty segment": lambda world: (world.path / FIRST).write_bytes(b""),
    "a flipped byte of the header": lambda world: flip(world.path / FIRST, 10),
    "a flipped byte of a record": lambda world: flip(world.path / FIRST, 100),
    "a flipped last newline": lambda world: flip(world.path / FIRST, -1),
    "a dropped last record": lambda world: cut(world.path / FIRST, len(record(4).line) + 1),
    "a torn last record": lambda world: cut(world.path / FIRST, 5),
    "two records planted": lambda world: (world.path / FIRST).write_bytes(
        (world.path / FIRST).read_bytes() + 2 * (record(9).line + b"\n")
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
        lambda: world.log.append(record(5)),
        world.log.check,
        lambda: list(records(world.directory, world.key, last=9)),
    ):
        with pytest.raises(RefusedError) as caught:
            action()
        assert caught.value.codes == (ReasonCode.LOG_MISMATCH,)
    assert snapshot(world.path) == before


def test_another_key_is_refused(world: World) -> None:
    world.fill(1)
    with pytest.raises(RefusedError) as caught:
        AuditLog(world.directory, new_signer(2)).append(record(1))
    assert caught.value.codes == (ReasonCode.LOG_MISMATCH,)


def test_a_link_in_place_of_a_file_is_refused(world: World, tmp_path: Path) -> None:
    world.fill(1)
    (world.path / FIRST).rename(tmp_path / "elsewhere")
    (world.path / FIRST).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedError) as caught:
        world.log.append(record(1))
    assert caught.value.codes == (ReasonCode.STATE_PERMISSIONS,)


@pytest.mark.parametrize("call", ["pwrite", "fdatasync", "rename"])
def test_a_disk_that_fails_fails_the_append(world: World, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    world.fill(2)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(MvmnixError, match=r"cannot be written.*nothing starts"):
            world.log.append(record(2))
    world.log.append(record(3))
    assert verify_log(world.directory, world.key).tail == 0


def test_short_writes_are_continued(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:7], offset))
        world.fill(3)
    assert verify_log(world.directory, world.key).checkpoint.size == 3
