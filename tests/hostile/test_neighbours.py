"""Hypervisors that take all the processor time that they get, and a neighbour that has its part all the same."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.system.control_groups import ControlGroups, Controller
from tests.hostile.stand_in import Taken, compiled, jail, taken_over
from tests.patience import until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root("a plain user has control groups where they were delegated"),
]
#: Seconds of processor time after which shares are compared.
ENOUGH = 1.0


@pytest.fixture(scope="module")
def program() -> Iterator[str]:
    with compiled() as made:
        yield made


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "disk").write_bytes(b"the image")
    return tmp_path / "disk"


def used(taken: Taken) -> float:
    return taken.guest.process.cpu_seconds()


def pinned(taken: Taken, processor: int) -> None:
    """All of its threads on one processor."""
    taken.wait_for("spin")
    for thread in Path(f"/proc/{taken.guest.process.pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {processor})


def until_used(*all_of_them: Taken) -> None:
    """Wait until they have used enough in all."""
    before = sum(map(used, all_of_them))
    until(lambda: sum(map(used, all_of_them)) - before >= ENOUGH)


def throttled(taken: Taken) -> int:
    """How often the kernel made it wait (cpu.stat of its group, both versions of the hierarchy)."""
    text = Path(f"/proc/{taken.guest.process.pid}/cgroup").read_text()
    rows = [line.split(":", 2) for line in text.splitlines()]  # number, controllers, path: cgroups(7)
    of_cpu = {path.rpartition("/")[2] for _, found, path in rows if {"cpu", ""} & set(found.split(","))}
    (name,) = of_cpu - {""}
    (parent,) = (parent for parent in ControlGroups.find().parents if Controller.CPU in parent.controllers)
    counts = Path(parent.path, name, "cpu.stat").read_text().splitlines()
    return int(dict(row.split() for row in counts)["nr_throttled"])


def test_it_gets_no_more_than_the_plan_says(program: str, disk: Path, tmp_path: Path) -> None:
    with jail(tmp_path) as it, taken_over(program, it, disk, "spin=4", "hold", percent=20) as taken:
        taken.wait_for("spin")
        began, before = time.monotonic(), used(taken)
        until_used(taken)
        part = (used(taken) - before) / (time.monotonic() - began)
        assert throttled(taken) > 0, "it never wanted more"
    assert part < 0.2 * 1.25


def test_a_neighbour_has_its_part(program: str, disk: Path) -> None:
    """Both have one processor and nothing else; the one that runs away has four threads, and a tenth of the weight."""
    processor = min(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory(prefix="mvmnix-neighbours-") as where,
        jail(Path(where)) as it,
        taken_over(program, it, disk, "spin=1", "hold", weight=1000) as neighbour,
        taken_over(program, it, disk, "spin=4", "hold", weight=100) as runaway,
    ):
        pinned(neighbour, processor)
        pinned(runaway, processor)
        theirs, ours = used(runaway), used(neighbour)
        until_used(neighbour, runaway)
        theirs, ours = used(runaway) - theirs, used(neighbour) - ours
    assert ours / theirs > 4
