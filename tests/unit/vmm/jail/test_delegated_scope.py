"""Control groups from a user's systemd: a working fake of the manager, and what is said where there is none.

The real one is asked by tests/vm/test_systemd.py.
"""

import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given

from mvmnix.errors import MvmnixError
from mvmnix.sandbox.trusted_executables import Candidates
from mvmnix.system import control_groups, process
from mvmnix.system.child_causes import Cause
from mvmnix.system.control_groups import ControlGroups, Controller
from mvmnix.system.process import Completed, ProcessError
from mvmnix.vmm.jail import delegated_scope
from mvmnix.vmm.jail.delegated_scope import Obtained, delegation_command, obtain, scope_command
from tests.unit.strangers import TEXTS

ALL = "cpu memory pids"
SLICES = f"user.slice/user-{os.geteuid()}.slice/user@{os.geteuid()}.service"
#: Where the user may write.
OWNED = re.compile(rf"{re.escape(SLICES)}|runner\.service")
SEPARATE = delegated_scope._separate


@dataclass
class Manager:
    """A user's manager: its part of the hierarchy, `proc` as the kernel shows it, and each call that it got."""

    path: Path
    controllers: str = ALL
    delegates: bool = False
    moves: bool = True
    calls: list[str] = field(default_factory=list)

    def group(self, name: str, *processes: int) -> Path:
        """A group beneath the top; those in between have no processes, and hand everything on."""
        where = self.path / "top"
        for part in ("", *Path(name).parts):
            where /= part
            where.mkdir(exist_ok=True, parents=True)
            for file in ("cgroup.controllers", "cgroup.subtree_control"):
                (where / file).write_text(self.controllers)
            for file in ("cgroup.procs", "cgroup.type"):
                (where / file).touch()
        (where / "cgroup.procs").write_text("".join(f"{one}\n" for one in processes))
        return where

    def enter(self, name: str, *beside: int) -> Path:
        """Put this process into a group; the kernel would see that by itself."""
        (self.path / "proc/self/cgroup").write_text(f"0::/{name}\n")
        return self.group(name, os.getpid(), *beside)

    def separate(self, unit: Path) -> frozenset[Controller]:
        """The kernel takes a process out of the group that it leaves."""
        found = SEPARATE(unit)
        (unit / "cgroup.procs").write_text("")
        return found

    def run(self, argv: Sequence[str], **_: object) -> Completed:
        verb = "StartTransientUnit" if "StartTransientUnit" in argv else "get-property"
        self.calls.append(verb)
        if verb == "get-property":
            return Completed(tuple(argv), 0, b"b true\n" if self.delegates else b"b false\n", b"")
        if self.moves:
            name = argv[argv.index("ssa(sv)a(sa(sv))") + 1]
            self.enter(f"{SLICES}/app.slice/{name}")
        return Completed(tuple(argv), 0, b'o "/org/freedesktop/systemd1/job/1"\n', b"")


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    it = Manager(tmp_path)
    runtime = tmp_path / "run" / str(os.geteuid())
    (runtime / "systemd").mkdir(parents=True)
    (tmp_path / f"proc/{os.getpid()}").mkdir(parents=True)  # whom the kernel names as the listener
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/self/mountinfo").write_text(f"30 20 0:1 / {tmp_path}/top rw - cgroup2 cgroup2 rw\n")
    (tmp_path / f"proc/{os.getpid()}/cgroup").write_text(f"0::/{SLICES}/init.scope\n")
    it.group(f"{SLICES}/init.scope", os.getpid())
    monkeypatch.setattr(delegated_scope, "_RUNTIME", str(tmp_path / "run"))
    monkeypatch.setattr(delegated_scope, "_asked", {})
    monkeypatch.setattr(delegated_scope, "BUSCTL", Candidates("busctl", ("/bin/true",), "apt-get install systemd"))
    find = ControlGroups.find
    monkeypatch.setattr(ControlGroups, "find", lambda: find(proc=str(tmp_path / "proc/self")))
    monkeypatch.setattr(control_groups, "unified", partial(control_groups.unified, proc=str(tmp_path / "proc")))
    monkeypatch.setattr(process, "run", it.run)
    monkeypatch.setattr(delegated_scope, "_separate", it.separate)
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: real(path, mode) and bool(OWNED.search(str(path))))
    monkeypatch.chdir(runtime)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as private, socket.socket(socket.AF_UNIX) as bus:
        private.bind("systemd/private")
        private.listen(8)
        bus.bind("bus")
        yield it


def session(manager: Manager) -> None:
    """A log-in's scope, to which its user may not write."""
    manager.enter("user.slice/session-1.scope")


def own(found: Obtained) -> str:
    (parent,) = found.groups.parents
    assert (parent.version, set(parent.controllers)) == (2, set(Controller))
    return Path(parent.path).name


def test_out_of_a_session(manager: Manager) -> None:
    session(manager)
    found = obtain()
    assert found.obstacle is None
    assert re.fullmatch(rf"mvmnix-{os.getpid()}-[0-9a-f]{{8}}\.scope", own(found))
    assert (Path(found.groups.parents[0].path) / "supervisor/cgroup.procs").read_text() == "0"
    assert obtain() == found
    assert manager.calls == ["StartTransientUnit"]


@pytest.mark.parametrize(
    ("file", "value", "stays"),
    [("memory.max", "1000000", True), ("cpu.max", "50000 100000", True), ("cpu.max", "max 100000", False)],
)
def test_a_unit_with_limits_of_its_own_is_not_left(manager: Manager, file: str, value: str, stays: bool) -> None:
    """Who started mvm in it would find it unlimited."""
    manager.enter(f"{SLICES}/app.slice/run-1.scope", 1)
    (manager.path / f"top/{SLICES}/app.slice/run-1.scope" / file).write_text(f"{value}\n")
    found = obtain()
    assert (found.obstacle is not None) is stays
    assert ("StartTransientUnit" in manager.calls) is not stays
    if found.obstacle is not None:
        assert "limits of its own, run-1.scope" in str(found.obstacle)
        assert "Delegate=yes" in str(found.obstacle.hint)


@pytest.mark.parametrize("name", ["run-1.service", "run-1.scope"])
def test_alone_in_a_unit_that_was_delegated(manager: Manager, name: str) -> None:
    manager.delegates = True
    manager.enter(f"{SLICES}/app.slice/{name}")
    assert own(obtain()) == name
    assert manager.calls == ["get-property"]


def test_alone_in_a_service_of_the_systems(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's manager marks what it has handed over, and no user's is needed."""
    group = manager.enter("system.slice/runner.service")
    monkeypatch.setattr(os, "getxattr", lambda path, name: b"1" if (path, name) == (group, "user.delegate") else b"")
    assert own(obtain()) == "runner.service"
    assert manager.calls == []


@pytest.mark.parametrize(
    ("name", "beside", "delegates", "asked"),
    [
        ("run-1.service", (), False, ["get-property"]),
        ("run-1.scope", (7,), True, []),
        ("odd.mount", (), True, []),
    ],
    ids=["not delegated", "not alone", "of another kind"],
)
def test_out_of_another_unit(
    manager: Manager, name: str, beside: tuple[int, ...], delegates: bool, asked: list[str]
) -> None:
    manager.delegates = delegates
    manager.enter(f"{SLICES}/app.slice/{name}", *beside)
    assert own(obtain()).startswith("mvmnix-")
    assert manager.calls == [*asked, "StartTransientUnit"]


def test_where_there_are_groups_already_nothing_is_asked(manager: Manager) -> None:
    manager.enter(f"{SLICES}/app.slice/mine.scope/supervisor")
    assert own(obtain()) == "mine.scope"
    assert manager.calls == []


def test_a_fork_asks_for_itself(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    session(manager)
    manager.moves = False
    monkeypatch.setattr(delegated_scope, "_SECONDS", 0)
    assert obtain().obstacle == obtain().obstacle
    monkeypatch.setattr(os, "getpid", lambda: 1)
    obtain()
    assert manager.calls == ["StartTransientUnit"] * 2


def gone(manager: Manager, _: pytest.MonkeyPatch) -> None:
    Path("systemd/private").unlink()


def deaf(manager: Manager, _: pytest.MonkeyPatch) -> None:
    Path("bus").unlink()


def elsewhere(manager: Manager, _: pytest.MonkeyPatch) -> None:
    """In another part of the hierarchy than this process can see."""
    (manager.path / f"proc/{os.getpid()}/cgroup").write_text("0::/../../init.scope\n")


def anothers(_: Manager, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(socket.socket, "getsockopt", lambda *_: b"\0" * 12)


def uninstalled(_: Manager, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(delegated_scope, "BUSCTL", Candidates("busctl", ("/proc/nonexistent",), "apt-get install systemd"))


def refused(_: Manager, patch: pytest.MonkeyPatch) -> None:
    def run(argv: Sequence[str], *, hint: str, hints: Mapping[Cause, str], **__: object) -> Completed:
        done = Completed(tuple(argv), 1, b"", b"Call failed: Permission denied\n")
        raise ProcessError(done, hint=hint, hints=hints)

    patch.setattr(process, "run", run)


def unmoved(manager: Manager, patch: pytest.MonkeyPatch) -> None:
    manager.moves = False
    patch.setattr(delegated_scope, "_SECONDS", 0.1)


def without_controllers(manager: Manager, _: pytest.MonkeyPatch) -> None:
    manager.controllers = ""
    manager.group(f"{SLICES}/init.scope", os.getpid())


def unwritable(_: Manager, patch: pytest.MonkeyPatch) -> None:
    def separate(group: Path) -> frozenset[Controller]:
        raise PermissionError(13, "Permission denied", str(group))

    patch.setattr(delegated_scope, "_separate", separate)


@pytest.mark.parametrize(
    ("broken", "message", "hint"),
    [
        (gone, "no systemd runs for this user", "loginctl enable-linger"),
        (anothers, "the systemd of this user can't be seen from here", "outside of a container"),
        (elsewhere, "the systemd of this user can't be seen from here", "outside of a container"),
        (deaf, "the systemd of this user has no bus", "apt-get install dbus-user-session"),
        (uninstalled, "busctl is not installed", "apt-get install systemd"),
        (refused, "Permission denied", "journalctl --user"),
        (unmoved, "moved no process of mvm's", "journalctl --user"),
        (without_controllers, "may not limit cpu, memory, pids", "systemctl edit user@.service"),
        (unwritable, "control groups can't be made: .*Permission denied", "mvm doctor"),
    ],
)
def test_what_keeps_a_process_from_it(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, broken: object, message: str, hint: str
) -> None:
    """It goes on without: what is demanded is refused elsewhere."""
    session(manager)
    assert callable(broken)
    broken(manager, monkeypatch)
    found = obtain()
    assert found.groups.parents == ()
    assert isinstance(found.obstacle, MvmnixError)
    assert re.search(message, found.obstacle.message)
    assert hint in str(found.obstacle.hint)


def test_a_manager_that_may_limit_some(manager: Manager) -> None:
    manager.controllers = "memory pids"
    manager.group(f"{SLICES}/init.scope", os.getpid())
    session(manager)
    found = obtain()
    assert found.groups.controllers == {Controller.MEMORY, Controller.TASKS}
    assert found.obstacle is not None
    assert "may not limit cpu" in found.obstacle.message


def test_who_ends_with_the_last_session(manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    monkeypatch.setattr(delegated_scope, "_LINGERING", tmp_path)
    manager.enter("user.slice/session-1.scope")
    assert not delegated_scope.ends_with_sessions()
    manager.enter(f"{SLICES}/app.slice/mine.scope")
    assert delegated_scope.ends_with_sessions()
    (tmp_path / pwd.getpwuid(os.geteuid()).pw_name).touch()
    assert not delegated_scope.ends_with_sessions()


def test_what_busctl_is_told() -> None:
    on = ("/busctl", "--address=unix:path=/run/user/7/bus", "--timeout=10")
    service = "org.freedesktop.systemd1"
    assert scope_command("/busctl", "/run/user/7/bus", "a.scope", 9) == (
        *(*on, "call", service, "/org/freedesktop/systemd1", f"{service}.Manager", "StartTransientUnit"),
        *("ssa(sv)a(sa(sv))", "a.scope", "fail", "4", "PIDs", "au", "1", "9", "Delegate", "b", "true"),
        *("CollectMode", "s", "inactive-or-failed", "Description", "s", "hypervisors of mvm", "0"),
    )
    path = "/org/freedesktop/systemd1/unit/run_2dp1_40x_2escope"
    asked = delegation_command("/busctl", "/run/user/7/bus", "run-p1@x.scope")
    assert asked == (*on, "get-property", service, path, f"{service}.Scope", "Delegate")


@given(TEXTS)
def test_a_units_name_is_one_word_of_letters(text: str) -> None:
    """Its user chose it."""
    unit = f"{text.encode(errors='replace').decode()}.service"
    *before, path, interface, name = delegation_command("/busctl", "/bus", unit)
    assert re.fullmatch("/org/freedesktop/systemd1/unit/[0-9A-Za-z_]*_2eservice", path)
    usual = delegation_command("/busctl", "/bus", "usual.service")
    assert (*before, interface, name) == (*usual[:-3], *usual[-2:])
