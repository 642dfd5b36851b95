"""The audit log under writers that are processes of their own: many at once, killed, and cut off at every byte."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.audit.reading import last_records
from mvmnix.audit.record import RecordKind
from mvmnix.audit.segment import CAPACITY
from mvmnix.audit.verify import verify_log
from tests.repository import ROOT
from tests.unit.audit.killed import states_of_an_append, survives
from tests.unit.audit.world import World, new_world

pytestmark = pytest.mark.integration


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with new_world(tmp_path / "audit") as made:
        yield made


@pytest.mark.parametrize("size", [0, 2, CAPACITY])
def test_killed_at_every_byte_of_an_append(world: World, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _: None)
    world.fill(size)
    survives(world, size, states_of_an_append(world)[:: 1 if size < CAPACITY else 11])


WRITER = """
import sys
sys.path.insert(0, sys.argv[3])
from mvmnix.audit.log import AuditLog
from mvmnix.system.private_dirs import Directory
from tests.unit.audit.world import new_signer, record
log = AuditLog(Directory.open(sys.argv[1]), new_signer())
for number in range(int(sys.argv[2])):
    print(log.append(record(number)).index, flush=True)
"""


def writer(world: World, count: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", WRITER, str(world.path), str(count), str(ROOT)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def test_twenty_processes_at_once(world: World) -> None:
    processes = [writer(world, 10) for _ in range(20)]
    outputs = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * 20
    assert sorted(int(index) for output in outputs for index in output) == list(range(200))
    evidence = verify_log(world.directory, world.key)
    assert (evidence.checkpoint.size, evidence.tail) == (200, 0)
    machines = Counter(listed.record.machine for listed in last_records(world.directory, world.key, last=200))
    assert machines == {f"m{number}": 20 for number in range(10)}


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
    found = {listed.index: listed.record.kind for listed in last_records(world.directory, world.key, last=10**6)}
    assert all(found[index] is RecordKind.START for index in sealed)
