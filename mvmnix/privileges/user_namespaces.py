"""The only maker of user namespaces with ids of the host's in them (user_namespaces(7)).

Root alone can write such ids; a plain user's subordinate ones are written by programs (sandbox/subordinate_ids.py).

1. For one sandbox: a uid and gid of the pool, mapped to itself. mvm's own uid owns the namespace, so a child of mvm can
   enter it and become that uid (entry.py).
2. For containers: what runs one is user 0 there, and users 0 to 65535 of a container are 1 to 65536; owned likewise.
3. For an ID-mapped mount (mount_setattr(2)): two uids, and two gids, have each other's place.

A namespace is held by a descriptor. The last ones are kept, as the same ones are asked for again and again.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from typing import Final

from mvmnix.privileges import ids
from mvmnix.privileges.descriptors import made_by_child
from mvmnix.privileges.idmap import swapped

#: How many are kept.
_MOST: Final = 32
_namespaces: Final[OrderedDict[Hashable, int]] = OrderedDict()
_lock: Final = threading.Lock()


def for_uid(uid: int) -> int:
    """The namespace of a uid and gid of the pool (1); the caller closes it. Raises OSError, ProcessError."""
    return _kept(f"{uid} {uid} 1", f"{uid} {uid} 1", owner=ids.MVM)


def for_container() -> int:
    """The namespace of containers (2); the caller closes it. Raises OSError, ProcessError."""
    users = f"0 {ids.CONTAINER_RUNTIME} 1\n1 {ids.FIRST_OF_CONTAINER} {ids.CONTAINER_COUNT}"
    return _kept(users, users, owner=ids.MVM)


def for_mount(uids: tuple[int, int], gids: tuple[int, int], lowest_group: int = 0) -> int:
    """The namespace of an ID-mapped mount (3); groups below `lowest_group` have no place in it.

    The caller closes it. Raises OSError, ProcessError.
    """
    return _kept(swapped(*uids), swapped(*gids, lowest_group), owner=None)


def _kept(uid_map: str, gid_map: str, *, owner: int | None) -> int:
    return kept((uid_map, gid_map, owner), partial(_write, uid_map, gid_map), owner=owner)


def kept(key: Hashable, write: Callable[[int], None], *, owner: int | None = None) -> int:
    """A descriptor of the one that is kept under this key, or was made now; the caller closes it.

    `write` gives the namespace of a process, by its id, its ids; `owner` is the uid and gid to which the namespace
    belongs, where that isn't the caller's. Raises OSError, ProcessError, and what `write` raises.
    """
    with _lock:
        if key not in _namespaces:
            _namespaces[key] = _made(write, owner=owner)
        _namespaces.move_to_end(key)
        while len(_namespaces) > _MOST:
            os.close(_namespaces.popitem(last=False)[1])
        return os.dup(_namespaces[key])


def _made(write: Callable[[int], None], *, owner: int | None) -> int:
    """It is handed out by a process in it: another one would need the right to trace that."""

    def unshare() -> int:
        if owner is not None:
            os.setgroups([])
            os.setresgid(owner, owner, owner)
            os.setresuid(owner, owner, owner)
        os.unshare(os.CLONE_NEWUSER)
        return os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)

    with made_by_child(unshare, "user namespace") as (child, namespace):
        try:
            write(child)
        except BaseException:
            os.close(namespace)
            raise
        return namespace


def _write(uid_map: str, gid_map: str, process: int) -> None:
    for name, text in (("uid_map", uid_map), ("gid_map", gid_map)):
        with open(f"/proc/{process}/{name}", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(text)
