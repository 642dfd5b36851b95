"""The only reader of how the kernel schedules a hypervisor: what its threads wait for, and what its groups throttle.

/proc/PID/schedstat tells of one thread alone (kernel: Documentation/scheduler/sched-stats.rst), and a virtual processor
is another one than the first. So every thread is read, in /proc/PID/task.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mvmnix.system.procfs import groups, lines, mounts, parse_stat

#: More threads or groups than any hypervisor of ours has; the rest isn't read.
_MOST_THREADS: Final = 256
_MOST_GROUPS: Final = 32
_LONGEST_FILE: Final = 4096
#: States of a thread, proc_pid_stat(5): it could run, or it waits for a device of the host; it was stopped.
_WAITING: Final = frozenset("RD")
_STOPPED: Final = frozenset("Tt")


@dataclass(frozen=True, slots=True)
class Thread:
    """`state` is the letter of proc_pid_stat(5); `cpu_ms` user and system time so far, in milliseconds.

    `delay_ns` is how long it waited for a processor so far, in nanoseconds, though it could have run; None where the
    kernel doesn't tell. `name` is the program's own choice.
    """

    number: int
    name: str
    state: str
    cpu_ms: int
    delay_ns: int | None


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a process stands at one moment. `throttled`: how often its groups were, by the kernel's count."""

    threads: tuple[Thread, ...]
    throttled: int

    @property
    def runs(self) -> bool:
        """Whether the process is there, and no thread of it was stopped by a signal or a debugger."""
        return bool(self.threads) and not any(it.state in _STOPPED for it in self.threads)

    @property
    def waits(self) -> bool:
        """Whether some thread could run, or waits for a device of the host: that is the host's matter."""
        return any(it.state in _WAITING for it in self.threads)

    def delayed_since(self, before: Self) -> float | None:
        """Seconds that threads waited for a processor since then, in all; None where the kernel doesn't tell."""
        known = {it.number: it.delay_ns for it in before.threads}
        grown = [None if it.delay_ns is None else it.delay_ns - (known.get(it.number) or 0) for it in self.threads]
        return None if None in grown else sum(max(0, it) for it in grown if it is not None) / 1e9


class Scheduling:
    """Looks at one process; its groups are looked for once, when this is made."""

    def __init__(self, process: int, *, proc: Path = Path("/proc")) -> None:
        self._process = proc / str(process)
        self._groups = tuple(_groups(self._process, proc / "self" / "mountinfo"))

    def look(self) -> Schedule:
        """How it stands now; without threads when it is gone."""
        throttled = sum(_number(text, "nr_throttled") for text in self.groups().values())
        return Schedule(tuple(self._threads()), throttled)

    def groups(self) -> Mapping[str, str]:
        """The text of `cpu.stat` of its groups, from its own to the top, by their directories."""
        texts = {str(group): _text(group / "cpu.stat") for group in self._groups}
        return {group: text for group, text in texts.items() if text is not None}

    def _threads(self) -> Iterator[Thread]:
        try:
            numbers = sorted(int(it.name) for it in (self._process / "task").iterdir())
        except OSError:
            return
        for number in numbers[:_MOST_THREADS]:
            where = self._process / "task" / str(number)
            # it may have ended since
            stat, schedstat = _text(where / "stat"), _text(where / "schedstat")
            if stat is not None:
                yield _thread(number, stat, schedstat)


def _thread(number: int, stat: str, schedstat: str | None) -> Thread:
    found = parse_stat(stat)
    delay_ns = int(schedstat.split()[1]) if schedstat else None
    return Thread(number, found.name, found.state, found.cpu_ms, delay_ns)


def _groups(process: Path, mountinfo: Path) -> Iterator[Path]:
    """The directories of the groups that give it processor time: its own, then those above.

    proc_pid_cgroup(5) names a group from the hierarchy's root, or from our namespace's; proc_pid_mountinfo(5) says
    which group lies at a mount point. Where the own one can't be seen, there is the mount point's.
    """
    own = groups(_lines(process / "cgroup"))
    count = 0
    for mount in mounts(_lines(mountinfo)):
        controllers = "" if mount.kind == "cgroup2" else next((it for it in own if "cpu" in it.split(",")), None)
        if controllers is None or mount.kind not in {"cgroup", "cgroup2"}:
            continue
        if mount.kind == "cgroup" and "cpu" not in mount.options:
            continue
        top = Path(mount.point)
        here = top / own.get(controllers, "/").removeprefix(mount.root).lstrip("/")
        for group in (here, *here.parents) if here.is_dir() else (top,):
            if count < _MOST_GROUPS and group.is_relative_to(top) and ".." not in group.parts:
                count += 1
                yield group


def _lines(path: Path) -> list[str]:
    """Nothing where it can't be read, as of a process that has ended."""
    with suppress(OSError):
        return lines(path)
    return []


def _text(path: Path) -> str | None:
    with suppress(OSError), path.open("rb") as file:
        return file.read(_LONGEST_FILE).decode("utf-8", "surrogateescape")
    return None


def _number(text: str, name: str) -> int:
    found = (line.split() for line in text.splitlines())
    return next((int(words[1]) for words in found if len(words) == 2 and words[0] == name and words[1].isdigit()), 0)
