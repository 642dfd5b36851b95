"""Brings a directory that is held by a descriptor to where bubblewrap, as another user, finds it by a short name.

bubblewrap takes a directory's descriptor (--bind-fd), and then looks for the path that leads to it: for a user who may
not pass the directories above, as in somebody's home, there is none. Root mounts it nearer, where nobody else sees it.
"""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mvmnix.sandbox.idmap import checked, move

#: Directories that nothing needs which starts a cell (hier(7)).
_PLACES: Final = ("/mnt", "/media", "/srv", "/opt")
_CAP_SYS_ADMIN: Final = 21
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000


def place() -> str | None:
    """Where this process can bring a directory: None without root's right to mount."""
    if os.geteuid() != 0 or not _may_mount():
        return None
    return next((where for where in _PLACES if Path(where).is_dir() and not Path(where).is_symlink()), None)


def bringing(directory: int, where: str, tree: int | None) -> Callable[[], None]:
    """What the child does between fork and exec, as root: a mount namespace of its own, and in it the directory.

    `tree` is a mount of it that lies nowhere yet (idmap.py), where there is one. What is mounted elsewhere later is not
    mounted there. What is called raises OSError.
    """
    mount = ctypes.CDLL(None, use_errno=True).mount
    target, top = where.encode(), b"/"

    def bring() -> None:
        os.fchdir(directory)  # a descriptor stays in the old namespace, the working directory goes along
        os.unshare(os.CLONE_NEWNS)
        checked(mount(None, top, None, _MS_REC | _MS_PRIVATE, None), where)
        if tree is None:
            checked(mount(b".", target, None, _MS_REC | _MS_BIND, None), where)
        else:
            move(tree, target)
        os.chdir("/")

    return bring


def _may_mount() -> bool:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    effective = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> _CAP_SYS_ADMIN & 1)
