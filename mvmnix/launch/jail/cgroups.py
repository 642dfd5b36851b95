"""The only maker and remover of control groups: memory, tasks and processor time of one hypervisor, by v1 or v2.

Each controller is looked for by itself: a host may have some in v1 hierarchies (kernel:
Documentation/admin-guide/cgroup-v1) and others in v2 (Documentation/admin-guide/cgroup-v2.rst), and this process may
be allowed to use some of them. What is found is told by `mvm doctor`; what is not found is not enforced.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from mvmnix.launch.jail.limits import Limits
from mvmnix.launch.proc import Mount, groups, lines, mounts
from mvmnix.sandbox.control_group import MEMBERS, remove

#: Microseconds (v1: cpu.cfs_period_us, v2: the second number of cpu.max).
_PERIOD: Final = 100_000
#: What everybody has in version 1 and in version 2, and the least that version 1 takes.
_SHARES, _WEIGHT, _FEWEST = 1024, 100, 2
_ENABLED: Final = "cgroup.subtree_control"


class Controller(StrEnum):
    """What is limited."""

    MEMORY = "memory"
    TASKS = "pids"
    CPU = "cpu"


@dataclass(frozen=True, slots=True)
class Place:
    """A directory in which groups can be made, of the hierarchy version 1 or 2, and what they limit there."""

    path: str
    version: int
    controllers: tuple[Controller, ...]


class Group:
    """The groups of one hypervisor, made; their processes are added by `join`."""

    def __init__(self, paths: tuple[str, ...], members: tuple[int, ...]) -> None:
        """Made by `Cgroups.make` only; `members` are descriptors of their `cgroup.procs`."""
        self._paths = paths
        self._members = members

    def join(self) -> None:
        """Put the calling process in, in a child between fork and exec."""
        for fd in self._members:
            os.write(fd, b"0")

    def settled(self) -> None:
        """Nobody else will join."""
        for fd in self._members:
            os.close(fd)
        self._members = ()

    def remove(self) -> None:
        """Remove them; a second call does nothing."""
        self.settled()
        for path in self._paths:
            remove(path)
        self._paths = ()


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Where this process may make groups."""

    places: tuple[Place, ...]

    @classmethod
    def find(cls, *, proc: str = "/proc/self") -> Self:
        """Look for the hierarchies that are mounted, and this process's place in each of them."""
        own = groups(lines(Path(proc, "cgroup")))
        mounted = _mounted(mounts(lines(Path(proc, "mountinfo"))))
        found: list[Place] = []
        wanted = set(Controller)
        for version, where, names in mounted:
            here = where / own.get("" if version == 2 else ",".join(names), "/").lstrip("/")
            if version == 1 and not wanted & set(names):
                continue
            place = _v1(here, where, wanted & set(names)) if version == 1 else _v2(here, where, wanted)
            if place is not None:
                found.append(place)
                wanted -= set(place.controllers)
        return cls(tuple(found))

    @property
    def controllers(self) -> frozenset[Controller]:
        """What can be limited here."""
        return frozenset(controller for place in self.places for controller in place.controllers)

    def paths(self, name: str) -> tuple[str, ...]:
        """What `make` will make."""
        return tuple(f"{place.path}/{name}" for place in self.places)

    def make(self, name: str, limits: Limits) -> Group:
        """Make groups of that name with these limits. Raises OSError, with nothing left."""
        paths, members = self.paths(name), []
        try:
            for place, path in zip(self.places, paths, strict=True):
                os.mkdir(path)  # noqa: PTH102 - a kernel interface, by its path
                for file, value in _settings(place, limits).items():
                    _write(f"{path}/{file}", value)
                members.append(os.open(f"{path}/{MEMBERS}", os.O_WRONLY | os.O_CLOEXEC))
        except BaseException:
            Group(paths, tuple(members)).remove()
            raise
        return Group(paths, tuple(members))


def _settings(place: Place, limits: Limits) -> Mapping[str, str]:
    quota = int(limits.processors * _PERIOD)
    weight = limits.weight
    shares = {} if weight is None else {"cpu.shares": str(max(_FEWEST, weight * _SHARES // _WEIGHT))}
    weighed = {} if weight is None else {"cpu.weight": str(weight)}
    by_version = {
        (Controller.MEMORY, 1): {"memory.limit_in_bytes": str(limits.memory)},
        (Controller.MEMORY, 2): {"memory.max": str(limits.memory), "memory.swap.max": "0"},
        (Controller.TASKS, 1): {"pids.max": str(limits.tasks)},
        (Controller.TASKS, 2): {"pids.max": str(limits.tasks)},
        (Controller.CPU, 1): {"cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": str(quota)} | shares,
        (Controller.CPU, 2): {"cpu.max": f"{quota} {_PERIOD}"} | weighed,
    }
    return {
        name: value for controller in place.controllers for name, value in by_version[controller, place.version].items()
    }


def _write(path: str, value: str) -> None:
    """Set a value; what this kernel doesn't have of the optional ones (swap may not be accounted) is left out."""
    try:
        Path(path).write_text(value, encoding="ascii")
    except FileNotFoundError:
        if not path.endswith("swap.max"):
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


def _v1(here: Path, top: Path, controllers: set[Controller]) -> Place | None:
    """Our own group, or the top where that can't be seen from here."""
    where = here if here.is_dir() else top
    named = tuple(sorted(controllers))
    return Place(str(where), 1, named) if os.access(where, os.W_OK) else None


def _v2(here: Path, top: Path, wanted: set[Controller]) -> Place | None:
    """The nearest group above us that hands on what is wanted; one with processes can't ("no internal processes")."""
    for where in (here, *here.parents):
        if not where.is_relative_to(top):
            break
        if not os.access(where, os.W_OK):
            continue
        there = wanted & set(_words(where / "cgroup.controllers"))
        for controller in there - set(_words(where / _ENABLED)):
            with suppress(OSError):
                (where / _ENABLED).write_text(f"+{controller}", encoding="ascii")
        enabled = tuple(sorted(there & set(_words(where / _ENABLED))))
        if enabled:
            return Place(str(where), 2, enabled)
    return None


def _words(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text(encoding="ascii").split())
    except OSError:
        return ()
