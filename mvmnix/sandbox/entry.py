"""What a child of mvm does between fork and exec to become a sandbox's user: the only caller of setns(2).

1. It enters the user namespace of its uid (subordinate_ids.py). There it has all capabilities until it executes a
   program, and they hold for that namespace alone.
2. It gets a mount namespace of its own, from which nothing comes back.
3. Directories that the caller can reach, and the uid maybe can't, become detached mounts, read-only.
4. It takes the uid and gid, without supplementary groups.
5. The detached mounts are attached in a directory of memory there, each under its number.
"""

import ctypes
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mvmnix.system import prctl

#: Directories that no program needs which makes a sandbox (hier(7)).
_PLACES: Final = ("/mnt", "/media", "/srv", "/opt")
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_AT_EMPTY_PATH, _AT_RECURSIVE = 0x1000, 0x8000
_OPEN_TREE_CLONE: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
#: MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID and MOUNT_ATTR_NODEV.
_RESTRICTED: Final = 1 | 2 | 4
_libc: Final = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    """struct mount_attr (mount_setattr(2))."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def place() -> str | None:
    """Where mounts are attached: a directory of the host's that is there; None without one."""
    return next((where for where in _PLACES if Path(where).is_dir() and not Path(where).is_symlink()), None)


@dataclass(frozen=True, slots=True)
class NamespaceEntry:
    """Into which user namespace, as which uid and gid inside of it, and with which directories."""

    namespace: int
    uid: int
    #: Descriptors of directories of the caller's; there its files look as they do everywhere.
    directories: tuple[int, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the mounts are then. Raises OSError where there is no place for them."""
        return _paths(self.directories)

    def enter_or_exit(self) -> None:
        """In the child, whose standard error tells what was in the way; then it ends with 126."""
        try:
            self.enter()
        except OSError as error:
            os.write(2, f"mvm: the sandbox of uid {self.uid} can't be entered: {error}\n".encode())
            os._exit(126)

    def enter(self) -> None:
        """In the child. Raises OSError."""
        os.setns(self.namespace, os.CLONE_NEWUSER)  # 1
        trees = list[int]()
        if self.directories:
            os.unshare(os.CLONE_NEWNS)  # 2
            _checked(_libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "/")
            trees += map(_detach, self.directories)  # 3
        os.setgroups([])  # 4
        os.setresgid(self.uid, self.uid, self.uid)
        os.setresuid(self.uid, self.uid, self.uid)
        prctl.set_dumpable(dumpable=True)  # or its /proc/self would be root's
        if trees:
            _attach(tuple(trees))  # 5


def _attach(trees: tuple[int, ...]) -> None:
    """Attach detached mounts at `_paths`, in the caller's mount namespace. Raises OSError."""
    found = _paths(trees)
    where = os.path.dirname(found[0])  # noqa: PTH120 - a text
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _checked(_libc.mount(b"tmpfs", where.encode(), b"tmpfs", flags, b"mode=0755,size=1m"), where)
    for tree, path in zip(trees, found, strict=True):
        Path(path).mkdir()
        _checked(_libc.move_mount(tree, b"", -1, path.encode(), _MOVE_MOUNT_F_EMPTY_PATH), path)


def _paths(trees: tuple[int, ...]) -> tuple[str, ...]:
    """Where `_attach` puts them. Raises OSError where there is no place for them."""
    where = place()
    if where is None:
        raise FileNotFoundError(2, "no directory to mount in", ", ".join(_PLACES))
    return tuple(f"{where}/{number}" for number in range(len(trees)))


def _detach(directory: int) -> int:
    """Make a detached, read-only mount of a directory, by its path: its descriptor's mount is of another namespace.

    Raises OSError, ESTALE where another directory is there by now.
    """
    path = os.readlink(f"/proc/self/fd/{directory}")  # noqa: PTH115 - a descriptor's
    again = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not os.path.samestat(os.fstat(again), os.fstat(directory)):
            raise OSError(errno.ESTALE, "another directory is there by now", path)
        flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH | _AT_RECURSIVE
        tree = _checked(_libc.open_tree(again, b"", flags), path)
    finally:
        os.close(again)
    asked = _MountAttr(attr_set=_RESTRICTED)
    flags = _AT_EMPTY_PATH | _AT_RECURSIVE
    _checked(_libc.mount_setattr(tree, b"", flags, ctypes.byref(asked), ctypes.sizeof(asked)), path)
    return tree


def _checked(result: int, what: str) -> int:
    """What a system call answered. Raises OSError for -1."""
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), what)
    return result
