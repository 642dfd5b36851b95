"""Decides which pool (uid_pool.py) a command's sandboxes take their uids from, and where its lease files lie.

1. A user's with subordinate uids (subordinate_ids.py): one for all state directories of that user, in the home that
   the password file names, whatever HOME says. A uid that two pools gave away would be the uid of two machines.
2. Otherwise numbers without uids, in the state directory.
"""

import os
from contextlib import suppress
from typing import Final

from mvmnix import log
from mvmnix.child_causes import Cause
from mvmnix.errors import MvmnixError
from mvmnix.private_dirs import Directory
from mvmnix.privileges import system_user
from mvmnix.process import ProcessError
from mvmnix.sandbox.subordinate_ids import SubordinateIds
from mvmnix.sandbox.uid_pool import UidPool
from mvmnix.trusted_path import home_of

#: In a state directory; it keeps the name by which what an older mvm left there is cleaned up.
_NAME: Final = "cells"
#: From a home on, in the state directory of a user without XDG variables (XDG Base Directory Specification). No pool
#: without uids, and no older mvm, cleans up there.
_UIDS: Final = ".local/state/mvmnix/uids"
#: What the programs that map ids say where they may not.
_REFUSED: Final = frozenset({Cause.OWN, Cause.DENIED, Cause.NAMESPACES})


def open_pool(state: Directory) -> UidPool:
    """The pool, whose directory the caller closes. Raises MvmnixError for a process of root's."""
    system_user.refuse_root()
    try:
        return user_uid_pool()  # 1
    except (MvmnixError, OSError) as error:
        if isinstance(error, ProcessError) and error.kind not in _REFUSED:
            raise  # it would be another uid than a moment ago
        log.info("jail", "machines keep their caller's uid: %s", error)
    return UidPool(state.child(_NAME))  # 2


def user_uid_pool() -> UidPool:
    """A user's pool of subordinate uids (1), one of which was mapped now.

    Raises MvmnixError, OSError where there can be none; ProcessError where a program that maps them fails.
    """
    subordinate = SubordinateIds.find()
    path = _user_path()
    if path is None:
        raise MvmnixError(f"uid {os.geteuid()} has no home in the password file", hint="run mvm as a user that has one")
    os.close(subordinate.namespace_of(subordinate.first_uid))
    return UidPool(Directory.create(path), subordinate)


def sweep(state: Directory) -> None:
    """Clean up what supervisors that were killed left, in whichever pool they took their leases from.

    Raises MvmnixError for a process of root's.
    """
    pool = open_pool(state)
    with pool.directory as directory:
        pool.sweep()
        left = [path for path in _paths(state.path) if path != directory.path]
    for path in left:
        with suppress(OSError), Directory.open(path) as directory:
            UidPool(directory).sweep()


def are_swept(state: str) -> bool:
    """Whether `sweep` would find nothing to do; `state` is the path of the state directory."""
    for path in _paths(state):
        with suppress(FileNotFoundError, PermissionError), Directory.open(path) as directory:
            if not UidPool.are_swept(directory):
                return False
    return True


def _paths(state: str) -> tuple[str, ...]:
    return tuple(filter(None, dict.fromkeys((f"{state}/{_NAME}", _user_path()))))


def _user_path() -> str | None:
    home = home_of(os.geteuid())
    return None if home is None else f"{home}/{_UIDS}"
