"""A hypervisor that was taken over, in its jail: each thing that it tries fails there, and succeeds outside of it."""

import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from mvmnix.sandbox import landlock
from mvmnix.system import procfs as proc
from mvmnix.system.control_groups import ControlGroups, Controller
from mvmnix.vmm.confinement import IsolationLayer
from tests.hostile.stand_in import compiled, first_uid, jail, taken_over, tried
from tests.patience import EVENT_PATIENCE, until
from tests.repository import ROOT
from tests.support.processes import status
from tests.unit.launch.null_sandbox import NullJail

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to attack."""

    program: str
    disk: Path
    #: A directory that anybody may look into, and a process of root's.
    open: Path
    victim: int
    abstract: str

    def attack(self, words: str) -> str:
        """With the names that are only known now."""
        filled = words.replace("OPEN", str(self.open)).replace("VICTIM", str(self.victim))
        return filled.replace("ABSTRACT", self.abstract).replace("US", str(os.getpid()))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    base = tmp_path_factory.mktemp("jail")
    (base / "disk").write_bytes(b"the image")
    with ExitStack() as stack:
        program = stack.enter_context(compiled())
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mvmnix-open-")))
        where.chmod(0o755)
        for name in ("store/image", "keys/host.pem", "machines/other/console.log"):
            (where / name).parent.mkdir(parents=True)
            (where / name).write_text("somebody else's")
        name = f"mvmnix-{os.getpid()}"
        for address in (f"\0{name}", str(where / "socket")):
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(address)
            server.listen(8)
        (where / "socket").chmod(0o777)
        victim = stack.enter_context(subprocess.Popen(["sleep", "1000"], stdin=subprocess.PIPE))
        stack.callback(victim.kill)
        yield Scene(program, base / "disk", where, victim.pid, name)


#: What is tried, and how it has to fail.
ATTACKS = [
    # the host's files: those of the house, and those that anybody may read
    *(("read=OPEN/store/image", errno.ENOENT), ("read=OPEN/keys/host.pem", errno.ENOENT)),
    *(("read=OPEN/machines/other/console.log", errno.ENOENT), ("read=/etc/passwd", errno.ENOENT)),
    *(("read=/proc/US/environ", errno.ENOENT), ("read=/proc/US/root/etc/passwd", errno.ENOENT)),
    *(("read=/proc/VICTIM/maps", errno.ENOENT), ("read=/run", errno.ENOENT), ("read=/sys", errno.ENOENT)),
    *(("create=OPEN/new", errno.ENOENT), ("create=/dev/shm/mvmnix-new", errno.ENOENT)),
    *(("create=/mvmnix-new", errno.EROFS), ("mknod=OPEN/node", errno.EPERM), ("handle=/", errno.EPERM)),
    # its own disk, of which it has a descriptor for reading
    *(("rewrite", errno.EACCES), ("fchmod", errno.EPERM)),
    # other processes
    *(
        ("others", errno.EACCES if landlock.abi() else errno.ESRCH),  # besides the first process of its namespace
        ("signal=VICTIM", errno.EPERM),
        ("signal=US", errno.EPERM),
    ),
    *(("trace=VICTIM", errno.EPERM), ("steal=VICTIM", errno.EPERM), ("limit=VICTIM", errno.EPERM)),
    *(("change=/proc/VICTIM/mem", errno.ENOENT), ("change=/proc/sys/kernel/core_pattern", errno.EACCES)),
    # calls that later kernels brought
    *(("setxattrat=OPEN/store", errno.ENOSYS), ("file_setattr=OPEN/store", errno.ENOSYS)),
    # the network, and what listens on this host
    *(("inet", errno.EPERM), ("inet6", errno.EPERM), ("netlink", errno.EPERM), ("packet", errno.EPERM)),
    *(("named=OPEN/socket", errno.EPERM), ("abstract=ABSTRACT", errno.EPERM)),
    # more of itself, and other programs
    *(("fork", errno.EPERM), ("clone", errno.EPERM), ("clone3", errno.ENOSYS), ("exec=/bin/sh", errno.ENOENT)),
    # power
    *(("mount=OPEN", errno.EPERM), ("fsopen", errno.EPERM), ("chroot=/", errno.EPERM), ("userns", errno.EPERM)),
    *(("netns", errno.EPERM), ("setuid", errno.EPERM), ("hostname", errno.EPERM), ("bpf", errno.EPERM)),
    *(("perf", errno.EPERM), ("io_uring", errno.EPERM), ("keyring", errno.EPERM), ("shm", errno.EPERM)),
    *(("priority", errno.EPERM),),
    # more than it was given
    *(("room=64", errno.ENOMEM), ("crowd=500", errno.EAGAIN)),
    ("grow", errno.EFBIG),  # and lives on: SIGXFSZ spares the first process of a namespace, which it is not
]


@pytest.mark.root("most of it fails for a plain user in any case")
@pytest.mark.parametrize("attack", [words for words, _ in ATTACKS])
def test_an_attack_works_outside(scene: Scene, attack: str) -> None:
    """So that one which fails in the jail means something."""
    assert tried(scene.program, NullJail(), scene.disk, scene.attack(attack)) == {attack.partition("=")[0]: 0}


#: With a subordinate uid, and without; tasks are counted by uid.
FAILING = [(uids, *attack) for uids in (True, False) for attack in ATTACKS if uids or attack[0] != "crowd=500"]


@pytest.mark.parametrize(
    ("uids", "attack", "failure"), FAILING, ids=[f"{words}, own uid {uids}" for uids, words, _ in FAILING]
)
def test_an_attack_fails(scene: Scene, tmp_path: Path, uids: bool, attack: str, failure: int) -> None:
    """The namespaces, filters and rules are the same whether it has an own uid."""
    with jail(tmp_path, uids=uids) as it:
        assert tried(scene.program, it, scene.disk, scene.attack(attack)) == {attack.partition("=")[0]: failure}


def test_what_a_hypervisor_needs_works(scene: Scene, tmp_path: Path) -> None:
    with jail(tmp_path) as it:
        assert tried(scene.program, it, scene.disk, "thread", "read=/dev/null") == {"thread": 0, "read": 0}


@pytest.mark.delegated
def test_more_memory_than_the_plans_ends_it(scene: Scene, tmp_path: Path) -> None:
    with jail(tmp_path) as it, taken_over(scene.program, it, scene.disk, "thread", "touch=1024", "hold") as taken:
        taken.guest.settle(EVENT_PATIENCE)
        assert taken.results() == {"thread": 0}
        assert taken.guest.process.ended


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_seen_from_outside(scene: Scene, tmp_path: Path) -> None:
    with jail(tmp_path) as it, taken_over(scene.program, it, scene.disk, "hold") as taken:
        taken.wait_for("hold")
        pid, ours = taken.guest.process.pid, os.getpid()
        seen = status(pid)
        assert int(seen["Uid"].split()[0]) == first_uid(tmp_path)
        assert [set(seen[name].split()) for name in ("Uid", "Gid")] == [{seen["Uid"].split()[0]}] * 2
        assert seen["Groups"] == ""
        assert {seen[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert (seen["NoNewPrivs"], seen["Seccomp"], seen["Seccomp_filters"]) == ("1", "2", "1")
        for kind in ("mnt", "pid", "ipc", "uts", "net", "user", "cgroup"):
            theirs = Path(f"/proc/{pid}/ns/{kind}").readlink()
            assert theirs != Path(f"/proc/{ours}/ns/{kind}").readlink(), kind
        assert seen["NSpid"].split()[1:] == ["2"]
        root = Path(f"/proc/{pid}/root")
        names = {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_relative_to(root / "proc")}
        links = {name for name in ("bin", "lib", "lib64", "sbin") if Path("/", name).is_symlink()}
        program = scene.program.lstrip("/")
        parents = {str(parent) for parent in Path(program).parents} - {"."}
        held = {name for name in names if not name.startswith("usr")}
        expected = {"dev", "dev/null", program} | parents | links
        # the sandbox's own directories are closed to its caller
        assert held == {name for name in expected if "/" not in name}


@pytest.mark.root("what a process of another uid has open is told to root alone")
def test_what_it_has_open(scene: Scene, tmp_path: Path) -> None:
    with jail(tmp_path) as it, taken_over(scene.program, it, scene.disk, "hold") as taken:
        taken.wait_for("hold")
        pid = taken.guest.process.pid
        root = Path(f"/proc/{pid}/root")
        names = {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_relative_to(root / "proc")}
        assert {name for name in names if name.startswith("usr/bin/")} <= {"usr/bin/setpriv"}
        files = [
            str(path.readlink()) for path in sorted(Path(f"/proc/{pid}/fd").iterdir(), key=lambda one: int(one.name))
        ]
        assert files[:2] == ["/dev/null"] * 2
        assert sorted(name.partition(":")[0] for name in files[2:]) == sorted(
            ["pipe", "/memfd", str(scene.disk), "socket", "socket", "socket"]
        )
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert {word.partition(b"=")[0] for word in environment if word} <= {b"LC_ALL", b"PWD"}
        limits = Path(f"/proc/{pid}/limits").read_text()
        for name in ("Max core file size", "Max file size"):
            assert [line.split()[-3:-1] for line in limits.splitlines() if line.startswith(name)] == [["0", "0"]]


#: What bubblewrap's first process has open.
OWN_FILES = ["/dev/null", "/dev/null", "anon_inode", "pipe"]


def open_files(pid: int) -> list[str]:
    """The kinds of what a process has open."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(path.readlink()).partition(":")[0])
    return sorted(found)


def test_the_first_process_from_outside(scene: Scene, tmp_path: Path) -> None:
    """It is bubblewrap's, holds nothing of the hypervisor's, and waits for that alone."""
    with jail(tmp_path) as it, taken_over(scene.program, it, scene.disk, "hold") as taken:
        taken.wait_for("hold")
        pid = taken.guest.process.pid
        parent = int(status(pid)["PPid"])
        first = status(parent)
        assert (first["Name"], first["NSpid"].split()[1:], first["NoNewPrivs"]) == ("bwrap", ["1"], "1")
        assert {first[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert children(parent) == [pid], "there is no third process in its namespace"


@pytest.mark.root("what a process of another uid has open is told to root alone")
def test_what_the_first_process_has_open(scene: Scene, tmp_path: Path) -> None:
    with jail(tmp_path) as it, taken_over(scene.program, it, scene.disk, "hold") as taken:
        taken.wait_for("hold")
        pid = taken.guest.process.pid
        parent = int(status(pid)["PPid"])
        # it lets go of what the hypervisor inherits once it has started that
        until(lambda: open_files(parent) == OWN_FILES, lambda: open_files(parent))
        mounted = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
        assert {words[5].split(",")[0] for words in mounted if words[4].startswith("/proc")} == {"ro"}


def test_it_says_what_stands_around_it(scene: Scene, tmp_path: Path) -> None:
    """What the receipt will have is what can be seen from outside."""
    with jail(tmp_path) as it, taken_over(scene.program, it, scene.disk, "hold") as taken:
        taken.wait_for("hold")
        pid, seen = taken.guest.process.pid, status(taken.guest.process.pid)
        expected = {
            IsolationLayer.NAMESPACES: Path(f"/proc/{pid}/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink(),
            IsolationLayer.OWN_UID: int(seen["Uid"].split()[0]) != os.getuid(),
            IsolationLayer.SECCOMP: seen["Seccomp"] == "2",
            IsolationLayer.LANDLOCK: landlock.abi() > 0,
        }
        held = [path for path in groups(tmp_path) if str(pid) in (path / "cgroup.procs").read_text().split()]
        for controller in Controller:
            expected[IsolationLayer(f"cgroup-{controller}")] = any(list(path.glob(f"{controller}.*")) for path in held)
        assert taken.guest.process.layers == tuple(layer for layer in IsolationLayer if expected.get(layer))


def groups(path: Path) -> list[Path]:
    """The control groups of the one sandbox that is taken."""
    (note,) = (path / "cells").glob("*.json")
    return [Path(name) for name in json.loads(note.read_bytes())["groups"]]


@pytest.mark.delegated
def test_control_groups_hold_it_and_go_with_it(scene: Scene, tmp_path: Path) -> None:
    usable = ControlGroups.find()
    assert usable.parents, "mount the hierarchies of control groups for writing"
    with jail(tmp_path) as it, taken_over(scene.program, it, scene.disk, "hold") as taken:
        taken.wait_for("hold")
        paths = groups(tmp_path)
        assert len(paths) == len(usable.parents)
        for path in paths:
            assert str(taken.guest.process.pid) in (path / "cgroup.procs").read_text().split()
        if "memory" in usable.controllers:
            (limit,) = [
                file for path in paths for name in ("limit_in_bytes", "max") for file in path.glob(f"memory.{name}")
            ]
            assert int(limit.read_text()) == (64 + 64) << 20
    assert not [path for path in paths if path.exists()]


def test_no_two_machines_share_a_uid(scene: Scene, tmp_path: Path) -> None:
    with ExitStack() as stack:
        one = stack.enter_context(jail(tmp_path))
        other = stack.enter_context(jail(tmp_path))  # as another process would have it
        both = [stack.enter_context(taken_over(scene.program, it, scene.disk, "hold")) for it in (one, other, one)]
        for taken in both:
            taken.wait_for("hold")
        assert len({status(taken.guest.process.pid)["Uid"] for taken in both}) == 3
    assert list((tmp_path / "cells").iterdir()) == []


@pytest.mark.parametrize("ended", ["by us", "by itself"])
def test_what_it_used_is_told(scene: Scene, tmp_path: Path, ended: str) -> None:
    """The kernel tells it once, to the process that reaps it, which is the first of its namespace."""
    before = set(proc.children(os.getpid()))
    with jail(tmp_path) as it, taken_over(scene.program, it, scene.disk, "touch=40", "spin=1", "hold") as taken:
        taken.wait_for("hold")
        process = taken.guest.process
        assert set(proc.children(os.getpid())) > before
        assert process.executable() is not None
        until(lambda: process.cpu_seconds() >= 0.2)
        if ended == "by itself":
            os.kill(process.pid, signal.SIGKILL)
            taken.guest.settle(EVENT_PATIENCE)
        taken.guest.close()
        assert process.usage is not None
        assert process.usage.peak_kib >= 40 << 10
        assert process.usage.user_ms + process.usage.system_ms >= 200
        assert process.status == 128 + signal.SIGKILL
        assert set(proc.children(os.getpid())) == before, "each child of this jail was reaped"


def test_it_has_ended_before_the_first_process_has(scene: Scene, tmp_path: Path) -> None:
    """What is read of it by its number is gone then: a server whose bytes are counted had written nobody knows what."""
    with jail(tmp_path) as it, taken_over(scene.program, it, scene.disk, "hold") as taken:
        taken.wait_for("hold")
        process = taken.guest.process
        inside, first = os.pidfd_open(process.pid), int(status(process.pid)["PPid"])
        os.kill(first, signal.SIGSTOP)
        os.kill(process.pid, signal.SIGKILL)
        assert select.select([inside], [], [], EVENT_PATIENCE)[0]
        assert process.ended
        assert not select.select([process], [], [], 0)[0]
        os.kill(first, signal.SIGCONT)
        assert select.select([process], [], [], EVENT_PATIENCE)[0]
        os.close(inside)


KILLED = """
import os, sys
from pathlib import Path
from tests.hostile.stand_in import jail, taken_over
with jail(Path(sys.argv[1])) as it, taken_over(sys.argv[2], it, Path(sys.argv[3]), *sys.argv[4:], "hold") as taken:
    taken.wait_for("hold")
    print(taken.guest.process.pid, *taken.results().values(), flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_supervisor_leaves_the_next_call_cleans_up(scene: Scene, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", KILLED, str(tmp_path), scene.program, str(scene.disk)]
    supervisor = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    inside = int(supervisor.stdout.readline().split()[0])
    uid, left = status(inside)["Uid"].split()[0], groups(tmp_path)
    assert all(path.exists() for path in left)
    with jail(tmp_path) as it:
        it.sweep()
        assert Path(f"/proc/{inside}").exists(), "a machine that lives is left alone"
        supervisor.send_signal(signal.SIGKILL)
        supervisor.communicate()
        it.sweep()
    assert not [path for path in left if path.exists()]
    assert list((tmp_path / "cells").iterdir()) == []
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if uid in uids(pid)]


@pytest.mark.parametrize("victim", ["the hypervisor", "the first process", "the jailer"])
def test_each_process_takes_the_others_along(scene: Scene, tmp_path: Path, victim: str) -> None:
    """Bubblewrap made the sandbox, and is its first process, too: none outlives the others; the sandbox is free."""
    mounts = Path("/proc/self/mountinfo").read_text()
    with jail(tmp_path) as it, taken_over(scene.program, it, scene.disk, "hold") as taken:
        taken.wait_for("hold")
        inside = taken.guest.process.pid
        first = int(status(inside)["PPid"])
        jailer = int(status(first)["PPid"])
        left = groups(tmp_path)
        os.kill({"the hypervisor": inside, "the first process": first, "the jailer": jailer}[victim], signal.SIGKILL)
        taken.guest.settle(EVENT_PATIENCE)
        assert taken.guest.process.ended
        taken.guest.close()
        assert [uids(Path(f"/proc/{pid}")) for pid in (inside, first, jailer)] == [[], [], []]
        assert not [path for path in left if path.exists()]
        assert list((tmp_path / "cells").iterdir()) == []
    assert Path("/proc/self/mountinfo").read_text() == mounts


@pytest.mark.parametrize("attack", [[], ["survive"]], ids=["as it is", "taken over"])
def test_it_dies_with_its_supervisor_before_anybody_cleans_up(scene: Scene, tmp_path: Path, attack: list[str]) -> None:
    """One that was taken over no longer dies with its parent; the first process of its namespace does."""
    argv = [sys.executable, "-c", KILLED, str(tmp_path), scene.program, str(scene.disk), *attack]
    supervisor = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    pid, *results = map(int, supervisor.stdout.readline().split())
    assert set(results) == {0}
    inside = os.pidfd_open(pid)
    supervisor.send_signal(signal.SIGKILL)
    supervisor.communicate()
    assert select.select([inside], [], [], EVENT_PATIENCE)[0]
    os.close(inside)
    with jail(tmp_path) as it:
        it.sweep()


def test_the_first_process_is_out_of_its_reach(scene: Scene, tmp_path: Path) -> None:
    """It is ours and has the same uid. What fails here is seen to work on other processes above."""
    files = ("change=/proc/1/mem", "change=/proc/1/oom_score_adj", "change=/proc/self/oom_score_adj")
    calls = ("signal=1", "trace=1", "steal=1", "limit=1")
    with jail(tmp_path) as it:
        for words in files:
            assert set(tried(scene.program, it, scene.disk, words).values()) <= {errno.EACCES, errno.EROFS}, words
        assert set(tried(scene.program, it, scene.disk, *calls).values()) == {errno.EPERM}
        with taken_over(scene.program, it, scene.disk, "survive", "hold") as taken:
            taken.wait_for("hold")
            first = status(int(status(taken.guest.process.pid)["PPid"]))
            assert first["State"][0] in "RSD", "neither SIGSTOP nor SIGKILL came to it"  # a loaded host lets it wait


def uids(process: Path) -> list[str]:
    """Those of a process that has not ended."""
    try:
        seen = status(int(process.name))
    except OSError:
        return []
    return [] if seen["State"].startswith("Z") else seen["Uid"].split()
