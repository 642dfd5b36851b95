"""The only place that picks a program or firmware of the host to run: absolute paths that root alone can change."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, refuse
from mvmnix.formats.escaping import shell_command

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Candidates:
    """Where a file of the host may be: absolute paths, the first that exists counts; `hint` says how to get one."""

    what: str
    paths: tuple[str, ...]
    hint: str


#: It reads flakes, and keeps checkpoints.
GIT = Candidates("git", ("/usr/bin/git", "/run/current-system/sw/bin/git"), "apt-get install git")
#: With its standard library: what reads strangers' bytes in a sandbox is our own code.
PYTHON = Candidates("Python 3", ("/usr/bin/python3", "/usr/bin/python3.13"), "apt-get install python3")


def locate(candidates: Candidates) -> str:
    """The real path of the first candidate that exists, without symbolic links in it.

    Raises MvmnixError when there is none, RefusedError [state-permissions] when a user other than root could change
    the file or a directory above it: what it does could then be that user's choice.
    """
    for path in candidates.paths:
        if Path(path).exists():
            return check_program(os.path.realpath(path))
    places = ", ".join(candidates.paths)
    raise MvmnixError(f"{candidates.what} is not installed: looked for {places}", hint=candidates.hint)


def check_program(path: str, seen: set[str] | None = None) -> str:
    """Return `path`, every component of which belongs to root and can be changed by root alone, or refuse.

    `seen` is for a caller that checks many at once: what is in it was found good already, and what is now goes into it.

    A directory that others may write to passes when it is sticky, as /nix/store is: they can add names to it, but not
    replace one.
    """
    seen = set() if seen is None else seen
    for component in _chain(path):
        if component in seen:
            continue
        status = os.lstat(component)
        sticky = stat.S_ISDIR(status.st_mode) and bool(status.st_mode & stat.S_ISVTX)
        writable = bool(status.st_mode & _OTHERS_WRITE) and not sticky
        if status.st_uid != 0 or writable or stat.S_ISLNK(status.st_mode):
            state = f"uid {status.st_uid}, mode {stat.filemode(status.st_mode)}"
            why = f"{component} can be changed by others than root ({state})"
            own, close = shell_command("chown", "root", component), shell_command("chmod", "go-w", component)
            hint = f"{own} && {close}, or install the distribution's package again"
            raise refuse(ReasonCode.STATE_PERMISSIONS, path, why, hint)
        seen.add(component)
    return path


def program_identity(path: str) -> tuple[object, ...] | None:
    """What changes with a file that root alone can change, without reading it; None where there is none.

    For names of what is kept as a hint and is never evidence.
    """
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        return None
    return (path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def digest(path: str) -> Digest:
    """SHA-256 of a file of the host, for a receipt; `/proc/<pid>/exe` gives that of a running program."""
    with Path(path).open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest())


def _chain(path: str) -> Iterator[str]:
    yield path
    for parent in Path(path).parents:
        yield str(parent)
