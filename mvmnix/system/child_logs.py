"""The only place that keeps what failed children said: files below `logs/` in mvm's state, and their bounds.

Each is the user's alone (0600), in a directory that no other user can change, and made anew: no link is followed. A
build's log is one of them, and is held (flock(2)) for as long as it is written. What holds a secret is not kept:
`ProcessError.secret`.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Final

from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.system.private_dirs import Directory
from mvmnix.system.process import BoundedOutput, ProcessError

#: The directory in `Roots.state`.
DIRECTORY: Final = "logs"
#: So many logs are kept, the newest ones, and so many bytes of them in all; so many bytes of one failure.
MOST: Final = 64
MOST_BYTES: Final = 256 << 20
LARGEST: Final = 1 << 20
_MODE: Final = 0o600


def create(logs: Directory, when: datetime) -> tuple[str, int]:
    """A new, empty log: its name, and a descriptor, while which is open no sweep removes the log. Sweeps older ones."""
    name = f"{when:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}.log"
    fd = logs.create_file(name, _MODE)
    fcntl.flock(fd, fcntl.LOCK_EX)
    sweep(logs)
    return name, fd


def keep(logs: Directory, failure: ProcessError, when: datetime) -> str:
    """Write the command and all that it said into a new log; returns its path. Raises OSError, ValueError (secret)."""
    if failure.secret:
        raise ValueError("what may hold a secret is not logged")
    said = BoundedOutput(LARGEST // 2)
    said.add(failure.whole)
    name, fd = create(logs, when)
    with os.fdopen(fd, "wb") as file:
        file.write(said.kept)
    return logs.where(name)


def sweep(logs: Directory) -> None:
    """Remove the oldest logs beyond what is kept; one that is written now stays."""
    size = 0
    for number, (name, fd) in enumerate(_newest_first(logs)):
        try:
            size += os.fstat(fd).st_size
            if number >= MOST or size > MOST_BYTES:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                logs.remove(name)
        except BlockingIOError:
            continue
        finally:
            os.close(fd)


def _newest_first(logs: Directory) -> Iterator[tuple[str, int]]:
    """Names begin with a time."""
    for name in reversed([name for name in logs.names() if name.endswith(".log")]):
        with suppress(FileNotFoundError, PermissionError, RefusedError):
            yield name, logs.open_file(name)


def why_not(error: MvmnixError | OSError) -> str:
    """Why a log could not be written, in few words."""
    match error:
        case RefusedError():
            return f"{error.reasons[0].what}: {error.reasons[0].why}"
        case MvmnixError():
            return error.message
        case OSError():
            return error.strerror or str(error)
