"""Detached mounts in which the files of one user look like another's, who then needs no right of the first.

An ID-mapped mount (mount_setattr(2), MOUNT_ATTR_IDMAP): what the other user makes there belongs to the first, on disk.
"""

import ctypes
import os
from typing import Final

_AT_EMPTY_PATH, _AT_RECURSIVE = 0x1000, 0x8000
_OPEN_TREE_CLONE: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_MOUNT_ATTR_IDMAP: Final = 0x0010_0000
#: MOUNT_ATTR_RDONLY; MOUNT_ATTR_NOSUID and MOUNT_ATTR_NODEV.
_READ_ONLY, _NO_SUID_OR_DEVICES = 1, 2 | 4
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


def detached(source: int, *, whole: bool = True) -> int | None:
    """A detached mount of the file or directory that a descriptor names; the `whole` of it has all mounts beneath it.

    None without root's right to mount.
    """
    recursive = _AT_RECURSIVE if whole else 0
    tree = _libc.open_tree(source, b"", _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH | recursive)
    return None if tree < 0 else int(tree)


def mapped(source: int, namespace: int, *, whole: bool = True) -> int | None:
    """As `detached`, with the ids of a user namespace (user_namespaces.py).

    None where the file system or the kernel can't do that.
    """
    tree = detached(source, whole=whole)
    if tree is None:
        return None
    try:
        _map(tree, namespace)
    except OSError:
        os.close(tree)
        return None
    return tree


def restrict(tree: int, *, writable: bool) -> None:
    """Have no set-user-ID file or device used by way of a detached mount, and nothing changed. Raises OSError."""
    flags = _NO_SUID_OR_DEVICES if writable else _NO_SUID_OR_DEVICES | _READ_ONLY
    _set(tree, _MountAttr(attr_set=flags), "the flags of a mount")


def _map(tree: int, namespace: int) -> None:
    _set(tree, _MountAttr(attr_set=_MOUNT_ATTR_IDMAP, userns_fd=namespace), "an ID-mapped mount")


def _set(tree: int, asked: _MountAttr, what: str) -> None:
    flags = _AT_EMPTY_PATH | _AT_RECURSIVE
    checked(_libc.mount_setattr(tree, b"", flags, ctypes.byref(asked), ctypes.sizeof(asked)), what)


def move(tree: int, where: bytes) -> None:
    """Attach a detached mount there, in the caller's mount namespace. Raises OSError."""
    checked(_libc.move_mount(tree, b"", -1, where, _MOVE_MOUNT_F_EMPTY_PATH), os.fsdecode(where))


def checked(result: int, what: str) -> int:
    """What a system call answered. Raises OSError for -1."""
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), what)
    return result
