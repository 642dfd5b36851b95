"""The only maker of the mount namespace in which mvm runs that root started: its uid sees there what it was granted.

1. The namespace is root's, so mvm's uid can change no mount in it; what root mounts elsewhere later appears in it.
2. A directory that mvm's uid may not pass and that holds something granted is covered by an empty one of root's.
3. In it, or where it is otherwise, each grant is mounted: root's files in it have mvm's uid for their owner, on disk
   they stay root's. No set-user-ID file and no device works by way of it.
"""

import ctypes
import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from mvmnix.privileges import idmap, ids, user_namespaces
from mvmnix.privileges.grants import Grant, Grants
from mvmnix.privileges.idmap import checked

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_REC, _MS_SLAVE = 0x4000, 0x80000
_libc: Final = ctypes.CDLL(None, use_errno=True)
#: Directories that this process covered.
_covered: Final[list[str]] = []


def unshare() -> None:
    """Give this process, as root, a mount namespace of its own (1). Raises OSError.

    What is opened from here on is opened in that namespace: only that can be mounted in it.
    """
    os.unshare(os.CLONE_NEWNS)
    checked(_libc.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None), "/")


def show(grants: Grants) -> None:
    """Mount what is granted, and cover what isn't and is on the way (2, 3). The working directory's path stays.

    Raises OSError, also where a file system has no ID-mapped mounts.
    """
    here = os.getcwd()  # noqa: PTH109
    trees = {grant: tree for grant in grants.all if (tree := _tree(grant)) is not None}
    umask = os.umask(0o022)
    covers = _covers([*(grant.path for grant in trees), *grants.links, here])
    for cover in covers:  # 2
        flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
        checked(_libc.mount(b"tmpfs", cover.encode(), b"tmpfs", flags, b"mode=0755,size=1m"), cover)
        _covered.append(cover)
    for grant, tree in trees.items():  # 3
        _make(grant.path, covers, directory=stat.S_ISDIR(os.fstat(grant.fd).st_mode))
        idmap.move(tree, os.fsencode(grant.path))
        os.close(tree)
    for link, real in grants.links.items():
        if _is_covered(link, covers) and not os.path.lexists(link):
            Path(link).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            Path(link).symlink_to(real)
            os.chown(link, ids.MVM, ids.MVM, follow_symlinks=False)  # it isn't the system's (output_files.py)
    _make(here, covers, directory=True)
    os.umask(umask)
    os.chdir(here)


def hides(path: str) -> bool:
    """Whether what was at this absolute path may be covered here."""
    return _is_covered(path, tuple(_covered))


def _tree(grant: Grant) -> int | None:
    """A detached mount of it, in which mvm's uid has the place of root; None for what can't be had so.

    That is a directory to write whose file system has no ID-mapped mounts. What is read is mounted as it is there.
    """
    if grant.needed and not grant.writable:
        raise PermissionError(errno.EACCES, "other users can pass it: chmod 700 it, or a directory above", grant.path)
    namespace = user_namespaces.for_mount((0, ids.MVM), (0, ids.MVM))
    try:
        tree = idmap.mapped(grant.fd, namespace)
    finally:
        os.close(namespace)
    if tree is None and grant.needed:
        raise OSError(errno.EOPNOTSUPP, "its file system has no ID-mapped mounts", grant.path)
    if tree is None and not grant.writable:
        tree = idmap.detached(grant.fd)
    if tree is not None:
        idmap.restrict(tree, writable=grant.writable)
    return tree


def _covers(paths: list[str]) -> tuple[str, ...]:
    """The highest directories on the way to these paths that others than their owners may not pass."""
    found: list[str] = []
    for path in sorted(paths):
        if _is_covered(path, tuple(found)):
            continue
        above = [str(it) for it in reversed(Path(path).parents)]
        with suppress(OSError):  # it isn't there
            found += [it for it in above if not _is_passable(it)][:1]
    return tuple(found)


def _is_passable(path: str) -> bool:
    return bool(os.stat(path).st_mode & stat.S_IXOTH)  # noqa: PTH116


def _is_covered(path: str, covers: tuple[str, ...]) -> bool:
    return any(path.startswith(f"{cover}/") for cover in covers)


def _make(path: str, covers: tuple[str, ...], *, directory: bool) -> None:
    """Make what is mounted on, in a directory that covers what was there."""
    if not _is_covered(path, covers) or os.path.lexists(path):
        return
    Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if directory:
        Path(path).mkdir(mode=0o755)
    else:
        Path(path).touch(mode=0o644)
