"""Bounds what all processes of one helper take together, by a control group where this process can make one.

That is so in a part of the hierarchy that was delegated to this user. What the group counts
besides the memory of processes are files in memory: those of the helper's root, and memfd_create(2).

Its maker holds a lock on its directory (flock(2)), which is closed to other users. One whose lock is free was left by a
maker that was killed; a later maker removes it.
"""

import fcntl
import functools
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from mvmnix.privileges import control_groups
from mvmnix.privileges.control_groups import ControlGroups, Controller, Group, GroupLimits

_PREFIX: Final = "mvmnix-helper-"
#: Seconds after which a group that has no lock won't get it any more.
_LOCKED_BY: Final = 60.0


@contextmanager
def own_group(limits: GroupLimits) -> Iterator[Group | None]:
    """A group of one helper's own, removed with all that is in it; None where none can be made. Raises OSError."""
    found = _found()
    if not found.parents:
        yield None
        return
    with ExitStack() as stack:
        for parent in found.parents:
            _remove_abandoned(parent.path)
        name = f"{_PREFIX}{secrets.token_hex(8)}"
        group = found.group(name, limits)
        stack.callback(group.remove)
        for path in found.paths(name):
            stack.callback(os.close, _locked(path))
        yield group


@functools.cache
def _found() -> ControlGroups:
    """Looked for once: many helpers are short."""
    return ControlGroups.find().limiting(Controller.MEMORY, Controller.TASKS)


def _locked(path: str) -> int:
    """A descriptor of a directory, with its lock. Raises OSError where another has it."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(directory)
        raise
    return directory


def _remove_abandoned(parent: str) -> None:
    for path in Path(parent).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _LOCKED_BY:
                os.close(_locked(str(path)))
                control_groups.remove(str(path))
