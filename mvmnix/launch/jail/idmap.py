"""Mounts of a directory in which the files of one user look like another's, who therefore needs no right of the first.

An ID-mapped mount (mount_setattr(2), MOUNT_ATTR_IDMAP): what the other user makes there belongs to the first, on disk.
"""

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

from mvmnix.model import User

_AT_EMPTY_PATH, _AT_RECURSIVE = 0x1000, 0x8000
_OPEN_TREE_CLONE: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_MOUNT_ATTR_IDMAP: Final = 0x0010_0000
#: One more than the largest id that a user can have.
_IDS: Final = 2**32 - 1
_libc: Final = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    """struct mount_attr."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def swapped(one: int, other: int, lowest: int = 0) -> str:
    """The lines of a map of ids (user_namespaces(7)) in which two have each other's place, and all others their own.

    Those below `lowest` have none: the kernel makes, changes and removes nothing in a directory whose owner or group is
    one of them, and changes no such file.

    >>> print(swapped(5, 3))
    0 0 3
    3 5 1
    4 4 1
    5 3 1
    6 6 4294967289
    >>> print(swapped(2, 1, lowest=1))
    1 2 1
    2 1 1
    3 3 4294967292
    """
    low, high = sorted((one, other))
    between = ((low + 1, low + 1, high - low - 1), (high, low, 1)) if low != high else ()
    ranges = ((lowest, lowest, low - lowest), (low, high, 1), *between, (high + 1, high + 1, _IDS - high - 1))
    return "\n".join(f"{inside} {outside} {length}" for inside, outside, length in ranges if length)


def mounted(directory: int, owner: User, as_: User, lowest_group: int) -> int | None:
    """A mount of this directory that lies nowhere yet, in which `owner` and `as_` have each other's place.

    Groups below `lowest_group` have none. None where the file system or the kernel can't. Needs root's right to mount;
    forks.
    """
    tree = _libc.open_tree(directory, b"", _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH | _AT_RECURSIVE)
    if tree < 0:
        return None
    try:
        with suppress(OSError):
            namespace = _namespace(swapped(owner.uid, as_.uid), swapped(owner.gid, as_.gid, lowest_group))
            try:
                _map(tree, namespace)
            finally:
                os.close(namespace)
            return int(tree)
    except BaseException:
        os.close(tree)
        raise
    os.close(tree)
    return None


def _map(tree: int, namespace: int) -> None:
    asked = _MountAttr(attr_set=_MOUNT_ATTR_IDMAP, userns_fd=namespace)
    flags = _AT_EMPTY_PATH | _AT_RECURSIVE
    checked(_libc.mount_setattr(tree, b"", flags, ctypes.byref(asked), ctypes.sizeof(asked)), "an ID-mapped mount")


def move(tree: int, where: bytes) -> None:
    """Have the mount lie there, in the caller's mount namespace. Raises OSError."""
    checked(_libc.move_mount(tree, b"", -1, where, _MOVE_MOUNT_F_EMPTY_PATH), os.fsdecode(where))


def checked(result: int, what: str) -> None:
    """Raise OSError for what a system call answered with -1."""
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), what)


def _namespace(uids: str, gids: str) -> int:
    """A descriptor of a user namespace with these maps, in which nobody is. Raises OSError."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.unshare(os.CLONE_NEWUSER)
            os.write(theirs, b"x")
            signal.pause()
        finally:
            os._exit(1)
    try:
        os.close(theirs)
        os.read(ours, 1)  # nothing, where it ended instead
        Path(f"/proc/{child}/uid_map").write_text(uids, encoding="ascii")
        Path(f"/proc/{child}/gid_map").write_text(gids, encoding="ascii")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ours)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
