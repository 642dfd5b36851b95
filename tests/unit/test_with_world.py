"""The directory that suites share: gone afterwards, whatever lies in it, and the command's status is what is told."""

import subprocess
from pathlib import Path

import pytest

from tests.repository import ROOT

WITH_WORLD = ROOT / ".ci" / "with-world"


@pytest.mark.parametrize("status", [0, 3])
def test_the_directory_is_removed_with_read_only_directories_in_it(tmp_path: Path, status: int) -> None:
    """As a Nix store of the user's own has them: root removes these in any case, a plain user doesn't."""
    command = (
        'cd "$MVMNIX_TEST_WORLD" && pwd && mkdir -p store/path/bin && touch store/path/bin/program'
        f" && chmod -R a-w store && exit {status}"
    )
    done = subprocess.run(
        [WITH_WORLD, "sh", "-c", command],
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout.startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_the_caller_names_stays(tmp_path: Path) -> None:
    named = tmp_path / "named"
    named.mkdir()
    command = 'touch "$MVMNIX_TEST_WORLD/kept"; exit 4'
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "MVMNIX_TEST_WORLD": str(named)}
    assert subprocess.run([WITH_WORLD, "sh", "-c", command], env=environment, check=False).returncode == 4
    assert [path.name for path in tmp_path.rglob("*")] == ["named", "kept"]
