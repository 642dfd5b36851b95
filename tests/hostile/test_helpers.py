"""The ways out of a helper's sandbox, tried from inside; and what is left of one whose caller is killed."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mvmnix.sandbox import helper
from mvmnix.sandbox.child import ChildSupervisor
from mvmnix.sandbox.helper import Bounds, Sandbox
from mvmnix.sandbox.trusted_executables import Candidates
from mvmnix.system.control_groups import ControlGroups, Controller, GroupLimits
from mvmnix.system.process import ProcessError
from tests.hostile import ways_out
from tests.hostile.bait import bait, judged
from tests.patience import EVENT_PATIENCE, PATIENCE, until
from tests.support.processes import status

__all__ = ["bait"]

pytestmark = pytest.mark.integration
PYTHON = Candidates("python3", ("/usr/bin/python3",), "apt-get install python3")
PROGRAM = Path(ways_out.__file__)
PLAIN = 12345


@pytest.mark.usefixtures("bait")
def test_no_way_out() -> None:
    found = judged(Sandbox({"/ways_out.py": PROGRAM}).run(PYTHON, "-IS", "/ways_out.py").stdout.decode())
    assert found.keys() == ways_out.WAYS.keys()
    assert len(found) >= 60
    assert [name for name, word in found.items() if word != "held"] == []


@pytest.mark.usefixtures("bait")
@pytest.mark.root("as root most of them lead somewhere")
def test_the_ways_lead_somewhere_outside(tmp_path: Path) -> None:
    """So that a line that says `held` means something."""
    argv = ["/usr/bin/python3", "-IS", str(PROGRAM)]
    said = subprocess.run(argv, cwd=tmp_path, capture_output=True, check=True, text=True, timeout=PATIENCE).stdout
    broken = {name for name, word in judged(said).items() if word == "BROKEN"}
    assert len(broken) >= 60
    assert {
        "kernel.core_pattern",
        "unshare user",
        "uid 0",
        "TCP to the host's loopback",
        "abstract unix socket",
    } < broken


def sandboxed(marker: str) -> list[Path]:
    """Processes that run a command with this word in it, zombies left out."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state = (directory / "stat").read_text().rpartition(")")[2].split()[0]
            if (
                state != "Z"
                and marker.encode() in (directory / "cmdline").read_bytes()
                and int(directory.name) != os.getpid()
            ):
                found.append(directory)
    return found


CALLER = """
import sys
from mvmnix.sandbox.helper import Sandbox
print("ready", flush=True)
Sandbox().script("sleep 600; : $1", sys.argv[1])
"""


@pytest.fixture
def caller() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A process that runs a helper, and the word that marks its processes."""
    marker = f"marker-{secrets.token_hex(8)}"
    process = subprocess.Popen([sys.executable, "-c", CALLER, marker], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield marker, process
    process.kill()
    process.wait()
    process.stdout.close()


def test_seen_from_outside(caller: tuple[str, subprocess.Popen[bytes]]) -> None:
    """It is in no namespace of ours but that of time, and has no right."""
    marker, _ = caller
    sleeping = sleeping_of(marker)
    seen = status(int(sleeping.name))
    assert int(seen["CapEff"], 16) == int(seen["CapBnd"], 16) == 0
    for name in ("pid", "mnt", "ipc", "uts", "net", "cgroup", "user"):
        assert (sleeping / "ns" / name).readlink() != Path("/proc/self/ns", name).readlink(), name


def children_of(marker: str) -> list[Path]:
    """All processes beneath those that are marked."""
    parents = {int(one.name) for one in sandboxed(marker)}
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int((directory / "stat").read_text().rpartition(")")[2].split()[1]) in parents:
                found.append(directory)
    return found


def sleeping_of(marker: str) -> Path:
    """Wait for the one program that sleeps beneath those that are marked."""

    def found() -> list[Path]:
        return [one for one in children_of(marker) if (one / "comm").read_bytes() == b"sleep\n"]

    until(found)
    (sleeping,) = found()
    return sleeping


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 4, 6, 8, 10, 12, 15, 18, 21, 25, 30, 40, 60, 100, 300])
def test_a_caller_that_is_killed_leaves_no_helper(
    caller: tuple[str, subprocess.Popen[bytes]], milliseconds: int
) -> None:
    marker, process = caller
    time.sleep(milliseconds / 1000)
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not sandboxed(marker), lambda: [(one / "cmdline").read_bytes() for one in sandboxed(marker)])


def test_a_caller_that_is_interrupted_kills_its_helper(caller: tuple[str, subprocess.Popen[bytes]]) -> None:
    marker, process = caller
    sleeping_of(marker)
    process.send_signal(signal.SIGINT)
    process.wait(PATIENCE)
    assert not sandboxed(marker)


def test_what_a_helper_leaves_running_is_killed_with_it() -> None:
    marker = f"marker-{secrets.token_hex(8)}"
    Sandbox().script('(exec sh -c "sleep 600; : $1" >/dev/null 2>&1 &)', marker)
    assert not sandboxed(marker)


#: It takes control groups that were delegated to the user: test_system_user.py runs these as one who has some.
LIMITED = pytest.mark.delegated
#: What fills memory files, three GiB of them at most, without a byte of address space.
FILLS = """
import os, sys
block = b"x" * (1 << 20)
held = []
for number in range(96):
    held.append(os.memfd_create("held"))
    for _ in range(32):
        os.write(held[-1], block)
"""
SMALL = Bounds(room=64 << 20, memory=256 << 20, output=64 << 20)


@LIMITED
@pytest.mark.parametrize("early", [True, False], ids=["moved early", "moved at the gate"])
def test_memory_files_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, early: bool) -> None:
    if not early:
        monkeypatch.setattr(ChildSupervisor, "_warm_up", lambda _: None)
    (tmp_path / "fills.py").write_text(FILLS)
    with pytest.raises(ProcessError, match="it took more than 320 MiB of memory") as caught:
        Sandbox({"/fills.py": tmp_path / "fills.py"}, bounds=SMALL).run(PYTHON, "-I", "/fills.py")
    assert caught.value.done.status == -signal.SIGKILL


def test_without_a_control_group_each_process_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a plain user to whom no part of the hierarchy was delegated."""
    monkeypatch.setattr(helper, "_found", lambda: ControlGroups(()))
    (tmp_path / "fills.py").write_text("x = bytearray(1 << 30)")
    with pytest.raises(ProcessError, match="MemoryError"):
        Sandbox({"/fills.py": tmp_path / "fills.py"}, bounds=SMALL).run(PYTHON, "-I", "/fills.py")


@LIMITED
def test_a_group_that_a_killed_caller_left_is_removed(
    caller: tuple[str, subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one that has a holder, nor one that is about to get one."""
    marker, process = caller
    sleeping = sleeping_of(marker)
    groups = {line.rpartition("/")[2] for line in (sleeping / "cgroup").read_text().splitlines()}
    (name,) = (one for one in groups if one.startswith("mvmnix-helper-"))
    found = ControlGroups.find().limiting(Controller.MEMORY, Controller.TASKS)
    left = [Path(path) for path in found.paths(name)]
    monkeypatch.setattr(helper, "_LOCKED_BY", -1.0)
    with helper.own_group(GroupLimits(1 << 30, 16)):
        assert all(path.is_dir() for path in left), "it has a holder"
    process.kill()
    process.wait()
    monkeypatch.undo()
    with helper.own_group(GroupLimits(1 << 30, 16)):
        assert all(path.is_dir() for path in left), "it may be about to get one"
    monkeypatch.setattr(helper, "_LOCKED_BY", -1.0)
    with helper.own_group(GroupLimits(1 << 30, 16)):
        assert not any(path.exists() for path in left)


TWICE = """
from mvmnix.sandbox.helper import Sandbox
for _ in range(2):
    print(Sandbox().script("cat /proc/1/comm").stdout.decode(), end="")
"""


@pytest.mark.root("in a user's own namespace no file is root's, and so none is trusted")
def test_it_starts_in_a_small_pid_namespace() -> None:
    """As in a container: `/proc` shows few processes, and none by the numbers that they have in a helper's own."""
    user = ["setpriv", f"--reuid={PLAIN}", f"--regid={PLAIN}", "--clear-groups"]
    argv = ["unshare", "--pid", "--fork", "--mount-proc", *user, sys.executable, "-c", TWICE]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=EVENT_PATIENCE)
    assert (done.stdout, done.stderr) == ("bwrap\n" * 2, "")
