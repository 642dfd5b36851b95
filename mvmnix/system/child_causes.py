"""Tells why a child failed, by how it ended and the line in which it names the cause, and what to do about it; pure.

A hint is chosen by the cause alone: "install it" is said where the program is not there, and nowhere else. The line may
be a stranger's text; it decides nothing but which hint is shown.
"""

import re
import signal
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Cause(StrEnum):
    """Why a child failed."""

    MISSING = "its program is not there"
    NOT_EXECUTABLE = "its program can't be executed"
    KILLED = "a signal ended it"
    CRASHED = "it crashed"
    FILTERED = "it made a forbidden system call"
    LATE = "it took too long"
    MEMORY = "it lacked memory"
    FLOODED = "it wrote too much"
    CANCELLED = "it was cancelled"
    NAMESPACES = "no namespace could be made for it"
    DISK_FULL = "a file system is full"
    READ_ONLY = "a file system is read-only"
    DENIED = "it lacked a permission"
    RESOURCES = "it lacked processes or open files"
    NETWORK = "a server could not be reached"
    OWN = "what it says itself"


#: What a line that names a cause has in it → the cause. The first that fits counts.
_TEXTS: Final = (
    # bwrap(1), unshare(1), Nix: each has words of its own. ENOSPC is user.max_user_namespaces (user_namespaces(7))
    (r"(?i)creat(e|ing) (a )?new namespace|no user namespace|unshare failed", Cause.NAMESPACES),
    (r"setting up (uid|gid) map|cloning builder process|(kernel|private mount) namespace", Cause.NAMESPACES),
    (r"No space left on device|Disk quota exceeded|database or disk is full", Cause.DISK_FULL),
    (r"Read-only file system", Cause.READ_ONLY),
    (r"(?i)cannot allocate memory|out of memory|bad_alloc|MemoryError|virtual memory exhausted", Cause.MEMORY),
    (r"Too many open files|Resource temporarily unavailable|Cannot fork", Cause.RESOURCES),
    (
        r"(?i)could not resolve|name resolution|connection (refused|reset|timed out)|network is unreachable",
        Cause.NETWORK,
    ),
    # what a shell says of a child of its own
    (r"^Killed$|^error: signal 9 ended", Cause.KILLED),
    (r"^(Segmentation fault|Bus error|Aborted|Illegal instruction)", Cause.CRASHED),
    (r"^Bad system call", Cause.FILTERED),
    (r"^File size limit exceeded", Cause.FLOODED),
    (r"(?i)permission denied|operation not permitted|access denied", Cause.DENIED),
)
_CRASHES: Final = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP}
)
_BY_SIGNAL: Final = {
    **dict.fromkeys(_CRASHES, Cause.CRASHED),
    signal.SIGSYS: Cause.FILTERED,
    signal.SIGXFSZ: Cause.FLOODED,
    **dict.fromkeys((signal.SIGKILL, signal.SIGTERM, signal.SIGXCPU), Cause.KILLED),
}
#: Why no namespace can be made.
NAMESPACES_HINT: Final = (
    "look at sysctl user.max_user_namespaces and kernel.unprivileged_userns_clone, and have root look at `dmesg`, "
    "where AppArmor says what it refuses"
)
_HINTS: Final[Mapping[Cause, str]] = MappingProxyType(
    {
        Cause.MISSING: "install the package that has it",
        Cause.NOT_EXECUTABLE: "see what it is and who may execute it: ls -lL {program}",
        Cause.KILLED: "the kernel sends SIGKILL where memory runs out (as root: `journalctl -k`): end other programs",
        Cause.CRASHED: "`journalctl -k` says more, as root; see whether its package has an update",
        Cause.FILTERED: "report this as a bug of mvm: its filter of system calls is too strict for this program",
        Cause.LATE: "see whether this machine is busy (uptime), and try again",
        Cause.MEMORY: "see how much memory is left (free -m), end other programs, and try again",
        Cause.FLOODED: "look at what it was given: it makes it write more than mvm takes",
        Cause.CANCELLED: "try again",
        Cause.NAMESPACES: NAMESPACES_HINT,
        Cause.DISK_FULL: "make room; `df -h` says which file system is full",
        Cause.READ_ONLY: "`findmnt` says what is mounted read-only",
        Cause.DENIED: "see who owns the file that is named there, and who may use it: ls -ld",
        Cause.RESOURCES: "see the limits of this shell (ulimit -a), end other programs, and try again",
        Cause.NETWORK: "see that this machine reaches that server, or its proxy, and try again",
        Cause.OWN: "that is what {name} says itself",
    }
)
#: No hints of a caller's own.
NO_HINTS: Final[Mapping[Cause, str]] = MappingProxyType({})


def cause_of(status: int, line: str) -> Cause:
    """The cause, by an exit status as a shell or Python counts it, and the line that names it."""
    if (number := signal_of(status)) is not None:
        return _BY_SIGNAL[number]
    return next((cause for pattern, cause in _TEXTS if re.search(pattern, line)), Cause.OWN)


def signal_of(status: int) -> signal.Signals | None:
    """The signal that ended it: `-9` for our own child, `137` where a program between it and us says so."""
    number = -status if status < 0 else status - 128
    return signal.Signals(number) if number in {int(it) for it in _BY_SIGNAL} else None


def hint_for(cause: Cause, program: str, hints: Mapping[Cause, str] = NO_HINTS) -> str:
    """What to do about a cause: as the caller says for it, else in general."""
    name = program.rpartition("/")[2]
    return hints[cause] if hints.get(cause) else _HINTS[cause].format(program=program, name=name)
