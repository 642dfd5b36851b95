"""The file system that the agent makes for a data disk and a rebuild's scratch space, as e2fsprogs sees it."""

import random
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

GROUP = 1 << 27
STEP = 1 << 24


def formatted(agent: Path, path: Path, groups: int, *, beyond: int = 0) -> Path:
    with path.open("w+b") as file:
        file.truncate(groups * GROUP + beyond)
        subprocess.run([agent, "--format", str(groups * GROUP + beyond)], stdout=file, check=True)
    return path


@pytest.mark.parametrize("groups", [1, 2, 129])
def test_it_is_consistent_and_almost_empty(agent: Path, tmp_path: Path, groups: int) -> None:
    """From the least that is accepted; 129 groups are the first whose descriptors take two blocks."""
    path = formatted(agent, tmp_path / "scratch", groups)
    checked = subprocess.run(["/usr/sbin/e2fsck", "-f", "-n", path], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout.decode()
    assert f": 10/{groups * 16384} files".encode() in checked.stdout
    assert path.stat().st_blocks * 512 < (groups + 4) * 8192 + (1 << 20), (
        "what a machine pays before it writes anything"
    )


@pytest.mark.parametrize(("groups", "beyond"), [(0, STEP), (0, GROUP - STEP), (1, STEP), (128, 3 * STEP)])
def test_its_last_group_may_be_shorter(agent: Path, tmp_path: Path, groups: int, beyond: int) -> None:
    path = formatted(agent, tmp_path / "data", groups, beyond=beyond)
    checked = subprocess.run(["/usr/sbin/e2fsck", "-f", "-n", path], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout.decode()
    assert f"/{path.stat().st_size // 4096} blocks".encode() in checked.stdout


def test_it_says_nothing_of_what_was_there(agent: Path, tmp_path: Path) -> None:
    """A disk that was just encrypted reads as noise: all that counts is written, down to the ends of the blocks."""
    path = tmp_path / "data"
    with path.open("w+b") as file:
        file.write(random.Random(7).randbytes(STEP))
        subprocess.run([agent, "--format", str(STEP)], stdout=file, check=True)
    said = subprocess.run(["/usr/sbin/debugfs", "-R", "ls -l /", path], capture_output=True, check=True).stdout
    assert [line.split()[-1] for line in said.splitlines() if line.strip()] == [b".", b".."]
    shown = subprocess.run(["/usr/sbin/dumpe2fs", path], capture_output=True, check=True).stdout.decode()
    assert re.search(r"^Free inodes: +16374$", shown, re.MULTILINE)
    assert re.search(r"^  Free inodes: 11-16384$", shown, re.MULTILINE)


def test_the_most_that_is_accepted(agent: Path, tmp_path: Path) -> None:
    """A TiB, of which e2fsck would read every inode: superblock, descriptors and bitmaps have to fit instead."""
    path = formatted(agent, tmp_path / "scratch", 8192)
    said = subprocess.run(["/usr/sbin/dumpe2fs", path], capture_output=True, check=True).stdout.decode()
    assert re.search(r"^Block count: +268435456$", said, re.MULTILINE)
    groups = re.findall(r"^Group (\d+): \(Blocks (\d+)-(\d+)\)", said, re.MULTILINE)
    assert [tuple(map(int, group)) for group in groups] == [(n, n << 15, (n + 1 << 15) - 1) for n in range(8192)]
    counted = [int(free) for free in re.findall(r"^  (\d+) free blocks, ", said, re.MULTILINE)]
    mapped = re.findall(r"^  Free blocks: (\d+)-(\d+)$", said, re.MULTILINE)
    assert counted == [int(last) - int(first) + 1 for first, last in mapped], "one run in a bitmap, as long as was said"
    assert re.search(rf"^Free blocks: +{sum(counted)}$", said, re.MULTILINE)
    assert path.stat().st_blocks * 512 < 8196 * 8192 + (1 << 20)


def test_its_directories_are_not_hashed(agent: Path, tmp_path: Path) -> None:
    """Then a name goes behind those that are there already, and what lists them meets the oldest first."""
    shown = subprocess.run(
        ["/usr/sbin/dumpe2fs", "-h", formatted(agent, tmp_path / "scratch", 1)], capture_output=True, check=True
    )
    features = next(line for line in shown.stdout.decode().splitlines() if line.startswith("Filesystem features:"))
    assert not {"dir_index", "has_journal", "metadata_csum"} & set(features.split())
