"""Control groups in stand-ins for hierarchies of both versions; the real ones are in tests/hostile/test_jail.py."""

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.system import control_groups
from mvmnix.system.control_groups import ControlGroups, Controller, Group, GroupLimits, Parent, remove

LIMITS = GroupLimits(memory=1 << 30, tasks=97, processors=1.5)


def proc(path: Path, own: str, *mounts: tuple[str, str, str]) -> str:
    """A stand-in for /proc/self: what is mounted there, as type, place and options."""
    (path / "cgroup").write_text(own)
    lines = [f"30 20 0:1 / {where} rw - {kind} {kind} {options}\n" for kind, where, options in mounts]
    (path / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/root rw\n" + "".join(lines))
    return str(path)


def v2(path: Path, *, controllers: str, enabled: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "cgroup.controllers").write_text(controllers)
    (path / "cgroup.subtree_control").write_text(enabled)
    (path / "cgroup.procs").touch()
    return path


@pytest.mark.parametrize(("weight", "shares"), [(100, "1024"), (1, "10"), (10_000, "102400")])
def test_a_weight(weight: int, shares: str) -> None:
    limits = replace(LIMITS, processors=0.5, weight=weight)
    one, two = (control_groups._settings(Parent("", version, (Controller.CPU,)), limits) for version in (1, 2))
    assert one == {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000", "cpu.shares": shares}
    assert two == {"cpu.max": "50000 100000", "cpu.weight": str(weight)}


def test_no_limit_on_processors() -> None:
    limits = GroupLimits(memory=1 << 30, tasks=97)
    one, two = (control_groups._settings(Parent("", version, (Controller.CPU,)), limits) for version in (1, 2))
    assert one == {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "-1"}
    assert two == {"cpu.max": "max 100000"}


def test_some_controllers_alone() -> None:
    cpu, memory = Parent("/cpu", 1, (Controller.CPU,)), Parent("/unified", 2, (Controller.CPU, Controller.MEMORY))
    found = ControlGroups((cpu, memory))
    assert found.limiting(Controller.MEMORY).parents == (replace(memory, controllers=(Controller.MEMORY,)),)
    assert found.limiting(Controller.TASKS).parents == ()


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("memory.events", "low 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n", True),
        ("memory.events", "low 0\nmax 7\noom 1\noom_kill 0\n", False),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 12\n", True),
        ("memory.oom_control", "oom_kill_disable 1\nunder_oom 1\noom_kill 0\n", False),
        ("memory.oom_control", "oom_kill_disable 1\nunder_oom 1\n", False),
        ("pids.events", "oom_kill 1\n", False),
    ],
)
def test_what_memory_led_to(tmp_path: Path, file: str, text: str, *, expected: bool) -> None:
    (tmp_path / file).write_text(text)
    assert Group((str(tmp_path / "gone"), str(tmp_path)), ()).ran_out_of_memory() is expected


@pytest.mark.parametrize("name", [b"a\x0bb", b"a\rb", b"a\x1cb", b"a\xc2\x85b", b"a\xe2\x80\xa8b", b"\xff"], ids=repr)
def test_where_a_stranger_mounts_something_is_in_nobodys_way(tmp_path: Path, name: bytes) -> None:
    """Whoever may mount, with fusermount3 any user, chooses the directory, and the kernel lists its name as it is."""
    (tmp_path / "pids").mkdir()
    here = proc(tmp_path, "1:pids:/\n", ("cgroup", f"{tmp_path}/pids", "rw,pids"))
    ours = ControlGroups.find(proc=here)
    assert ours.controllers == {Controller.TASKS}
    lines = (tmp_path / "mountinfo").read_bytes()
    (tmp_path / "mountinfo").write_bytes(b"23 1 0:44 / /mnt/" + name + b" rw - fuse.stranger x rw\n" + lines)
    assert ControlGroups.find(proc=here) == ours


def settings(path: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in path.iterdir() if file.name != "cgroup.procs"}


def made(found: ControlGroups, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What is written into new groups; a kernel would put files there."""
    mkdir = os.mkdir

    def kernel(path: str, mode: int) -> None:
        mkdir(path, mode)
        for name in ("cgroup.procs", "memory.swap.max"):
            Path(path, name).touch()

    monkeypatch.setattr(os, "mkdir", kernel)
    monkeypatch.setattr(control_groups, "_write", lambda path, value: Path(path).write_text(value))
    group = found.group("mvmnix-0", LIMITS)
    group.join()
    group.close()
    for path in found.paths("mvmnix-0"):
        assert (Path(path) / "cgroup.procs").read_text() == "0"
    return [settings(Path(path)) for path in found.paths("mvmnix-0")]


def test_version_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("memory/ours", "cpu,cpuacct", "pids", "freezer"):
        (tmp_path / name).mkdir(parents=True)
    here = proc(
        tmp_path,
        "4:memory:/ours\n3:cpu,cpuacct:/\n2:pids:/not/to/be/seen\n1:freezer:/\n",
        *(("cgroup", f"{tmp_path}/{name}", f"rw,{name}") for name in ("memory", "cpu,cpuacct", "pids", "freezer")),
    )
    found = ControlGroups.find(proc=here)
    assert [parent.path for parent in found.parents] == [
        f"{tmp_path}/memory/ours",
        f"{tmp_path}/cpu,cpuacct",
        f"{tmp_path}/pids",
    ]
    assert made(found, monkeypatch) == [
        {"memory.limit_in_bytes": str(1 << 30), "memory.memsw.limit_in_bytes": str(1 << 30), "memory.swap.max": ""},
        {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000", "memory.swap.max": ""},
        {"pids.max": "97", "memory.swap.max": ""},
    ]


def test_version_2_hands_on_from_the_nearest_group_that_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = v2(tmp_path / "unified", controllers="cpu memory pids", enabled="cpu memory pids")
    v2(top / "user.slice", controllers="cpu memory pids", enabled="cpu memory pids")
    session = v2(top / "user.slice/session", controllers="cpu memory pids", enabled="")
    session.joinpath("cgroup.subtree_control").chmod(0o444)
    here = proc(tmp_path, "0::/user.slice/session\n", ("cgroup2", str(top), "rw"))
    monkeypatch.setattr(Path, "write_text", refusing(session))
    found = ControlGroups.find(proc=here)
    monkeypatch.undo()
    assert [(parent.path, parent.version) for parent in found.parents] == [(f"{top}/user.slice", 2)]
    assert found.controllers == {"cpu", "memory", "pids"}
    (written,) = made(found, monkeypatch)
    assert written == {"cpu.max": "150000 100000", "memory.max": str(1 << 30), "memory.swap.max": "0", "pids.max": "97"}


def test_where_a_process_can_not_be_moved_no_group_is_made(tmp_path: Path) -> None:
    top = v2(tmp_path / "unified", controllers="memory", enabled="memory")
    here = proc(tmp_path, "0::/\n", ("cgroup2", str(top), "rw"))
    assert ControlGroups.find(proc=here).controllers == {Controller.MEMORY}
    (top / "cgroup.procs").unlink()
    assert ControlGroups.find(proc=here).parents == ()


def test_a_group_of_threads_counts_as_one_with_processes(tmp_path: Path) -> None:
    """It doesn't tell of them: the file can't be read (EOPNOTSUPP)."""
    (tmp_path / "cgroup.type").touch()
    (tmp_path / "cgroup.procs").mkdir()
    assert control_groups._has_processes(tmp_path)


def test_a_group_with_processes_hands_nothing_on(tmp_path: Path) -> None:
    """The kernel would let it hand on processor time and tasks, to groups that take no process."""
    top = v2(tmp_path / "unified", controllers="cpu pids", enabled="")
    ours = v2(top / "ours", controllers="cpu pids", enabled="cpu pids")
    (ours / "cgroup.type").write_text("domain\n")
    (ours / "cgroup.procs").write_text("7\n")
    (top / "cgroup.procs").write_text("1\n")
    here = proc(tmp_path, "0::/ours\n", ("cgroup2", str(top), "rw"))
    assert ControlGroups.find(proc=here).parents == ()
    (top / "cgroup.subtree_control").write_text("cpu pids")  # the kernel's top may have processes
    assert [(it.path, it.controllers) for it in ControlGroups.find(proc=here).parents] == [(str(top), ("cpu", "pids"))]


@pytest.mark.parametrize(
    ("group", "found"),
    [
        ("user@7.service/app.slice/a.scope/supervisor", "user@7.service/app.slice/a.scope"),
        ("user@7.service/app.slice/app-x.slice/a.service", None),
        ("user@7.service/a.scope", None),
        ("other.service/a", "other.service"),
    ],
)
def test_no_group_is_made_beside_a_managers_units(tmp_path: Path, group: str, found: str | None) -> None:
    top = v2(tmp_path / "unified", controllers="cpu", enabled="")
    for part in (*reversed(Path(group).parents), Path(group)):
        where = v2(top / part, controllers="cpu", enabled="" if part == Path() else "cpu")
        (where / "cgroup.type").write_text("domain\n")
    (top / group / "cgroup.procs").write_text("7\n")
    here = proc(tmp_path, f"0::/{group}\n", ("cgroup2", str(top), "rw"))
    assert [it.path for it in ControlGroups.find(proc=here).parents] == ([] if found is None else [str(top / found)])


def refusing(session: Path) -> object:
    """A group that has processes can't hand controllers on: the kernel answers EBUSY."""
    real = Path.write_text

    def write_text(self: Path, data: str, encoding: str | None = None) -> int:
        if self.parent == session:
            raise OSError(16, "Device or resource busy")
        return real(self, data, encoding=encoding)

    return write_text


def test_each_controller_from_where_it_is(tmp_path: Path) -> None:
    top = v2(tmp_path / "unified", controllers="pids", enabled="pids")
    (tmp_path / "memory").mkdir()
    here = proc(
        tmp_path,
        "1:memory:/\n0::/\n",
        ("cgroup", f"{tmp_path}/memory", "rw,memory"),
        ("cgroup2", str(top), "rw"),
    )
    found = ControlGroups.find(proc=here)
    assert {(parent.path, parent.version) for parent in found.parents} == {(f"{tmp_path}/memory", 1), (str(top), 2)}
    assert found.controllers == {"memory", "pids"}


def test_a_host_without_any(tmp_path: Path) -> None:
    assert ControlGroups.find(proc=proc(tmp_path, "0::/\n")).parents == ()


def test_a_group_that_is_in_the_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.system.control_groups._TIMEOUT", 0.1)
    (tmp_path / "memory").mkdir()
    (tmp_path / "pids/mvmnix-0/full").mkdir(parents=True)
    here = proc(
        tmp_path,
        "2:memory:/\n1:pids:/\n",
        ("cgroup", f"{tmp_path}/memory", "rw,memory"),
        ("cgroup", f"{tmp_path}/pids", "rw,pids"),
    )
    with pytest.raises(OSError, match="mvmnix-0"):
        ControlGroups.find(proc=here).group("mvmnix-0", LIMITS)


def test_removing_kills_what_is_left_in_it(tmp_path: Path) -> None:
    assert remove(str(tmp_path / "never-there"))
    group = tmp_path / "group"
    group.mkdir()
    with subprocess.Popen(["sleep", "1000"]) as left:
        (group / "cgroup.procs").write_text(f"{left.pid}\n")

        def gone(_number: int, _frame: object) -> None:
            (group / "cgroup.procs").unlink()

        before = signal.signal(signal.SIGCHLD, gone)
        try:
            assert remove(str(group))
        finally:
            signal.signal(signal.SIGCHLD, before)
        assert left.wait() == -signal.SIGKILL
    assert not group.exists()


@pytest.fixture
def owners(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int]]:
    """To whom files of groups were given; a kernel puts files into new groups."""
    given: dict[str, tuple[int, int]] = {}
    mkdir = Path.mkdir

    def kernel(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        mkdir(path, mode, parents, exist_ok)
        for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "cgroup.type"):
            (path / name).touch()
        if not (path / "cgroup.controllers").exists() and (path.parent / "cgroup.subtree_control").exists():
            (path / "cgroup.controllers").write_text("cpu memory pids")

    monkeypatch.setattr(Path, "mkdir", kernel)
    monkeypatch.setattr(os, "chown", lambda path, uid, gid: given.update({str(path): (uid, gid)}))
    return given


def test_groups_of_version_1_are_handed_over(tmp_path: Path, owners: dict[str, tuple[int, int]]) -> None:
    """Beneath the own ones, of what limits anything; a later command takes the same."""
    for name in ("memory/ours", "cpu,cpuacct", "pids", "freezer"):
        os.makedirs(tmp_path / name)  # noqa: PTH103 - Path.mkdir is the kernel's
    own = "4:memory:/ours\n3:cpu,cpuacct:/not/seen\n2:pids:/\n1:freezer:/\n"
    mounts = (("cgroup", str(tmp_path / name), f"rw,{name}") for name in ("memory", "cpu,cpuacct", "pids", "freezer"))
    here = proc(tmp_path, own, *mounts)
    for _ in range(2):
        assert control_groups.hand_over(7, 9, proc=here) == ""
    groups = {f"{tmp_path}/{name}/mvmnix-7" for name in ("memory/ours", "cpu,cpuacct", "pids")}
    assert owners == {path: (7, 9) for group in groups for path in (group, f"{group}/cgroup.procs")}
    assert {Path(group, "cgroup.procs").read_text() for group in groups} == {"0"}
    moved = own.replace("/ours", "/ours/mvmnix-7").replace("/not/seen", "/mvmnix-7").replace("pids:/", "pids:/mvmnix-7")
    (tmp_path / "cgroup").write_text(moved)
    assert control_groups.hand_over(7, 9, proc=here) == "", "one that was handed over is taken as it is"
    assert not list(tmp_path.rglob("mvmnix-7/mvmnix-7"))


def test_the_topmost_group_of_version_2_gets_one_beneath(tmp_path: Path, owners: dict[str, tuple[int, int]]) -> None:
    top = v2(tmp_path / "unified", controllers="cpu memory pids", enabled="cpu memory pids")
    (top / "cgroup.type").unlink()
    here = proc(tmp_path, "0::/\n", ("cgroup2", f"{tmp_path}/unified", "rw"))
    assert control_groups.hand_over(7, 9, proc=here) == ""
    group = tmp_path / "unified/mvmnix-7"
    assert {Path(path).relative_to(group).parts[0] for path in owners if path != str(group)} == {
        *("supervisor", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads")
    }
    assert (group / "supervisor/cgroup.procs").read_text() == "0"
    assert (group / "cgroup.procs").read_text() == "", "one that has processes hands nothing on"


@pytest.mark.parametrize(
    ("members", "delegated", "handed"),
    [("OURS", True, True), ("OURS", False, False), ("OURS 1", True, False), ("1", True, False)],
)
def test_a_group_of_version_2_with_processes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owners: dict[str, tuple[int, int]],
    members: str,
    delegated: bool,
    handed: bool,
) -> None:
    """It is handed over where this process is alone in it and systemd says that it may divide it."""
    own = v2(tmp_path / "unified/run.scope", controllers="cpu memory pids", enabled="cpu memory pids")
    (own / "cgroup.type").touch()
    (own / "cgroup.procs").write_text(members.replace("OURS", str(os.getpid())).replace(" ", "\n"))
    monkeypatch.setattr(control_groups, "is_delegated", lambda _: delegated)
    here = proc(tmp_path, "0::/run.scope\n", ("cgroup2", f"{tmp_path}/unified", "rw"))
    said = control_groups.hand_over(7, 9, proc=here)
    assert bool(owners) is handed
    assert (own / "supervisor").exists() is handed
    assert said == (
        ""
        if handed
        else f"no control group of this user's limits cpu, memory, pids: {own}: other processes are in it, "
        "so it hands no limits on"
    )


def test_where_there_is_nothing_to_hand_over(tmp_path: Path) -> None:
    assert "no hierarchy of control groups is mounted" in control_groups.hand_over(7, 9, proc=proc(tmp_path, ""))


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("unified/user.slice/session/memory.max", "max\n", False),
        ("unified/user.slice/session/memory.max", "1073741824\n", True),
        ("unified/user.slice/memory.max", "1073741824\n", True),
        ("unified/user.slice/cpu.max", "50000 100000\n", True),
        ("unified/user.slice/cpu.max", "max 100000\n", False),
        ("unified/user.slice/other/memory.max", "1073741824\n", False),
        ("unified/memory.max", "1073741824\n", True),
        ("memory.max", "1073741824\n", False),
        ("memory/ours/memory.limit_in_bytes", "9223372036854771712\n", False),
        ("memory/ours/memory.limit_in_bytes", "1073741824\n", True),
        ("memory/memory.limit_in_bytes", "1073741824\n", True),
        ("cpu/cpu.cfs_quota_us", "-1\n", False),
        ("cpu/cpu.cfs_quota_us", "50000\n", True),
    ],
)
def test_whether_a_process_is_within_limits(tmp_path: Path, file: str, text: str, *, expected: bool) -> None:
    """Of its own groups, and of those above them as far as the hierarchy is mounted; of no other."""
    mounts = (("cgroup2", "unified", "rw"), ("cgroup", "memory", "rw,memory"), ("cgroup", "cpu", "rw,cpu"))
    for name in ("unified/user.slice/session", "unified/user.slice/other", "memory/ours", "cpu"):
        (tmp_path / name).mkdir(parents=True)
    here = proc(
        tmp_path,
        "2:memory:/ours\n1:cpu:/\n0::/user.slice/session\n",
        *((kind, f"{tmp_path}/{where}", options) for kind, where, options in mounts),
    )
    assert not control_groups.is_within_limits(proc=here)
    (tmp_path / file).write_text(text)
    assert control_groups.is_within_limits(proc=here) is expected
