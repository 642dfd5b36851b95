"""One plan for once and many real processes: fifty at a barrier, and one killed wherever it can be killed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENCE
from tests.repository import ROOT

pytestmark = pytest.mark.integration

CROWD = 50


def launches(path: Path, *arguments: str) -> Any:
    argv = [sys.executable, "-m", "tests.integration.launches", str(path), *arguments]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_of_fifty_launches_at_a_barrier_one_starts(tmp_path: Path) -> None:
    """All were verified, and have their directories; the others are refused, say so in the log, and leave nothing."""
    assert launches(tmp_path / "house", "crowd", str(CROWD)) == {
        "started": 1,
        "replay": CROWD - 1,
        "logged": 1,
        "refusals": CROWD - 1,
        "kept": 1,
        "machines": 1,
    }


def test_a_nonce_is_committed_once_without_the_lock_too(tmp_path: Path) -> None:
    told = launches(tmp_path / "house", "link", str(CROWD))
    assert (told["started"], told["replay"], told["kept"]) == (1, CROWD - 1, 1)


def test_killed_at_every_line_it_is_spent_or_not(tmp_path: Path) -> None:
    """Never logged without being spent; and what is unspent can be spent by the next, once."""
    found = launches(tmp_path / "house", "killed")
    assert set(found) == {"unspent", "spent", "spent, logged"}
    assert min(found.values()) > 2


LOOK = """
import sys
from mvmnix.launch.gate.clock import CLOCK, HostClock, Mark
from mvmnix.system.private_dirs import Directory
with Directory.create(sys.argv[1]) as directory:
    HostClock(directory, print).now()
    mark = Mark.parse(directory.read(CLOCK, 4096))
assert mark.least <= mark.at.wall, mark
print(mark.at.epoch)
"""
TEN_DAYS_ON = ("unshare", "--user", "--map-root-user", "--time", "--boottime", "864000", "--fork")


@pytest.mark.root("a plain user makes no time namespace")
def test_a_time_namespace_that_is_ten_days_on_moves_no_mark(tmp_path: Path) -> None:
    """Its CLOCK_BOOTTIME can't be compared with the host's, and isn't."""
    epochs = []
    for prefix in ((), TEN_DAYS_ON, (), TEN_DAYS_ON):
        argv = [*prefix, sys.executable, "-c", LOOK, str(tmp_path / "replay")]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        (epoch,) = done.stdout.decode().splitlines()
        epochs.append(epoch)
    assert epochs[0] == epochs[2]
    assert epochs[0] not in {epochs[1], epochs[3]}
    assert "boottime 864000 0" in epochs[1]
