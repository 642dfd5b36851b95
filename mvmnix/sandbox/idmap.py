"""Detached mounts in which the files of one user look like another's, who then needs no right of the first.

An ID-mapped mount (mount_setattr(2), MOUNT_ATTR_IDMAP): what the other user makes there belongs to the first, on disk.
"""

import ctypes
import os
from pathlib import Path
from typing import Final

from mvmnix.model import User
from mvmnix.process import spawn
from mvmnix.sandbox.trusted_executables import Candidates, locate

UNSHARE: Final = Candidates(what="unshare", paths=("/usr/bin/unshare",), hint="apt-get install util-linux")
_AT_EMPTY_PATH, _AT_RECURSIVE = 0x1000, 0x8000
_OPEN_TREE_CLONE: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_MOUNT_ATTR_IDMAP: Final = 0x0010_0000
#: MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV.
_MOUNT_ATTR_SHOWN: Final = 1 | 2 | 4
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


def detached(source: int) -> int | None:
    """A detached mount of the file or directory that a descriptor names, with all mounts beneath it.

    None without root's right to mount.
    """
    tree = _libc.open_tree(source, b"", _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH | _AT_RECURSIVE)
    return None if tree < 0 else int(tree)


def mounted(source: int, owner: User, as_: User, lowest_group: int) -> int | None:
    """As `detached`, but `owner` and `as_` have each other's place in it, and groups below `lowest_group` have none.

    None, too, where the file system or the kernel can't do that. Raises MvmnixError without util-linux.
    """
    try:
        namespace = exchange((owner.uid, as_.uid), (owner.gid, as_.gid), lowest_group)
    except OSError:
        return None
    try:
        return mapped(source, namespace)
    finally:
        os.close(namespace)


def mapped(source: int, namespace: int) -> int | None:
    """As `detached`, with the ids of a user namespace (`exchange`). None where the file system or the kernel can't."""
    tree = detached(source)
    if tree is None:
        return None
    try:
        _map(tree, namespace)
    except OSError:
        os.close(tree)
        return None
    return tree


def make_read_only(tree: int) -> None:
    """Have nothing changed by way of a detached mount, and no set-user-ID file or device used. Raises OSError."""
    _set(tree, _MountAttr(attr_set=_MOUNT_ATTR_SHOWN), "a read-only mount")


def _map(tree: int, namespace: int) -> None:
    _set(tree, _MountAttr(attr_set=_MOUNT_ATTR_IDMAP, userns_fd=namespace), "an ID-mapped mount")


def _set(tree: int, asked: _MountAttr, what: str) -> None:
    flags = _AT_EMPTY_PATH | _AT_RECURSIVE
    checked(_libc.mount_setattr(tree, b"", flags, ctypes.byref(asked), ctypes.sizeof(asked)), what)


def move(tree: int, where: bytes) -> None:
    """Attach a detached mount there, in the caller's mount namespace. Raises OSError."""
    checked(_libc.move_mount(tree, b"", -1, where, _MOVE_MOUNT_F_EMPTY_PATH), os.fsdecode(where))


def checked(result: int, what: str) -> None:
    """Raise OSError for what a system call answered with -1."""
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), what)


def exchange(uids: tuple[int, int], gids: tuple[int, int], lowest_group: int = 0) -> int:
    """A descriptor of a user namespace in which these two uids, and two gids, have each other's place (`swapped`).

    A program is started in it, as a process with threads must not fork without exec. Raises OSError, MvmnixError
    without util-linux.
    """
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        argv = (locate(UNSHARE), "--user", "--", "/bin/sh", "-c", "echo; exec sleep 60")
        child = spawn(argv, env={"LC_ALL": "C"}, stdout=theirs)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    try:
        os.read(ours, 1)  # it is in the new namespace; nothing, where it ended instead
        Path(f"/proc/{child.pid}/uid_map").write_text(swapped(*uids), encoding="ascii")
        Path(f"/proc/{child.pid}/gid_map").write_text(swapped(*gids, lowest_group), encoding="ascii")
        return os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ours)
        child.kill()
        child.wait()
