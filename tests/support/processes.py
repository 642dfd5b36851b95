"""Asks the kernel about one process, and ends those that a test started."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

_STARTED: Final[list[subprocess.Popen[Any]]] = []


def end_with_test[P: subprocess.Popen[Any]](process: P) -> P:
    """Have a process killed once its test has ended, however that ended: later tests count what runs."""
    _STARTED.append(process)
    return process


def end_started() -> None:
    """Kill what still runs, and close its pipes."""
    while _STARTED:
        with _STARTED.pop() as process:
            process.kill()


def gone(pid: int) -> bool:
    """Whether a process ended; one that nobody reaped yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return True


def status(pid: int) -> dict[str, str]:
    """Read a process's status, by the names of its fields. Raises OSError for one that is gone."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def field(pid: int, name: str) -> list[str]:
    """Read one field of a process's status."""
    return status(pid)[name].split()


def list_open(process: int | str = "self") -> set[str]:
    """List what a process has open, by the kernel's names, whatever is closed meanwhile."""
    found = set[str]()
    for fd in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # of this process, that of the listing itself
            found.add(str(fd.readlink()))
    return found


def find_port(pid: int) -> int:
    """Find the one TCP port that a process listens on, by IPv4."""
    rows = (line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:])
    listening = {f"socket:[{row[9]}]": int(row[1].partition(":")[2], 16) for row in rows if row[3] == "0A"}
    (port,) = (listening[name] for name in listening.keys() & list_open(pid))
    return port


def count_threads() -> int:
    """The threads of this process, whoever started them."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - numbers
