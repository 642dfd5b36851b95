"""What a workload can't do in its guest, tried in one real machine: filter, kernel settings, /proc."""

import errno
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import World
from tests.patience import PATIENCE, scaled
from tests.seccomp import DENIED_BY_DEFAULT

pytestmark = pytest.mark.vm

SOURCE = Path(__file__).parents[1] / "integration" / "system_calls.c"
#: Where it lies in the guest.
PROBE = "/tmp/probe"
#: What the kernel says to each try that a workload of the usual tier isn't meant to have: errno, or the signal.
REFUSED = DENIED_BY_DEFAULT | {"x32": "38"}
SETTINGS = {
    "kernel/dmesg_restrict": "1",
    "kernel/kptr_restrict": "2",
    "kernel/perf_event_paranoid": "3",
    "kernel/unprivileged_bpf_disabled": "1",
    "kernel/yama/ptrace_scope": "1",
    "kernel/modules_disabled": "1",
    "kernel/kexec_load_disabled": "1",
    "user/max_user_namespaces": "0",
    "fs/protected_regular": "2",
}
#: MiB: the least that boots, and what files may be; a shell that takes what there is.
MEMORY, SCRATCH, GROW = 96, 32, "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done"
#: Processes of all commands together; seconds in which a machine may do nothing, more than pass between two tests.
TASKS, IDLE = 12, 40


@pytest.fixture(scope="module")
def machine(world: World, minimal: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    base = tmp_path_factory.mktemp("floor")
    limits = ("--memory", str(MEMORY), "--tasks", str(TASKS), "--idle", str(IDLE))
    command = ("--", "/bin/busybox", "sleep", "1000")
    bundle = world.home.signed_plan(base, "--verb", "exec", *limits, minimal, *command)
    subprocess.run(["gcc", "-static", "-s", "-O1", "-o", base / "probe", SOURCE], check=True)
    launched = world.home.mvm("launch", "--detach", bundle)
    assert launched.returncode == 0, launched.stderr.decode()
    machine = launched.stdout.decode().strip()
    bring = ("exec", "-i", machine, "/bin/busybox", "sh", "-c", f"cat >{PROBE} && chmod 755 {PROBE}")
    assert world.home.mvm(*bring, stdin=(base / "probe").read_bytes()).returncode == 0
    yield machine
    world.home.mvm("rm", "--force", machine)


def sh(world: World, machine: str, script: str) -> str:
    done = world.home.mvm("exec", machine, "/bin/busybox", "sh", "-c", script)
    return (done.stdout + done.stderr).decode()


def test_system_calls_that_no_workload_needs(world: World, machine: str) -> None:
    said = world.home.mvm("exec", machine, PROBE).stdout.decode()
    tried = dict(line.split("=") for line in said.splitlines())
    assert {name: answer for name, answer in tried.items() if answer != "0"} == REFUSED
    assert {"getpid", "clone", "unshare fs", "traceme", "inet", "netlink", "memfd_create"} <= tried.keys()


def test_the_kernel_s_settings(world: World, machine: str) -> None:
    script = f"cd /proc/sys && for f in {' '.join(SETTINGS)}; do echo $f $(cat $f); done"
    assert dict(line.split() for line in sh(world, machine, script).splitlines()) == SETTINGS
    changed = sh(world, machine, f"for f in {' '.join(SETTINGS)}; do echo 0 >/proc/sys/$f; done")
    assert changed.count("can't create") == len(SETTINGS)


def test_nothing_is_read_of_the_kernel(world: World, machine: str) -> None:
    assert "not permitted" in sh(world, machine, "dmesg")
    assert "can't open" in sh(world, machine, "cat /proc/kmsg")
    assert set(sh(world, machine, "cut -d' ' -f1 /proc/kallsyms | uniq").split()) <= {"0" * 16}


def test_other_users_processes_are_not_in_proc(world: World, machine: str) -> None:
    """hidepid=invisible: neither the agent nor the kernel's threads."""
    owners = sh(world, machine, "for p in /proc/[0-9]*; do stat -c %u $p; done | sort -u; ls -d /proc/1")
    assert owners.split("\n")[0] == "1000"
    assert "No such file" in owners


def test_a_command_that_runs_away_and_its_neighbour(world: World, machine: str) -> None:
    """It makes processes for as long as it can; the next one is answered, and sees how many there are."""
    runaway = world.home.start("exec", machine, PROBE, "multiply")
    assert runaway.stdout is not None
    made, why = map(int, runaway.stdout.readline().split())
    assert (made, why) == (TASKS - 2, errno.EAGAIN)  # the plan's own command, and this one's first process
    listed = world.home.mvm("exec", machine, "/bin/busybox", "ls", "/proc")
    assert len([name for name in listed.stdout.split() if name.isdigit()]) == TASKS + 1
    assert "can't fork" in sh(world, machine, "true & true & wait")
    runaway.terminate()
    runaway.communicate(timeout=PATIENCE)
    tries = (sh(world, machine, "true & true & wait; echo here") for _ in range(10))
    assert any(said == "here\n" for said in tries), "what hung up has its command killed"


def test_a_command_that_writes_all_it_can(world: World, machine: str) -> None:
    """The plan's scratch space is more than the guest has: files end where another command still has room."""
    said = sh(world, machine, "dd if=/dev/zero of=/tmp/x bs=64k; echo full; df -m /tmp | tail -n 1")
    assert "No space left on device" in said
    assert 0 < int(said.split("full\n")[1].split()[1]) < SCRATCH
    assert sh(world, machine, "rm /tmp/x; touch /tmp/y && echo room") == "room\n"


def test_a_command_that_asks_for_more_memory_than_there_is(world: World, machine: str) -> None:
    done = world.home.mvm("exec", machine, "/bin/busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1")
    assert done.returncode != 0
    assert sh(world, machine, "echo here") == "here\n"


@pytest.mark.parametrize("first", ["true", "dd if=/dev/zero of=/tmp/full bs=64k 2>/dev/null"], ids=["alone", "files"])
def test_a_command_that_takes_all_memory_and_its_neighbour(world: World, machine: str, first: str) -> None:
    """It is ended by the kernel; what is asked for meanwhile is answered, and so is what comes behind it."""
    greedy = world.home.start("exec", machine, "/bin/busybox", "sh", "-c", f"{first}; echo begun; {GROW}")
    assert greedy.stdout is not None
    assert greedy.stdout.readline() == b"begun\n"
    tries = (sh(world, machine, "echo here") for _ in range(10))
    assert any(said == "here\n" for said in tries), "the kernel may mean this one, but not each time"
    assert greedy.wait(PATIENCE) == 128 + signal.SIGKILL
    assert greedy.stderr is not None
    assert b"mvm: out of memory in the guest: " in greedy.stderr.read()
    assert sh(world, machine, "rm -f /tmp/full; echo here") == "here\n"


#: Of readings of a clock, some fifteen for each.
_LINES = 60_000


def test_its_clock_is_the_hosts(world: World, machine: str) -> None:
    """Also after a pause, in which it stands."""
    assert_clock(world, machine)
    assert world.home.mvm("pause", machine).returncode == 0
    time.sleep(scaled(1))
    assert world.home.mvm("resume", machine).returncode == 0
    assert_clock(world, machine)


def assert_clock(world: World, machine: str) -> None:
    """No reading is 0.1 s ahead of the host when it arrives, and one is less than 0.1 s behind, its way included."""
    command = "while :; do /bin/busybox adjtimex; done"
    reading, behind = world.home.start("exec", machine, "/bin/busybox", "sh", "-c", command), 1.0
    seconds = 0
    assert reading.stdout is not None
    for _ in range(_LINES):
        name, _, value = reading.stdout.readline().decode().partition(":")
        assert name, reading.stderr
        if name.endswith("time.tv_sec"):
            seconds = int(value)
        elif name.endswith("time.tv_usec"):
            behind = time.time() - seconds - int(value) / 1e6
            assert behind > -0.1
            if behind <= 0.1:
                break
    else:
        pytest.fail(f"the guest's clock is {behind} s behind")
    reading.kill()
    reading.communicate()


def test_commands_are_in_a_group_of_their_own(world: World, machine: str) -> None:
    assert sh(world, machine, "cat /proc/self/cgroup") == "0::/workload\n"


def test_a_machine_that_does_nothing_ends(world: World, machine: str) -> None:
    ended = world.home.mvm("wait", machine)
    assert ended.stdout == b"idle\n", ended.stderr.decode()
