"""Reads what decides what a process may do, and what it can't take back, from /proc; compares processes by that.

Two processes with one identity may do the same, but for Landlock, of which /proc says nothing (landlock(7)). A process
enters a Landlock domain only with no-new-privileges set, or with capabilities of another user namespace: so of two
processes of one user namespace without no-new-privileges neither is in such a domain, and `is_confined` says of which
that isn't known.
"""

import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

#: Fields of proc_pid_status(5): ids, capabilities, no-new-privileges, seccomp mode and number of filters.
_STATUS: Final = (
    *("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"),
    *("NoNewPrivs", "Seccomp", "Seccomp_filters"),
)
#: The same by which a process is known to be confined; values of a process that isn't.
_CONFINED: Final = {"NoNewPrivs": "0", "Seccomp": "0"}
#: Soft limits of a launcher and what it starts; None: the hard one. No core file is written; a stack without limit
#: would have the kernel lay out memory by an old rule (setrlimit(2)).
_SOFT: Final = {
    **dict.fromkeys(("AS", "DATA", "FSIZE", "CPU", "NPROC", "MEMLOCK", "SIGPENDING", "MSGQUEUE")),
    "CORE": 0,
    "NOFILE": 4096,
    "STACK": 8 << 20,
}
_NAMESPACES: Final = (
    *("cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"),
)
#: Whole files: security label (proc_pid_attr(5)), audit identity (proc_pid_loginuid(5)), out-of-memory adjustment,
#: control groups, and the ids of the user namespace (user_namespaces(7)).
_VALUES: Final = ("attr/current", "loginuid", "sessionid", "oom_score_adj", "cgroup", "uid_map", "gid_map")
#: Of proc_pid_stat(5), counted behind the name: niceness, and scheduling priority and policy.
_NICE, _PRIORITY, _POLICY = 16, 37, 38
#: Columns of proc_pid_limits(5) by characters: the limit's name, and where the hard limit begins and ends.
_LIMIT_NAME, _HARD = slice(0, 26), slice(47, 68)


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """What /proc says of a process: `fields` by name, in a fixed order."""

    fields: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, process: int) -> Self:
        """Read that of a process. Raises OSError: also for one that isn't dumpable, unless it is this one."""
        proc = Path("/proc", str(process))
        found = {f"namespace {name}": str((proc / "ns" / name).readlink()) for name in _NAMESPACES}
        root = (proc / "root").stat()
        # by the reader's own root: a bind mount of it is another place of the same inode
        found["root"] = f"{root.st_dev}:{root.st_ino} {(proc / 'root').readlink()}"
        return cls(tuple(sorted((found | dict(cls.read_public(process).fields)).items())))

    @classmethod
    def read_public(cls, process: int) -> Self:
        """Read what is told of every process, dumpable or not: all but its root and its namespaces. Raises OSError.

        The user namespace shows in the map of its ids, which no two have in common that a plain user made.
        """
        proc = Path("/proc", str(process))
        found = {name: value for name, value in _status(proc).items() if name in _STATUS}
        for name in _VALUES:
            found[name] = _value(proc / name)
        stat = (proc / "stat").read_text(errors="surrogateescape").rpartition(")")[2].split()
        found["scheduling"] = f"{stat[_NICE]} {stat[_PRIORITY]} {stat[_POLICY]}"
        for line in (proc / "limits").read_text().splitlines()[1:]:
            found[f"limit {line[_LIMIT_NAME].strip()}"] = line[_HARD].strip()
        return cls(tuple(sorted(found.items())))

    @property
    def is_confined(self) -> bool:
        """Whether no-new-privileges or a filter of system calls is set: then there may be Landlock domains, too."""
        found = dict(self.fields)
        return any(found.get(name) != value for name, value in _CONFINED.items())

    @property
    def rights(self) -> frozenset[str]:
        """The process's groups and permitted capabilities, by number: "group 27", "capability 12"."""
        found = dict(self.fields)
        groups = {*found.get("Gid", "").split(), *found.get("Groups", "").split()}
        mask = int(found.get("CapPrm", "0"), 16)
        held = {f"capability {bit}" for bit in range(mask.bit_length()) if mask >> bit & 1}
        return frozenset(held | {f"group {number}" for number in groups})

    @property
    def public(self) -> Self:
        """What `read_public` reads."""
        return type(self)(tuple((name, value) for name, value in self.fields if not _is_hidden(name)))

    def with_public(self, public: Self) -> Self:
        """Return this one's root and namespaces, with all else from the public part of another."""
        hidden = ((name, value) for name, value in self.fields if _is_hidden(name))
        return type(self)(tuple(sorted((*hidden, *public.fields))))

    def differences(self, other: Self, names: frozenset[str] | None = None) -> tuple[str, ...]:
        """Return the names of the fields, of all or of `names`, in which two processes differ, sorted."""
        ours, theirs = dict(self.fields), dict(other.fields)
        wanted = ours.keys() | theirs.keys() if names is None else names
        return tuple(sorted(name for name in wanted if ours.get(name) != theirs.get(name)))


def _is_hidden(name: str) -> bool:
    """Return whether a field can't be read of a process that isn't dumpable."""
    return name == "root" or name.startswith("namespace ")


#: The fields by which a process is known to be confined, and how far.
CONFINEMENT: Final = frozenset({*_CONFINED, "Seccomp_filters"})
#: What a caller of a running machine has in common with its supervisor, however else it was started.
SAME_REACH: Final = frozenset({"Uid", "root", "namespace user", "namespace mnt", "namespace net", "attr/current"})


def is_thread_confined() -> bool:
    """Whether this thread is, by itself: /proc shows a process by its first thread (landlock(7), seccomp(2)).

    Raises OSError.
    """
    found = _status(Path("/proc/thread-self"))
    return any(found.get(name) != value for name, value in _CONFINED.items())


def _status(proc: Path) -> dict[str, str]:
    text = (proc / "status").read_text(encoding="utf-8", errors="surrogateescape")
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.split("\n"))}


def _value(path: Path) -> str:
    """Return what a file says; "" where this kernel has no such file, or says nothing."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape").strip("\n\0")
    except PermissionError:
        raise
    except OSError:
        return ""


def reset_soft_limits() -> None:
    """Have this process keep none of the soft limits and processors of the one that started it. Raises OSError."""
    for name, soft in _SOFT.items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        wanted = hard if soft is None else soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(number, (wanted, hard))
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
