"""The ways out of a helper's sandbox, tried from inside; and what is left of one whose caller is killed."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.trusted_executables import Candidates
from mvmnix.sandbox.uid_pool import COUNT, FIRST_UID
from tests.conftest import PATIENCE
from tests.hostile import ways_out

pytestmark = pytest.mark.integration
PYTHON = Candidates("python3", ("/usr/bin/python3",), "apt-get install python3")
PROGRAM = Path(ways_out.__file__)
_LIBC = ctypes.CDLL(None, use_errno=True)
_ADD_KEY, _KEYCTL, _SESSION, _REVOKE = 248, 250, -3, 3


@pytest.fixture
def bait() -> Iterator[None]:
    """What a way out would find: a key of the caller, listening sockets, a variable, a file that others can't read."""
    with ExitStack() as stack:
        key = _LIBC.syscall(_ADD_KEY, b"user", ways_out.CANARY.encode(), b"secret", 6, _SESSION)
        if key > 0:
            stack.callback(_LIBC.syscall, _KEYCTL, _REVOKE, key)
        for family, address in (
            (socket.AF_INET, ("127.0.0.1", ways_out.PORT)),
            (socket.AF_UNIX, f"\0{ways_out.CANARY}"),
        ):
            server = stack.enter_context(socket.socket(family))
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(address)
            server.listen()
        os.environ[ways_out.CANARY] = "secret"
        stack.callback(os.environ.pop, ways_out.CANARY)
        yield


def judged(output: str) -> dict[str, str]:
    return dict(line.rsplit(": ", 1) for line in output.splitlines())


@pytest.mark.usefixtures("bait")
def test_no_way_out() -> None:
    found = judged(Sandbox({"/ways_out.py": PROGRAM}).run(PYTHON, "-IS", "/ways_out.py").stdout.decode())
    assert found.keys() == ways_out.WAYS.keys()
    assert len(found) >= 60
    assert [name for name, word in found.items() if word != "held"] == []


@pytest.mark.usefixtures("bait")
@pytest.mark.skipif(os.geteuid() != 0, reason="as root most of them lead somewhere")
def test_the_ways_lead_somewhere_outside(tmp_path: Path) -> None:
    """So that a line that says `held` means something."""
    argv = ["/usr/bin/python3", "-IS", str(PROGRAM)]
    said = subprocess.run(argv, cwd=tmp_path, capture_output=True, check=True, text=True, timeout=300).stdout
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
    marker = f"marker-{os.getpid()}-{time.monotonic_ns()}"
    process = subprocess.Popen([sys.executable, "-c", CALLER, marker], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield marker, process
    process.kill()
    process.wait()
    process.stdout.close()


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives uids away")
def test_seen_from_outside(caller: tuple[str, subprocess.Popen[bytes]]) -> None:
    """Its uid and gid on the host are the pool's, and it is in no namespace of ours but that of time."""
    marker, _ = caller
    assert wait_for(lambda: any(b"sleep" in (one / "comm").read_bytes() for one in children_of(marker)))
    (sleeping,) = [one for one in children_of(marker) if (one / "comm").read_bytes() == b"sleep\n"]
    status = dict(line.split(":\t", 1) for line in (sleeping / "status").read_text().splitlines())
    for ids in (status["Uid"], status["Gid"]):
        assert {FIRST_UID <= int(word) < FIRST_UID + COUNT for word in ids.split()} == {True}
    assert status["Groups"].split() == []
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
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


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 4, 6, 8, 10, 12, 15, 18, 21, 25, 30, 40, 60, 100, 300])
def test_a_caller_that_is_killed_leaves_no_helper(
    caller: tuple[str, subprocess.Popen[bytes]], milliseconds: int
) -> None:
    marker, process = caller
    time.sleep(milliseconds / 1000)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert wait_for(lambda: not sandboxed(marker)), [(one / "cmdline").read_bytes() for one in sandboxed(marker)]


def test_a_caller_that_is_interrupted_kills_its_helper(caller: tuple[str, subprocess.Popen[bytes]]) -> None:
    marker, process = caller
    assert wait_for(lambda: any(b"sleep" in (one / "comm").read_bytes() for one in children_of(marker)))
    process.send_signal(signal.SIGINT)
    process.wait(PATIENCE)
    assert not sandboxed(marker)


def test_what_a_helper_leaves_running_is_killed_with_it() -> None:
    marker = f"marker-{os.getpid()}-{time.monotonic_ns()}"
    Sandbox().script('(exec sh -c "sleep 600; : $1" >/dev/null 2>&1 &)', marker)
    assert not sandboxed(marker)
