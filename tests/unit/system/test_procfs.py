"""What the kernel counts of a process, as it says it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from mvmnix.system import procfs

MIB, PAGE, TIMES = 1 << 20, os.sysconf("SC_PAGE_SIZE"), 16


def by_another(work: Callable[[], object]) -> int | None:
    """What a process has written that did this and nothing else."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        work()
        os.write(theirs, b"d")
        signal.pause()
    os.read(ours, 1)
    try:
        return procfs.written(child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ours)
        os.close(theirs)


def test_what_a_process_writes_is_counted(tmp_path: Path) -> None:
    assert procfs.counts_written()
    written = by_another(lambda: (tmp_path / "file").write_bytes(bytes(MIB)))
    assert written is not None
    assert MIB <= written < MIB + 4 * PAGE


def test_what_a_call_touches_counts_and_not_what_lies_beside_it(tmp_path: Path) -> None:
    """A byte makes a whole piece of the page cache dirty, as large as what was read at once: here a MiB of each."""
    with (tmp_path / "file").open("w+b") as file:
        fd = file.fileno()
        file.write(bytes(TIMES * MIB))
        file.flush()
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for number in range(TIMES):
            os.pread(fd, MIB, number * MIB)

        def touch() -> None:
            for number in range(TIMES):
                os.pwrite(fd, b"x", number * MIB + 5000)

        written = by_another(touch)
    assert written is not None
    assert TIMES < written <= TIMES * (1 + 2 * PAGE) + 2 * PAGE + 1


def test_a_process_that_is_gone_has_written_nothing_that_one_knows() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert procfs.written(child) is None
    assert procfs.stat(child) is None


def test_children_are_those_of_every_thread_and_none_of_a_process_that_is_gone() -> None:
    made: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: made.append(subprocess.Popen(["sleep", "1000"])))
    thread.start()
    thread.join()
    made.append(subprocess.Popen(["sleep", "1000"]))
    try:
        assert {child.pid for child in made} <= set(procfs.children(os.getpid()))
    finally:
        for child in made:
            child.kill()
            child.wait()
    assert list(procfs.children(made[0].pid)) == []


def test_what_is_mounted_and_which_groups_a_process_is_in() -> None:
    said = ("22 1 0:28 /a\\134b /mnt/two\\040words rw shared:1 - cgroup none rw,cpu,cpuacct",)
    assert list(procfs.mounts(said)) == [
        procfs.Mount("22", "0:28", "/a\\b", "/mnt/two words", "cgroup", ("rw", "cpu", "cpuacct"))
    ]
    assert procfs.groups(("3:cpu,cpuacct:/a:b", "0::/")) == {"cpu,cpuacct": "/a:b", "": "/"}


def test_what_rights_a_process_has() -> None:
    root = os.geteuid() == 0
    code = "import os\n" + "os.setresuid(6, 7, 6)\n" * root + "print(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        uids, held = procfs.uids(child.pid), procfs.capabilities(child.pid)
        child.communicate(b"\n")
    assert uids == ({6, 7} if root else {os.geteuid()})
    assert set(held) == {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}
    assert (held["CapEff"], held["CapPrm"]) == (0, 0)
    assert procfs.capabilities(os.getpid())["CapEff"] == root * held["CapBnd"]
