"""A newcomer's first two commands: a new flake, and its guest, run."""

from pathlib import Path

import pytest

from tests.conftest import World

pytestmark = pytest.mark.vm


def test_what_init_writes_runs_at_once(copied: World, tmp_path: Path) -> None:
    target = tmp_path / "fresh"
    written = copied.home.mvm("init", target)
    assert written.returncode == 0, written.stderr.decode()
    run = copied.home.mvm("run", f"path:{target}")
    assert (run.returncode, run.stdout) == (0, b"Hello from a verified microVM.\n"), run.stderr.decode()
    kept = copied.home.mvm("image", "ls")
    assert any(line.split()[0] == b"fresh" for line in kept.stdout.splitlines()[1:])
    named = copied.home.mvm("run", f"path:{target}", "--", "/bin/busybox", "whoami")
    assert (named.returncode, named.stdout) == (0, b"mvm\n"), named.stderr.decode()
