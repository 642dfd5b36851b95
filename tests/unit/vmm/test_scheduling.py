"""What the kernel says of a process's threads and groups: in a made /proc, and in the real one."""

import os
import signal
from pathlib import Path

import pytest

from mvmnix.system.process import spawn
from mvmnix.vmm.scheduling import Schedule, Scheduling, Thread
from tests.patience import until

TICKS = os.sysconf("SC_CLK_TCK")


def thread(
    proc: Path, number: int, *, name: str = "CPU 0/TCG", state: str = "S", schedstat: str = "5 7000000 3"
) -> None:
    where = proc / "7" / "task" / str(number)
    where.mkdir(parents=True)
    fields = " ".join([state, "1", *["0"] * 9, str(2 * TICKS), str(TICKS), *["0"] * 30])
    (where / "stat").write_text(f"{number} ({name}) {fields}\n")
    if schedstat:
        (where / "schedstat").write_text(f"{schedstat}\n")


def made(tmp_path: Path, *, group: str, mount: str) -> Path:
    """A /proc with one process in that group; `mount` is the rest of a mountinfo line, `TOP` the mount point."""
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "7").mkdir()
    (proc / "7" / "cgroup").write_text(f"{group}\n9:memory:/else\n")
    lines = f"22 1 0:21 / /proc rw - proc proc rw\n31 23 0:28 {mount.replace('TOP', str(tmp_path / 'top'))}\n"
    (proc / "self" / "mountinfo").write_text(lines)
    return proc


def test_threads(tmp_path: Path) -> None:
    proc = made(tmp_path, group="0::/", mount="/ /proc/nowhere rw - cgroup2 cgroup2 rw")
    thread(proc, 7, name="a) R 1 (b", state="D")
    thread(proc, 8, schedstat="")
    (first, second) = Scheduling(7, proc=proc).look().threads
    assert first == Thread(7, "a) R 1 (b", "D", 3000, 7_000_000)
    assert second == Thread(8, "CPU 0/TCG", "S", 3000, None)
    assert Schedule((first, second), 0).delayed_since(Schedule((), 0)) is None
    assert Scheduling(9, proc=proc).look() == Schedule((), 0)


#: A group, where its hierarchy is mounted, and the groups whose throttling counts, beneath the mount point.
GROUPS = {
    "version 2": ("0::/a/mvm-1", "/ TOP rw - cgroup2 cgroup2 rw", ["a/mvm-1", "a", ""]),
    "version 1": ("3:cpu,cpuacct:/mvm-1", "/ TOP rw - cgroup cgroup rw,cpu,cpuacct", ["mvm-1", ""]),
    "mounted from a group on": ("1:cpu:/docker/x/mvm-1", "/docker/x TOP rw - cgroup cgroup rw,cpu", ["mvm-1", ""]),
    "one that can't be seen": ("1:cpu:/elsewhere", "/ TOP rw - cgroup cgroup rw,cpu", [""]),
    "out of it": ("1:cpu:/../../a", "/ TOP rw - cgroup cgroup rw,cpu", [""]),
    "another controller": ("1:cpu:/a", "/ TOP rw - cgroup cgroup rw,cpuset", []),
    "another file system": ("0::/a", "/ TOP rw - tmpfs cgroup rw,cpu", []),
}


@pytest.mark.parametrize(("group", "mount", "wanted"), GROUPS.values(), ids=GROUPS.keys())
def test_groups(tmp_path: Path, group: str, mount: str, wanted: list[str]) -> None:
    top = tmp_path / "top"
    for name in ("", "a", "a/mvm-1", "mvm-1"):
        (top / name).mkdir(parents=True, exist_ok=True)
        (top / name / "cpu.stat").write_text(f"nr_periods 9\nnr_throttled {1 + len(name)}\nthrottled_usec 5\n")
    found = Scheduling(7, proc=made(tmp_path, group=group, mount=mount))
    assert list(found.groups()) == [str(top / name) for name in wanted]
    assert found.look().throttled == sum(1 + len(name) for name in wanted)


def test_the_real_one() -> None:
    child = spawn(["/bin/sleep", "60"], env={})
    scheduling = Scheduling(child.pid)
    try:
        until(lambda: not scheduling.look().waits)
        found = scheduling.look()
        (only,) = found.threads
        assert (only.number, only.state, found.runs, found.waits) == (child.pid, "S", True, False)
        assert only.delay_ns is not None
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        assert not scheduling.look().runs
    finally:
        child.kill()
        child.wait()
    assert scheduling.look() == Schedule((), found.throttled)
