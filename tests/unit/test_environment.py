"""The suites' environment: what `.ci/environment` lets through, and that the suites run behind it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository import ROOT

CLEAN = ROOT / ".ci/environment"
#: What a developer may have set, each of which changes what some test finds.
THEIRS = {
    "PYTHONUNBUFFERED": "1",
    "PYTHONPATH": "/proc/nonexistent",
    "PYTHONOPTIMIZE": "2",
    "PYTEST_ADDOPTS": "-k nothing",
    "GIT_DIR": "/proc/nonexistent",
    "GIT_CONFIG_COUNT": "1",
    "XDG_STATE_HOME": "/proc/nonexistent",
    "XDG_CONFIG_HOME": "/proc/nonexistent",
    "MVMNIX_POLICY": "/proc/nonexistent",
    "NIX_PATH": "nixpkgs=/proc/nonexistent",
    "LC_ALL": "tr_TR.UTF-8",
    "COLUMNS": "7",
    "NO_COLOR": "1",
    "BASH_ENV": "/proc/nonexistent",
    "MAKEFLAGS": "k",
}
#: How a machine reaches its mirrors, and how much the suites do.
KEPT = {
    "HOME": "/home",
    "https_proxy": "http://proxy.test:3128",
    "NO_PROXY": "a b\n'c'",
    "PIP_FIND_LINKS": "/wheels",
    "SSL_CERT_FILE": "/certificates",
    "MVMNIX_TEST_WORLD": "/world",
    "MVMNIX_SOAK_STARTS": "3",
    "CI": "true",
}


def variables(given: dict[str, str]) -> dict[str, str]:
    environment = {"PATH": os.environ["PATH"], **given}
    done = subprocess.run([CLEAN, "env", "-0"], env=environment, capture_output=True, check=True)
    return dict(pair.split("=", 1) for pair in done.stdout.decode().split("\0") if pair)


def test_none_of_a_developers_variables_comes_through() -> None:
    assert variables(THEIRS) == {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}


def test_what_reaches_a_mirror_comes_through_unchanged() -> None:
    assert variables(KEPT) == {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **KEPT}


def test_the_exit_code_is_the_commands() -> None:
    assert subprocess.run([CLEAN, "sh", "-c", "exit 7"], check=False).returncode == 7


#: An `env` that lives on for a while after all that it writes was read.
SLOW = """#!/bin/sh
[ "$1" = -0 ] || exec /usr/bin/env "$@"
/usr/bin/env -0
exec >&-
sleep 0.5
"""
#: Waits for whatever child it has, which it has not started.
INHERITED = """
import os
try:
    print(os.waitpid(-1, 0))
except ChildProcessError:
    print("no child")
"""


def test_the_command_inherits_no_child(tmp_path: Path) -> None:
    """A zombie of the shell's would be the suite's: a test that looks for its own would find it."""
    (tmp_path / "env").write_text(SLOW)
    (tmp_path / "env").chmod(0o755)
    argv = [str(CLEAN), sys.executable, "-c", INHERITED]
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(argv, env={"PATH": path}, capture_output=True, text=True, check=True)
    assert done.stdout == "no child\n"


SUITES = ("test-vm", "test-hostile", "test-integration", "test-unit", "test-fast", "coverage", "fuzz", "soak")


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_runs_behind_it(suite: str) -> None:
    said = subprocess.run(["make", "-n", "-C", ROOT, suite], capture_output=True, text=True, check=True).stdout
    lines = [line for line in said.replace("\\\n", "").splitlines() if "pytest" in line]
    assert lines
    assert all(f"{CLEAN} " in line.partition("-m pytest")[0] for line in lines), lines


def test_ci_runs_behind_it() -> None:
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if "make" in line]
    assert len(commands) == 3
    assert all(line.startswith(".ci/environment make ") for line in commands)
    assert Path(CLEAN).stat().st_mode & 0o111
