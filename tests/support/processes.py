"""Asks the kernel about one process."""

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
