"""The only parser of what /proc/<pid> says in stat, status, io, children, cgroup, mountinfo, uid_map and gid_map.

They say how a process stands, who started it and what rights it has, what it uses, writes and has started, which
control groups it is in, what is mounted where, and which ids a user namespace has.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
#: Bytes of the two pages that a write may touch and not fill.
_TOUCHED: Final = 2 * _PAGE
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Stat:
    """What a process or a thread is called, and how it stands (proc_pid_stat(5): comm, state, ppid, num_threads, …).

    `name` is the program's own choice; `state` a letter; `parent` a process id; `cpu_ms` user and system time so far,
    in milliseconds; `resident_kib` memory in KiB.
    """

    name: str
    state: str
    parent: int
    threads: int
    cpu_ms: int
    resident_kib: int


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount (proc_pid_mountinfo(5)): its `number`, and the file system's number, major:minor, as `device`.

    `root` is the path of what is mounted, from the file system's own root; `point` where it is mounted. `kind` is the
    file system's type, `options` are the file system's own.
    """

    number: str
    device: str
    root: str
    point: str
    kind: str
    options: tuple[str, ...]


def stat(process: int) -> Stat | None:
    """A process by its id, None when it is gone."""
    try:
        return parse_stat(Path(f"/proc/{process}/stat").read_bytes().decode("utf-8", "surrogateescape"))
    except OSError:
        return None


def parse_stat(text: str) -> Stat:
    """The text of a process's `stat`, or of a thread's. The name may hold anything, so its last bracket ends it."""
    before, _, after = text.rpartition(")")
    fields = after.split()
    ticks = int(fields[11]) + int(fields[12])
    return Stat(
        name=before.partition("(")[2],
        state=fields[0],
        parent=int(fields[1]),
        threads=int(fields[17]),
        cpu_ms=ticks * 1000 // _TICKS,
        resident_kib=int(fields[21]) * _PAGE // 1024,
    )


def uids(process: int) -> frozenset[int]:
    """Its real, effective, saved and file system uid (proc_pid_status(5), Uid). Raises OSError."""
    return frozenset(map(int, _status(process)["Uid"].split()))


def capabilities(process: int) -> dict[str, int]:
    """Its sets of capabilities as bits, by their names there: CapEff and so on (proc_pid_status(5)). Raises OSError."""
    return {name: int(bits, 16) for name, bits in _status(process).items() if name.startswith("Cap")}


def is_alone(process: int) -> bool:
    """Whether its user namespace has one uid alone (user_namespaces(7), uid_map); False for one that is gone."""
    try:
        return [*map(len, id_map(lines(Path(f"/proc/{process}/uid_map"))))] == [1]
    except OSError:
        return False


def id_map(lines: Iterable[str]) -> tuple[range, ...]:
    """The ids that a user namespace has, by the lines of its uid_map or gid_map (user_namespaces(7)).

    >>> id_map(["0 1000 1", "1 100000 65536"])
    (range(0, 1), range(1, 65537))
    """
    ranges = (tuple(map(int, line.split())) for line in lines)
    return tuple(range(first, first + count) for first, _outside, count in ranges)


def has_no_new_privileges() -> bool:
    """Whether executing a program can give this process no rights (prctl(2), PR_SET_NO_NEW_PRIVS). Raises OSError."""
    return _status(os.getpid()).get("NoNewPrivs") == "1"


def _status(process: int) -> dict[str, str]:
    """By the names of its fields; the program's own name is escaped there, so that it can't end a line."""
    text = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="surrogateescape")
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.split("\n"))}


def children(process: int) -> Iterator[int]:
    """What the threads of a process have started and not reaped (proc_pid_task_tid_children(5)), by process ids."""
    with suppress(OSError):  # it ended meanwhile
        for thread in os.listdir(f"/proc/{process}/task"):  # noqa: PTH208 - by texts, which is faster
            with suppress(OSError), open(f"/proc/{process}/task/{thread}/children", encoding="ascii") as file:  # noqa: PTH123
                yield from map(int, file.read().split())


def counts_written() -> bool:
    """Whether this kernel counts what processes write at all (CONFIG_TASK_IO_ACCOUNTING)."""
    return Path("/proc/self/io").exists()  # a process that isn't dumpable may not even read its own


def io(process: int) -> str:
    """What the kernel tells a process's own user of what it read and wrote (proc_pid_io(5)). Raises OSError."""
    return Path(f"/proc/{process}/io").read_text(encoding="ascii")


def written(process: int, io: Callable[[int], str] = io) -> int | None:
    """What a process has written so far, in bytes, by its `io`; None when it is gone, or the kernel doesn't tell.

    Of all its threads (proc_pid_io(5)) `wchar` is what they gave to write calls, which doesn't know that one byte may
    take a block, nor of names. `write_bytes` does, where a file system has a disk: it is what became dirty, and that in
    pieces of up to 2 MiB, of which a call may have changed a byte. So it counts for as much as the calls may have
    touched. What fallocate(2) takes is in neither.
    """
    try:
        lines = io(process).splitlines()
    except OSError:
        return None
    counted = {name: int(number) for name, number in (line.split(": ") for line in lines)}
    given = counted["wchar"]
    return max(given, min(counted["write_bytes"], given + _TOUCHED * counted["syscw"]))


def boot_id() -> str:
    """Which boot of the host this is: an id that the kernel draws (random(4)). Raises OSError."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def lines(path: Path) -> list[str]:
    """A file's lines, as the kernel ends them. Raises OSError.

    Other users mount file systems too, and choose their names: these may hold what Python takes for the end of a line.
    """
    return [line for line in path.read_bytes().decode("utf-8", "surrogateescape").split("\n") if line]


def lines_or_none(path: Path) -> list[str]:
    """A file's lines; none where it can't be read, or isn't there any more."""
    try:
        return lines(path)
    except OSError:
        return []


def mounts(mountinfo: Iterable[str]) -> Iterator[Mount]:
    """What is mounted, by the lines of mountinfo. Raises ValueError for others."""
    for line in mountinfo:
        before, _, after = line.partition(" - ")
        number, _parent, device, root, point, *_ = before.split(" ")
        kind, _source, options, *_ = after.split(" ")
        yield Mount(number, device, _unescaped(root), _unescaped(point), kind, tuple(options.split(",")))


def groups(cgroup: Iterable[str]) -> dict[str, str]:
    """By the controllers of a hierarchy, as they are listed ("" for version 2), a process's group (proc_pid_cgroup(5)).

    Raises ValueError for other lines.
    """
    found = (line.split(":", 2) for line in cgroup)
    return {controllers: path for _number, controllers, path in found}


def _unescaped(field: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), field)
