"""Asks how much room a file system has left, and refuses work for which there is too little before it begins."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from mvmnix.errors import MvmnixError

_MIB: Final = 1 << 20
#: What is asked for before a build, in bytes: the builder image and a small guest have 100 MiB together.
IMAGE: Final = 128 * _MIB
BUILDER_IMAGE: Final = 256 * _MIB
#: Less room than this, in bytes, is what a failed write is put down to.
_LITTLE: Final = 64 * _MIB
_HINT: Final = (
    "make room: mvm image prune --all, mvm store gc; or have XDG_STATE_HOME and XDG_CACHE_HOME on another disk"
)


def free(path: str) -> int:
    """How many bytes can be written where this path is, or will be. Raises OSError."""
    there = next(each for each in (Path(path), *Path(path).parents) if each.exists())
    found = os.statvfs(there)
    return found.f_bavail * found.f_frsize


def require(path: str, need: int, what: str) -> None:
    """Raises MvmnixError unless `need` bytes can be written there; `what` needs them, for the message."""
    if (left := free(path)) < need:
        raise MvmnixError(f"{what} needs {need // _MIB} MiB in {path}, where {left // _MIB} MiB are free", hint=_HINT)


def failure(error: OSError, paths: Iterable[str]) -> MvmnixError | None:
    """What a failed write says of these directories; None where it failed for another reason than a full disk."""
    if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
        return None
    full = [f"{path} has {left // _MIB} MiB free" for path in paths for left in _free(path) if left < _LITTLE]
    return (
        MvmnixError(": ".join((error.filename or "a file", str(error.strerror), *full)), hint=_HINT) if full else None
    )


def _free(path: str) -> Iterator[int]:
    """The same as `free`, and nothing for what can't be asked."""
    with suppress(OSError):
        yield free(path)
