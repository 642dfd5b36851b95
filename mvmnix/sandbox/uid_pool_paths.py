"""Finds pools of uids, and what is left in them; a module of its own, for callers that give no uid away.

Each command about machines asks it, and takes no longer than a few imports (api/machine_store.py).
"""

import os
from contextlib import suppress
from typing import Final

from mvmnix.system.private_dirs import Directory
from mvmnix.system.trusted_path import home_of

#: The pool of numbers, in a state directory.
NAME: Final = "cells"
#: The pool of uids, from a home on: in the state directory of a user without XDG variables (XDG Base Directory
#: Specification). No pool without uids cleans up there.
_UIDS: Final = ".local/state/mvmnix/uids"


def pool_paths(state: str) -> tuple[str, ...]:
    """The directories of the pools that a user may have taken leases from; `state` is the state directory's path."""
    return tuple(filter(None, dict.fromkeys((f"{state}/{NAME}", user_path()))))


def user_path() -> str | None:
    """The directory of the user's pool of uids; None for a user without a home in the password file."""
    home = home_of(os.geteuid())
    return None if home is None else f"{home}/{_UIDS}"


def are_swept(state: str) -> bool:
    """Whether `uid_pool.sweep` would find nothing to do; `state` is the state directory's path."""
    for path in pool_paths(state):
        with suppress(FileNotFoundError, PermissionError), Directory.open(path) as directory:
            if not is_swept(directory):
                return False
    return True


def is_swept(directory: Directory) -> bool:
    """Whether each number in a pool's directory has a holder that lives."""
    numbers = {name.partition(".")[0] for name in directory.names()}
    return all(directory.holder(f"{number}.lock") is not None for number in filter(str.isdecimal, numbers))
