"""The only reader of /proc/<pid>/stat, io and children: who started a process, what it uses, writes and started."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
#: Bytes of the two pages that a write may touch and not fill.
_TOUCHED: Final = 2 * _PAGE


@dataclass(frozen=True, slots=True)
class Stat:
    """`parent` is a process id; `cpu_ms` user and system time so far, in milliseconds; `resident_kib` memory in KiB."""

    parent: int
    threads: int
    cpu_ms: int
    resident_kib: int


def stat(process: int) -> Stat | None:
    """A process by its id, None when it is gone (proc_pid_stat(5): ppid, num_threads, utime, stime, rss).

    The fields are those after the name, which may hold anything.
    """
    try:
        fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    ticks = int(fields[11]) + int(fields[12])
    return Stat(int(fields[1]), int(fields[17]), ticks * 1000 // _TICKS, int(fields[21]) * _PAGE // 1024)


def children(process: int) -> Iterator[int]:
    """What the threads of a process have started and not reaped (proc_pid_task_tid_children(5)), by process ids."""
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # it ended meanwhile
            yield from map(int, path.read_text(encoding="ascii").split())


def counts_written() -> bool:
    """Whether this kernel counts what processes write at all (CONFIG_TASK_IO_ACCOUNTING)."""
    return Path("/proc/self/io").exists()  # a process that isn't dumpable may not even read its own


def written(process: int) -> int | None:
    """What a process has written so far, in bytes; None when it is gone, or the kernel doesn't tell.

    Of all its threads (proc_pid_io(5)) `wchar` is what they gave to write calls, which doesn't know that one byte may
    take a block, nor of names. `write_bytes` does, where a file system has a disk: it is what became dirty, and that in
    pieces of up to 2 MiB, of which a call may have changed a byte. So it counts for as much as the calls may have
    touched. What fallocate(2) takes is in neither.
    """
    try:
        lines = Path(f"/proc/{process}/io").read_bytes().splitlines()
    except OSError:
        return None
    counted = {name: int(number) for name, number in (line.split(b": ") for line in lines)}
    given = counted[b"wchar"]
    return max(given, min(counted[b"write_bytes"], given + _TOUCHED * counted[b"syscw"]))
