"""The only reader of /proc/<pid>/stat: a process's parent, and what it uses, as the kernel counts it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


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
