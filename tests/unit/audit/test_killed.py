"""Killed writers: wherever one stops, nothing sealed is lost, and the next one takes up from there."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from mvmnix.audit.log import AuditLog
from mvmnix.audit.record import RecordKind
from mvmnix.audit.segment import CAPACITY, PLACES, Segment, segment_name
from mvmnix.audit.tail import PENDING
from mvmnix.audit.verify import verify_log
from tests.unit.audit.killed import restore, snapshot, states_of_an_append, survives
from tests.unit.audit.world import World, content, record

FIRST = segment_name(0)


@pytest.mark.usefixtures("volatile")
@pytest.mark.parametrize("size", [0, 1, 2, 3, CAPACITY - 1, CAPACITY, CAPACITY + 1])
def test_killed_at_many_bytes_of_an_append(world: World, size: int) -> None:
    """Each boundary and what is beside it, and bytes in between; tests/integration/test_log.py takes every byte."""
    world.fill(size)
    states = states_of_an_append(world)
    survives(world, size, [*states[:3], *states[3 : -9 : 97 if size > 9 else 29], *states[-9:]])


@pytest.mark.parametrize("size", [1, 2, CAPACITY - 1, CAPACITY])
@pytest.mark.usefixtures("volatile")
def test_two_seals_are_what_an_interrupted_writer_leaves(world: World, size: int) -> None:
    """The blanking of the seal before is not waited for: after a power cut it may be there again, in whole or torn."""
    world.fill(size)
    name = max(file.name for file in world.path.glob("*.jsonl"))
    before = Segment.parse(name, (world.path / name).read_bytes())
    world.fill(1)
    if size == CAPACITY:
        (world.path / name).write_bytes(before.data)  # the segment that was full had not been closed
    else:
        place = size % PLACES
        grown = Segment.parse(name, (world.path / name).read_bytes())
        places = (before.places[0], grown.places[1]) if place == 0 else (grown.places[0], before.places[1])
        (world.path / name).write_bytes(replace(grown, places=places).data)
    evidence = verify_log(world.directory, world.key)
    assert (evidence.checkpoint.size, evidence.tail) == (size + 1, 0)
    for more in (2, 3):
        AuditLog(world.directory, world.signer).append(record(5))
        evidence = verify_log(world.directory, world.key)
        assert (evidence.checkpoint.size, evidence.tail) == (size + more, 0)
    parsed = Segment.parse(name, (world.path / name).read_bytes())
    assert len(parsed.seals) == (0 if size >= CAPACITY - 1 else 1)


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, and every write after it is lost."""


@pytest.mark.parametrize("tail", [b"torn", record(50).line + b"\n"])
def test_killed_at_every_step_of_a_recovery(world: World, monkeypatch: pytest.MonkeyPatch, tail: bytes) -> None:
    world.fill(2)
    (world.path / FIRST).write_bytes(content(world.path / FIRST) + tail)
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
        found = world.kinds
        assert found[:2] == [RecordKind.START, RecordKind.START]
        assert RecordKind.RECOVERY in found[2:]
        assert found[-1] is RecordKind.START
        kept = b"".join(file.read_bytes() for file in world.path.iterdir() if file.name.startswith("tail-"))
        assert kept.count(tail) == 1
        assert not (world.path / PENDING).exists()
        if finished:
            break
        step += 1
    assert step > 6


def test_a_recovery_is_on_the_disk_before_its_record(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was cut off may not come back behind the record that says so."""
    world.fill(2)
    with (world.path / FIRST).open("r+b") as file:
        file.seek(len(content(world.path / FIRST)))
        file.write(b"torn")
    calls: list[str] = []

    def noted[**P, R](name: str, real: Callable[P, R]) -> Callable[P, R]:
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            calls.append(name)
            return real(*args, **kwargs)

        return call

    for name in ("ftruncate", "pwrite", "fdatasync"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    AuditLog(world.directory, world.signer).append(record(3))
    cut = calls.index("ftruncate")
    assert calls[cut : cut + 3] == ["ftruncate", "pwrite", "fdatasync"]
    assert "pwrite" in calls[cut + 3 :]
    assert world.kinds[-2:] == [RecordKind.RECOVERY, RecordKind.START]


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
