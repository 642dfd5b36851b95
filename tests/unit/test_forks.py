"""A fork that comes out of its test ends there, with or without other processes that run tests."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository import ROOT

ESCAPES = """import os

def test_forks():
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        raise OSError("came out")

def test_has_another_number(monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)

def test_runs_once():
    with open("ran", "a") as ran:
        ran.write("x")
"""


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_a_fork_that_comes_out_of_its_test_runs_no_other(workers: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "test_escapes.py").write_text(ESCAPES)
    options = ("-q", "-p", "tests.support.forks", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", ".")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *workers, "test_escapes.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 passed" in ran.stdout
    assert (tmp_path / "ran").read_text() == "x"
