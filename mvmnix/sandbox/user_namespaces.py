"""The only maker of user namespaces with ids of the host's in them (user_namespaces(7)), which programs write there.

A plain user's subordinate ids are written by newuidmap(1) and newgidmap(1) (sandbox/subordinate_ids.py). A namespace is
held by a descriptor. The last ones are kept, as the same ones are asked for again and again.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Final

from mvmnix.system.descriptors import made_by_child

#: How many are kept.
_MOST: Final = 32
_namespaces: Final[OrderedDict[Hashable, int]] = OrderedDict()
_lock: Final = threading.Lock()


def kept(key: Hashable, write: Callable[[int], None]) -> int:
    """A descriptor of the one that is kept under this key, or was made now; the caller closes it.

    `write` gives the namespace of a process, by its id, its ids. Raises OSError, ProcessError, and what `write` raises.
    """
    with _lock:
        if key not in _namespaces:
            _namespaces[key] = _made(write)
        _namespaces.move_to_end(key)
        while len(_namespaces) > _MOST:
            os.close(_namespaces.popitem(last=False)[1])
        return os.dup(_namespaces[key])


def owned(first: int, count: int, *, uid_map: str = "/proc/self/uid_map") -> bool:
    """Whether this user namespace has these uids (user_namespaces(7))."""
    ranges = (tuple(map(int, line.split())) for line in Path(uid_map).read_text(encoding="ascii").splitlines())
    return any(begin <= first and first + count <= begin + length for begin, _outside, length in ranges)


def _made(write: Callable[[int], None]) -> int:
    """It is handed out by a process in it: another one would need the right to trace that."""

    def unshare() -> int:
        os.unshare(os.CLONE_NEWUSER)
        return os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)

    with made_by_child(unshare, "user namespace") as (child, namespace):
        try:
            write(child)
        except BaseException:
            os.close(namespace)
            raise
        return namespace
