"""The file system that the agent makes for a rebuild's scratch space, as e2fsprogs sees it."""

import subprocess
from pathlib import Path

import pytest

from tests.integration.agent_house import build

pytestmark = pytest.mark.integration

GROUP = 1 << 27


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory)


def formatted(agent: Path, path: Path, groups: int) -> Path:
    with path.open("w+b") as file:
        file.truncate(groups * GROUP)
        subprocess.run([agent, "--format", str(groups)], stdout=file, check=True)
    return path


@pytest.mark.parametrize("groups", [1, 2, 129, 8192])
def test_it_is_consistent_and_almost_empty(agent: Path, tmp_path: Path, groups: int) -> None:
    """From the least that is accepted to the most; 129 groups are the first whose descriptors take two blocks."""
    path = formatted(agent, tmp_path / "scratch", groups)
    checked = subprocess.run(["/usr/sbin/e2fsck", "-f", "-n", path], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout.decode()
    assert f": 10/{groups * 16384} files".encode() in checked.stdout
    assert path.stat().st_blocks * 512 < (groups + 4) * 8192 + (1 << 20), (
        "what a machine pays before it writes anything"
    )


def test_its_directories_are_not_hashed(agent: Path, tmp_path: Path) -> None:
    """Then a name goes behind those that are there already, and what lists them meets the oldest first."""
    shown = subprocess.run(
        ["/usr/sbin/dumpe2fs", "-h", formatted(agent, tmp_path / "scratch", 1)], capture_output=True, check=True
    )
    features = next(line for line in shown.stdout.decode().splitlines() if line.startswith("Filesystem features:"))
    assert not {"dir_index", "has_journal", "metadata_csum"} & set(features.split())
