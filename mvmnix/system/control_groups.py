"""The only finder, maker and remover of control groups, which limit memory, tasks and processor time, by v1 or v2.

Each controller is looked for by itself: a host may have some in v1 hierarchies (kernel:
Documentation/admin-guide/cgroup-v1) and others in v2 (Documentation/admin-guide/cgroup-v2.rst), and this process may
be allowed to use some of them. `mvm doctor` shows what is found; what is not found is not enforced.

Where there is a systemd, it writes to the groups of slices and units, and may take limits back there, but beneath units
with Delegate=yes (systemd: CGROUP_DELEGATION). A user's manager has the uid of what it starts, so no permission of a
file keeps that from making groups in a slice: `is_managers` does.
"""

import errno
import os
import re
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from mvmnix.system.procfs import Mount, groups, lines, lines_or_none, mounts

#: The file of a group that lists its processes, and the one that names the controllers of the groups beneath it.
_MEMBERS, _ENABLED = "cgroup.procs", "cgroup.subtree_control"
#: Every group of version 2 has it but the one at the top of the kernel's hierarchy.
_BENEATH_THE_TOP: Final = "cgroup.type"
#: The group of the process itself, beneath the one whose parts limit what it starts.
LEAF: Final = "supervisor"
#: An attribute of groups (systemd: CGROUP_DELEGATION).
_DELEGATED: Final = "user.delegate"
#: The units that hand a part of the hierarchy to a user's manager.
_MANAGERS: Final = re.compile(r"user@[0-9]+\.service")
#: The files that count what a limit on memory led to, in version 1 and in version 2.
_EVENTS: Final = ("memory.oom_control", "memory.events")
#: Files that a kernel may lack, which then counts no swapped memory.
_OPTIONAL: Final = ("memory.memsw.limit_in_bytes", "memory.swap.max")
#: Bytes; version 1 rounds the largest number down to whole pages where nothing limits memory.
_NO_LIMIT: Final = 1 << 62
#: Microseconds (v1: cpu.cfs_period_us, v2: the second number of cpu.max).
_PERIOD: Final = 100_000
#: The weight of other groups in version 1 and in version 2, and the least that version 1 takes.
_SHARES, _WEIGHT, _FEWEST = 1024, 100, 2
#: Seconds that a group may stay busy after its last process ended, and between two attempts to remove it.
_TIMEOUT, _INTERVAL = 10.0, 0.002


class Controller(StrEnum):
    """What is limited."""

    MEMORY = "memory"
    TASKS = "pids"
    CPU = "cpu"


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """`memory` in bytes, `tasks` processes and threads, `processors` how many of them at once; None is without limit.

    `weight` is the part where processors are short, as cgroup v2 counts (1 to 10000); None is that of other groups.
    """

    memory: int
    tasks: int
    processors: float | None = None
    weight: int | None = None


@dataclass(frozen=True, slots=True)
class Parent:
    """A directory in which groups can be made, of the hierarchy version 1 or 2, and what they limit there."""

    path: str
    version: int
    controllers: tuple[Controller, ...]


class Group:
    """The groups of one sandbox, one in each parent; a process is put in by `join` or `add`."""

    def __init__(self, paths: tuple[str, ...], members: tuple[int, ...]) -> None:
        """Made by `ControlGroups` only; `members` are descriptors of their `cgroup.procs`."""
        self._paths = paths
        self._members = members

    def join(self) -> None:
        """Put the calling process in, in a child between fork and exec."""
        self.add(0)

    def add(self, process: int) -> None:
        """Put a process in, by its id. What it has taken of memory stays where it was counted. Raises OSError."""
        for fd in self._members:
            os.write(fd, b"%d" % process)

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed a process in it because of its limit; False where it doesn't count that."""
        lines = (line for path in self._paths for name in _EVENTS for line in lines_or_none(Path(path, name)))
        return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines)

    def close(self) -> None:
        """Close the descriptors that `join` and `add` need; a second call does nothing."""
        for fd in self._members:
            os.close(fd)
        self._members = ()

    def remove(self) -> None:
        """Remove them; a second call does nothing."""
        self.close()
        for path in self._paths:
            remove(path)
        self._paths = ()


@dataclass(frozen=True, slots=True)
class ControlGroups:
    """Where this process may make groups."""

    parents: tuple[Parent, ...]

    @classmethod
    def find(cls, *, proc: str = "/proc/self") -> Self:
        """Look for the hierarchies that are mounted, and this process's group in each of them."""
        own = groups(lines(Path(proc, "cgroup")))
        mounted = _mounted(mounts(lines(Path(proc, "mountinfo"))))
        found: list[Parent] = []
        wanted = set(Controller)
        for version, where, names in mounted:
            here = where / own.get("" if version == 2 else ",".join(names), "/").lstrip("/")
            if version == 1 and not wanted & set(names):
                continue
            parent = _v1(here, where, wanted & set(names)) if version == 1 else _v2(here, where, wanted)
            if parent is not None:
                found.append(parent)
                wanted -= set(parent.controllers)
        return cls(tuple(found))

    @property
    def controllers(self) -> frozenset[Controller]:
        """What can be limited here."""
        return frozenset(controller for parent in self.parents for controller in parent.controllers)

    def limiting(self, *controllers: Controller) -> Self:
        """The same for these alone."""
        kept = (
            replace(parent, controllers=tuple(one for one in parent.controllers if one in controllers))
            for parent in self.parents
        )
        return replace(self, parents=tuple(parent for parent in kept if parent.controllers))

    def paths(self, name: str) -> tuple[str, ...]:
        """What `make` will make."""
        return tuple(f"{parent.path}/{name}" for parent in self.parents)

    def group(self, name: str, limits: GroupLimits) -> Group:
        """Groups of that name with these limits. Raises OSError, with nothing left."""
        paths, members = self.paths(name), list[int]()
        try:
            for parent, path in zip(self.parents, paths, strict=True):
                os.mkdir(path, 0o700)  # noqa: PTH102 - a kernel interface, by its path
                for file, value in _settings(parent, limits).items():
                    _write(f"{path}/{file}", value)
                members.append(os.open(f"{path}/{_MEMBERS}", os.O_WRONLY | os.O_CLOEXEC))
        except BaseException:
            Group(paths, tuple(members)).remove()
            raise
        return Group(paths, tuple(members))


def hand_over(uid: int, gid: int, *, proc: str = "/proc/self") -> str:
    """Put this process of root's into groups in which a user may make others; what was in the way, "" for nothing.

    1. Version 1: a group beneath the own one, of each hierarchy that limits anything. It belongs to the user, and stays
       for later commands.
    2. Version 2: the own group itself, in which this process is alone and which systemd handed over; or one beneath the
       top of the kernel's hierarchy. The process goes into a group of its own there: one that has processes hands no
       controller on (cgroup-v2.rst, "No Internal Process Constraint"), and elsewhere that is in the way.
    """
    own = groups(lines(Path(proc, "cgroup")))
    obstacle, left = "no hierarchy of control groups is mounted", set(Controller)
    for version, where, names in _mounted(mounts(lines(Path(proc, "mountinfo")))):
        limited = available(_seen(where, own, version, names)) if version == 2 else left & set(names)
        if not left & limited:
            continue
        try:
            (_hand_over_v1 if version == 1 else _hand_over_v2)(
                _seen(where, own, version, names), f"mvmnix-{uid}", uid, gid
            )
            left -= limited
        except OSError as error:
            obstacle = f"{error.filename or where}: {error.strerror}"
    return f"no control group of this user's limits {', '.join(sorted(left))}: {obstacle}" if left else ""


def _hand_over_v1(own: Path, name: str, uid: int, gid: int) -> None:
    """1. Raises OSError."""
    group = own if own.name == name else own / name
    group.mkdir(mode=0o755, exist_ok=True)
    for path in (group, group / _MEMBERS):
        os.chown(path, uid, gid)
    (group / _MEMBERS).write_text("0", encoding="ascii")


def _hand_over_v2(own: Path, name: str, uid: int, gid: int) -> None:
    """2. Raises OSError."""
    if _has_processes(own) and not (processes(own) == (os.getpid(),) and is_delegated(own)):
        raise OSError(errno.EBUSY, "other processes are in it, so it hands no limits on", str(own))
    group = own if (own / _BENEATH_THE_TOP).exists() else own / name
    if group != own:
        enable(own, Controller)
        group.mkdir(mode=0o755, exist_ok=True)
    leaf = group / LEAF
    leaf.mkdir(mode=0o755, exist_ok=True)
    for directory in (group, leaf):
        for file in ("", _MEMBERS, _ENABLED, "cgroup.threads"):
            os.chown(directory / file, uid, gid)
    (leaf / _MEMBERS).write_text("0", encoding="ascii")
    enable(group, Controller)


def is_delegated(group: Path) -> bool:
    """Whether the system's manager says that it has handed a group over; a user's manager marks none."""
    with suppress(OSError):  # another file system, or no such attribute
        return os.getxattr(group, _DELEGATED) == b"1"
    return False


def _seen(where: Path, own: Mapping[str, str], version: int, names: tuple[str, ...]) -> Path:
    """The own group of a hierarchy, or its top where that can't be seen from here."""
    here = where / own.get("" if version == 2 else ",".join(names), "/").lstrip("/")
    return here if here.is_dir() else where


def unified(process: str = "self", *, proc: str = "/proc") -> Path | None:
    """The group of version 2 that a process is in; None where it can't be seen from here. Raises OSError."""
    path = groups(lines(Path(proc, process, "cgroup"))).get("", "")
    for version, where, _ in _mounted(mounts(lines(Path(proc, "self", "mountinfo")))):
        here = where / path.lstrip("/")
        if version == 2 and path and ".." not in here.parts and here.is_dir():
            return here
    return None


def remove(path: str) -> bool:
    """Remove a group by its absolute path, killing what is still in it; whether it is gone, or was never there."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            os.rmdir(path)  # noqa: PTH106 - a kernel interface, by its path
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
        else:
            return True
        for word in _words(Path(path, _MEMBERS)):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(int(word), signal.SIGKILL)
        time.sleep(_INTERVAL)


def _settings(parent: Parent, limits: GroupLimits) -> Mapping[str, str]:
    quota = None if limits.processors is None else str(int(limits.processors * _PERIOD))
    one, two = (quota or "-1", quota or "max")
    weight = limits.weight
    shares = {} if weight is None else {"cpu.shares": str(max(_FEWEST, weight * _SHARES // _WEIGHT))}
    weighed = {} if weight is None else {"cpu.weight": str(weight)}
    by_version = {
        (Controller.MEMORY, 1): dict.fromkeys(
            ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"), str(limits.memory)
        ),
        (Controller.MEMORY, 2): {"memory.max": str(limits.memory), "memory.swap.max": "0"},
        (Controller.TASKS, 1): {"pids.max": str(limits.tasks)},
        (Controller.TASKS, 2): {"pids.max": str(limits.tasks)},
        (Controller.CPU, 1): {"cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": one} | shares,
        (Controller.CPU, 2): {"cpu.max": f"{two} {_PERIOD}"} | weighed,
    }
    settings: dict[str, str] = {}
    for controller in parent.controllers:
        settings |= by_version[controller, parent.version]
    return settings


def _write(path: str, value: str) -> None:
    """Set a value; what this kernel doesn't have of the optional ones is left out."""
    try:
        Path(path).write_text(value, encoding="ascii")
    except FileNotFoundError:
        if not path.endswith(_OPTIONAL):
            raise


def _mounted(everything: Iterable[Mount]) -> list[tuple[int, Path, tuple[str, ...]]]:
    """Version, mount point and controllers of each hierarchy, v2 first."""
    found: list[tuple[int, Path, tuple[str, ...]]] = []
    for mount in everything:
        if mount.kind == "cgroup2":
            found.append((2, Path(mount.point), ()))
        elif mount.kind == "cgroup":
            names = tuple(name for name in mount.options if name not in {"rw", "ro"})
            found.append((1, Path(mount.point), names))
    return sorted(found, key=lambda one: -one[0])


def _v1(here: Path, top: Path, controllers: set[Controller]) -> Parent | None:
    """Our own group, or the top where that can't be seen from here."""
    where = here if here.is_dir() else top
    named = tuple(sorted(controllers))
    return Parent(str(where), 1, named) if os.access(where, os.W_OK) else None


def _v2(here: Path, top: Path, wanted: set[Controller]) -> Parent | None:
    """The nearest group above us that hands on what is wanted; one with processes can't ("no internal processes").

    A process is moved by who may write to the members of the nearest common group ("Delegation Containment").
    """
    for where in (here, *here.parents):
        if not where.is_relative_to(top):
            break
        if not os.access(where, os.W_OK) or not os.access(where / _MEMBERS, os.W_OK):
            continue
        if is_managers(where) or _has_processes(where):
            continue
        enabled = tuple(sorted(wanted & enable(where, wanted)))
        if enabled:
            return Parent(str(where), 2, enabled)
    return None


def enable(group: Path, wanted: Iterable[Controller]) -> frozenset[Controller]:
    """Have a group of version 2 hand on these controllers, as far as it has them; which ones it hands on then."""
    for controller in (set(wanted) & available(group)) - _named(group / _ENABLED):
        with suppress(OSError):
            (group / _ENABLED).write_text(f"+{controller}", encoding="ascii")
    return _named(group / _ENABLED)


def available(group: Path) -> frozenset[Controller]:
    """What a group of version 2 could hand on."""
    return _named(group / "cgroup.controllers")


def _named(path: Path) -> frozenset[Controller]:
    names = _words(path)
    return frozenset(controller for controller in Controller if controller in names)


def processes(group: Path) -> tuple[int, ...]:
    """Those in a group itself, by their ids; 0 for one of another PID namespace."""
    return tuple(int(word) for word in _words(group / _MEMBERS))


def _has_processes(group: Path) -> bool:
    """Whether processes are in this group itself, so that groups beneath it can take none.

    The kernel would enable `cpu` and `pids` all the same: for threads, whose groups take no process (cgroup-v2.rst,
    "Threads"). A group of threads doesn't tell of its processes.
    """
    if not (group / _BENEATH_THE_TOP).exists():
        return False
    try:
        return bool((group / _MEMBERS).read_bytes().split())
    except OSError:
        return True


def is_limited(group: Path) -> bool:
    """Whether memory or processor time of a group of version 2 has a limit of its own."""
    return any(
        words[:1] not in {(), ("max",)} for words in (_words(group / name) for name in ("memory.max", "cpu.max"))
    )


def is_within_limits(*, proc: str = "/proc/self") -> bool:
    """Whether memory or processor time of this process's groups, or of one above them that can be seen, has a limit."""
    own = groups(lines(Path(proc, "cgroup")))
    for version, where, names in _mounted(mounts(lines(Path(proc, "mountinfo")))):
        here = _seen(where, own, version, names)
        for group in (here, *here.parents):
            if not group.is_relative_to(where):
                break
            if is_limited(group) if version == 2 else _is_limited_v1(group):
                return True
    return False


def _is_limited_v1(group: Path) -> bool:
    """The same of a group of version 1, which says -1 or a number beyond all memory where it has no limit."""
    memory, quota = (_words(group / name) for name in ("memory.limit_in_bytes", "cpu.cfs_quota_us"))
    return any(int(word) < _NO_LIMIT for word in memory) or any(word != "-1" for word in quota)


def is_managers(group: Path) -> bool:
    """Whether it is the group of a user's systemd manager, or of a slice in it.

    A unit's own group is the manager's too, without Delegate=yes. But then this process is in it, and so it hands
    nothing on: systemd makes groups in units that were delegated alone.
    """
    while group.suffix == ".slice":
        group = group.parent
    return _MANAGERS.fullmatch(group.name) is not None


def _words(path: Path) -> tuple[str, ...]:
    return tuple(word for line in lines_or_none(path) for word in line.split())
