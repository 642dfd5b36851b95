"""The end of a log: where it is looked for, how much of it is read, and under which lock."""

import os
from contextlib import nullcontext

import pytest

from mvmnix.audit.segment import CAPACITY, segment_name
from mvmnix.audit.tail import LOCK, hold_writers, read_head
from mvmnix.errors import RefusedError
from mvmnix.system.private_dirs import Directory
from tests.unit.audit.world import World, content, record

FIRST = segment_name(0)


@pytest.mark.parametrize("count", range(1, 10))
def test_the_last_segment_is_found_by_few_names(world: World, count: int) -> None:
    for index in range(count):
        (world.path / segment_name(index * CAPACITY)).touch()
    with pytest.raises(RefusedError, match=f"{segment_name((count - 1) * CAPACITY)} does not parse"):
        read_head(world.directory, world.key)


def test_how_large_a_segment_may_be(world: World) -> None:
    """A header of 8 KiB, two seals of 130 bytes, 129 records of 8 KiB, of which one is torn, and 32 KiB of spaces."""
    checkpoint = world.log.append(record(0)).checkpoint
    (world.path / FIRST).write_bytes(content(world.path / FIRST).ljust(1_097_988))
    assert world.log.check() == checkpoint
    with (world.path / FIRST).open("ab") as file:
        file.write(b" ")
    with pytest.raises(RefusedError, match="is larger than"):
        world.log.check()


@pytest.mark.parametrize(
    ("is_ours", "has_lock", "is_locked"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_reader_keeps_writers_out_where_it_may_write(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_ours: bool, has_lock: bool, is_locked: bool
) -> None:
    """An exported copy, or one on a disk that is read only, has no writer, and gets no lock."""
    if has_lock:
        (world.path / LOCK).touch()
    locked = list[str]()

    def lock(_: Directory, name: str) -> nullcontext[None]:
        locked.append(name)
        return nullcontext()

    monkeypatch.setattr(Directory, "lock", lock)
    monkeypatch.setattr(os, "access", lambda *_, **__: is_ours)
    with hold_writers(world.directory):
        assert locked == [LOCK] * is_locked
