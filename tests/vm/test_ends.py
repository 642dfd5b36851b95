"""How runs end that somebody breaks off, and what is closed before they begin; nothing is left running or lost."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import World
from tests.hypervisors import hypervisors
from tests.patience import PATIENCE
from tests.sample import sample
from tests.support.processes import end_with_test, field, gone
from tests.vm.machines import HELLO, states, wait_for
from tests.workbench import Workbench

pytestmark = pytest.mark.vm


def test_a_killed_supervisor_leaves_nothing_of_the_jail(copied: World, tmp_path: Path) -> None:
    bundle = copied.home.signed_plan(tmp_path, HELLO, "--", "/bin/busybox", "sleep", "1000", cwd=copied.tree)
    started = copied.home.mvm("launch", "--detach", bundle)
    assert started.returncode == 0, started.stderr.decode()
    (qemu,) = hypervisors(copied.home)
    first = int(field(qemu, "PPid")[0])
    bubblewrap = int(field(first, "PPid")[0])
    supervisor = int(field(bubblewrap, "PPid")[0])
    uid, ours = int(field(qemu, "Uid")[0]), os.geteuid()
    assert uid != ours
    assert field(qemu, "CapEff") == field(qemu, "CapBnd") == ["0" * 16]
    assert (field(qemu, "NoNewPrivs"), field(qemu, "Seccomp_filters")) == (["1"], ["2"]), "mvm's filter and QEMU's own"
    assert (field(first, "NSpid")[1:], field(qemu, "NSpid")[1:]) == (["1"], ["2"])
    for kind in ("mnt", "pid", "ipc", "uts", "net", "user", "cgroup"):
        assert Path(f"/proc/{qemu}/ns/{kind}").readlink() != Path(f"/proc/self/ns/{kind}").readlink(), kind
    groups = {Path(line.split(":", 2)[2]).name for line in Path(f"/proc/{qemu}/cgroup").read_text().splitlines()}
    os.kill(supervisor, signal.SIGKILL)
    assert copied.home.mvm("ps").returncode == 0
    assert all(map(gone, (qemu, first, bubblewrap)))
    left = {path.name for path in Path("/sys/fs/cgroup").rglob("mvmnix-*")}
    assert not left & groups
    assert states(copied)[started.stdout.decode().strip()]["reason"] == "supervisor-died"
    assert copied.home.mvm("audit", "verify").returncode == 0


@pytest.mark.parametrize("number", sample([signal.SIGTERM, signal.SIGINT, signal.SIGHUP], 1))
def test_a_signal_lets_the_guest_end_in_order(copied: World, number: signal.Signals) -> None:
    before = states(copied).keys()
    command = ("--", "/bin/busybox", "sh", "-c", "echo up; sleep 1000")
    running = copied.home.start("run", HELLO, *command, cwd=copied.tree)
    assert running.stdout is not None
    assert running.stdout.readline() == b"up\n"
    assert len(hypervisors(copied.home)) == 1
    running.send_signal(number)
    assert running.wait(PATIENCE) == 128 + number
    assert hypervisors(copied.home) == []
    (machine,) = states(copied).keys() - before
    assert (states(copied)[machine]["state"], states(copied)[machine]["reason"]) == ("ended", "stopped")
    assert copied.home.mvm("audit", "verify").returncode == 0


@pytest.mark.parametrize("number", sample([signal.SIGTERM, signal.SIGKILL], 1))
def test_a_build_that_is_broken_off(copied: World, number: signal.Signals) -> None:
    before, images = states(copied).keys(), set((copied.home.state / "images").iterdir())
    building = copied.home.start("build", "--again", HELLO, cwd=copied.tree)
    wait_for(lambda: any(states(copied)[new]["state"] == "running" for new in states(copied).keys() - before))
    building.send_signal(number)
    building.communicate(timeout=PATIENCE)
    assert building.returncode == (128 + number if number is signal.SIGTERM else -number)
    wait_for(lambda: not hypervisors(copied.home))
    (machine,) = states(copied).keys() - before
    wait_for(lambda: states(copied)[machine]["state"] == "ended")
    assert states(copied)[machine]["reason"] == "stopped", "its supervisor hears that its caller is gone"
    assert set((copied.home.state / "images").iterdir()) == images
    assert copied.home.mvm("run", HELLO, cwd=copied.tree).returncode == 0


def test_a_reader_that_leaves_ends_the_command(copied: World) -> None:
    running = copied.home.start("run", HELLO, "--", "/bin/busybox", "yes", cwd=copied.tree)
    assert running.stdout is not None
    assert running.stdout.readline() == b"y\n"
    running.stdout.close()
    assert running.wait(PATIENCE) == 128 + signal.SIGPIPE


def test_closed_streams_are_not_taken_by_files_of_ours(copied: World) -> None:
    """What the guest says would be written into the file that got the number of a closed stream."""
    mvm = [
        str(part)
        for part in copied.home.argv("run", HELLO, "--", "/bin/busybox", "sh", "-c", "sleep 5; cat; echo x >&2")
    ]
    before = states(copied).keys()
    argv = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *mvm]
    running = end_with_test(subprocess.Popen(argv, cwd=copied.tree, env=copied.home.environment))
    wait_for(lambda: any(states(copied)[new]["state"] == "running" for new in states(copied).keys() - before))
    opened = [str(Path(f"/proc/{running.pid}/fd/{number}").readlink()) for number in range(3)]
    assert opened == ["/dev/null"] * 3
    assert running.wait(PATIENCE) == 125
    assert copied.home.mvm("audit", "verify").returncode == 0


def test_a_full_disk_is_told(copied: World) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            copied.home.argv("run", HELLO),
            cwd=copied.tree,
            env=copied.home.environment,
            stdout=full,
            stderr=-1,
            check=False,
        )
    assert done.returncode == 125
    assert b"No space left on device" in done.stderr


def test_arguments_beyond_what_a_guest_takes(copied: World) -> None:
    for words in (["a" * 100_000], ["a"] * 2000):
        done = copied.home.mvm("run", HELLO, "--", "/bin/busybox", "echo", *words, cwd=copied.tree)
        assert done.returncode == 126
        assert b"Traceback" not in done.stderr
    done = copied.home.mvm("run", HELLO, "--", "/bin/busybox", "echo", b"\xff", cwd=copied.tree)
    assert done.returncode in {2, 126}


def test_the_builder_vm_has_a_loopback_and_nothing_else(workbench: Workbench) -> None:
    assert workbench.says("/bin/busybox", "ls", "/sys/class/net") == b"lo\n"
    routes = workbench.says("/bin/busybox", "cat", "/proc/net/route").splitlines()
    assert len(routes) == 1, "the heading"
    assert re.search(rb"^NoNewPrivs:\t1$", workbench.says("/bin/busybox", "cat", "/proc/self/status"), re.MULTILINE)
