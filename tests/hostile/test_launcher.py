"""Attacks on the launcher, by processes of its own user and of others; machines that run are nobody's but their user's.

What needs no machine is beside the unit tests of the real launcher (tests/unit/api/test_launchers.py).
"""

import os
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Home, World
from tests.patience import PATIENCE, until
from tests.repository import ROOT
from tests.support.processes import end_with_test, gone

#: Listens for the id of each launcher of this user's, and prints them.
LIST = ("launcher", "ls", "--format", "{{.process}}")


def launchers(home: Home) -> list[int]:
    """Return the processes of the launchers that run."""
    done = home.mvm(*LIST)
    assert done.returncode == 0, done.stderr.decode()
    return [int(line) for line in done.stdout.split()]


def running(home: Home) -> list[str]:
    """Return the ids of the machines that run."""
    done = home.mvm("ps", "--format", "{{.id}}")
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split()


def launch(world: World, image: str, *options: str) -> None:
    """Start a machine in the background whose command runs on."""
    command = ("/bin/busybox", "sleep", "1000")
    place = Path(tempfile.mkdtemp(dir=world.home.path))
    plan = world.home.signed_plan(place, image, "--verb", "exec", "--", *command, cwd=world.tree)
    done = world.home.mvm("launch", "--detach", *options, plan)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.vm
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP])
def test_machines_go_on_whatever_ends_their_launcher(minimal: str, copied: World, number: int) -> None:
    launch(copied, minimal)
    (machine,) = running(copied.home)
    (process,) = launchers(copied.home)
    os.kill(process, number)
    if number == signal.SIGSTOP:  # it accepts nothing, and the next caller would wait for it for minutes
        os.kill(process, signal.SIGKILL)
    until(lambda: gone(process))
    done = copied.home.mvm("exec", machine, "--", "/bin/busybox", "echo", "on")
    assert done.stdout == b"on\n", done.stderr.decode()
    launch(copied, minimal)
    assert len(running(copied.home)) == 2
    assert process not in launchers(copied.home)
    for each in running(copied.home):
        assert copied.home.mvm("kill", each).returncode == 0


@pytest.mark.vm
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_a_caller_that_ends_leaves_no_attached_machine(copied: World, number: int) -> None:
    plan = copied.home.signed_plan(
        copied.home.path, "./examples/hello", "--", "/bin/busybox", "sleep", "1000", cwd=copied.tree
    )
    caller = copied.home.start("launch", plan)
    until(lambda: running(copied.home), seconds=PATIENCE)
    caller.send_signal(number)
    until(lambda: not running(copied.home), seconds=PATIENCE)


@pytest.mark.vm
def test_launchers_that_are_stopped_leave_machines(minimal: str, copied: World) -> None:
    launch(copied, minimal)
    assert copied.home.mvm("launcher", "stop").returncode == 0
    assert launchers(copied.home) == []
    (machine,) = running(copied.home)
    assert copied.home.mvm("kill", machine).returncode == 0


#: Holds the lock of every launcher that there was, and listens under its name without an answer.
IMPOSTOR = """
import os, sys
from mvmnix.launch.control import launcher_socket
from mvmnix.system import private_sockets
from mvmnix.system.roots import Roots
roots = Roots.from_environment(os.environ)
directory = roots.state.child(launcher_socket.DIRECTORY)
kept = []
for key in launcher_socket.keys(directory):
    kept.append(private_sockets.listen(directory, f"{key}.sock", 64))
print("ready", flush=True)
sys.stdin.read()
"""


def test_an_impostor_gets_no_request(home: Home, tmp_path: Path) -> None:
    """A process of the same user's listens under the name of a launcher that has ended; a start passes it over."""
    (tmp_path / "plan").write_bytes(b"not a plan")
    assert home.mvm("launch", "--detach", tmp_path / "plan").returncode == 126
    for process in launchers(home):
        os.kill(process, signal.SIGKILL)
        until(partial(gone, process))
    impostor = end_with_test(
        subprocess.Popen(
            [sys.executable, "-c", IMPOSTOR],
            env=home.environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    )
    assert impostor.stdout is not None
    assert impostor.stdout.readline() == b"ready\n"
    assert home.mvm("launch", "--detach", tmp_path / "plan").returncode == 126
    assert impostor.pid not in launchers(home)
    assert home.mvm("launcher", "stop").returncode == 0


@pytest.mark.parametrize("prefix", [("prlimit", "--as=2000000000"), ("prlimit", "--nofile=64:64"), ("nice", "-n", "3")])
def test_a_caller_with_bounds_has_a_launcher_with_these(home: Home, tmp_path: Path, prefix: tuple[str, ...]) -> None:
    (tmp_path / "plan").write_bytes(b"not a plan")
    for before in ((), prefix):
        done = home.mvm("launch", "--detach", tmp_path / "plan", prefix=before)
        assert done.returncode == 126, done.stderr.decode()
        assert b"policy-missing" in done.stderr
    assert len(launchers(home)) == 2
    assert home.mvm("launcher", "stop").returncode == 0


@pytest.mark.vm
@pytest.mark.parametrize(
    ("bound", "status"), [("--as=400000000", 125), ("--as=6000000000", 0), ("--nofile=256:256", 0)], ids=str
)
def test_a_machine_of_a_caller_with_bounds_has_these(copied: World, bound: str, status: int) -> None:
    """As in a batch job (ulimit -v): it runs where there is room for it, and is one clear error where there is none."""
    said = ("/bin/busybox", "echo", "on")
    plan = copied.home.signed_plan(copied.home.path, "./examples/hello", "--", *said, cwd=copied.tree)
    done = copied.home.mvm("launch", plan, prefix=("prlimit", bound))
    assert done.returncode == status, done.stderr.decode()
    assert (b"on\n" in done.stdout) == (status == 0)
    assert (b"memory" in done.stderr) == (status != 0), done.stderr.decode()
    assert copied.home.mvm("launcher", "stop").returncode == 0


def test_a_caller_with_no_new_privileges_shares_no_launcher(home: Home, tmp_path: Path) -> None:
    (tmp_path / "plan").write_bytes(b"not a plan")
    done = home.mvm("launch", "--detach", tmp_path / "plan", prefix=("setpriv", "--no-new-privs"))
    assert b"policy-missing" in done.stderr, done.stderr.decode()
    assert launchers(home) == []
