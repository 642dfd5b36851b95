"""What `setup` and `examples/demo` show of a command that fails: what `.ci/quietly` makes of it."""

import subprocess
from pathlib import Path

import pytest

from tests.repository import ROOT

QUIETLY = ROOT / ".ci/quietly"


def quietly(tmp_path: Path, *argv: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    return subprocess.run([QUIETLY, "the hint", *argv], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    ("script", "status", "cause", "hint"),
    [
        ("seq 999; echo 'E: Unable to locate package x'; seq 999; exit 100", 100, "E: Unable to locate", "the hint"),
        ("echo 'error: /x: No space left on device'; exit 1", 1, "No space left", "make room; `df -h`"),
        ("echo 'E: lock file - open (13: Permission denied)'; exit 100", 100, "Permission denied", "who owns"),
        ("echo Could not resolve x; echo 'ERROR: No matching distribution'; exit 1", 1, "No matching", "reaches that"),
        (
            "echo ' error: subprocess-exited-with-error'; echo ' ERROR: why'; exit 1",
            1,
            "        ERROR: why",
            "the hint",
        ),
        ("kill -9 $$", 137, "it said nothing", "memory runs out"),
        ("exit 127", 127, "it said nothing", "the hint"),
        ("head -c 99999 /dev/zero | tr '\\0' x; exit 1", 1, "xxxx", "the hint"),
        ("head -c 99999 /dev/urandom; exit 1", 1, "", "the hint"),
        ("head -c 99999 /dev/zero; exit 1", 1, "it said nothing", "the hint"),
    ],
)
def test_a_failure_is_short(tmp_path: Path, script: str, status: int, cause: str, hint: str) -> None:
    done = quietly(tmp_path, "sh", "-c", script)
    assert (done.returncode, done.stdout) == (status, "")
    command, told, following, where = done.stderr.splitlines()
    assert command.startswith(f"mvm: command failed with status {status}: sh -c ")
    assert cause in told
    assert following.startswith("  next: ")
    assert hint in following
    assert max(map(len, (command, told, following, where))) < 400
    (log,) = tmp_path.iterdir()
    assert where == f"  log:  {log}"
    assert log.stat().st_mode & 0o777 == 0o600


def test_what_is_missing_is_to_be_installed(tmp_path: Path) -> None:
    done = quietly(tmp_path, "no-such-program", "--option")
    assert done.returncode == 127
    assert "  next: install no-such-program\n" in done.stderr


def test_what_goes_well_says_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    done = quietly(tmp_path, "sh", "-c", "echo much; echo more >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
