"""Asks the kernel about one process."""

from contextlib import suppress
from pathlib import Path


def gone(pid: int) -> bool:
    """Whether a process ended; one that nobody reaped yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return True


def field(pid: int, name: str) -> list[str]:
    """One line of a process's status."""
    text = Path(f"/proc/{pid}/status").read_text()
    return next(line.split()[1:] for line in text.splitlines() if line.startswith(f"{name}:"))


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
