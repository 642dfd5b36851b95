"""The rule by which a path is trusted: only we and root could have changed what it names.

A path is opened component by component from `/` with openat and O_NOFOLLOW. Each component is judged on the descriptor
that is then used, so that it can't be changed between the look and the use:

1. it is a directory, not a symbolic link;
2. its owner is us or root (for root: root alone);
3. no other user may write to it, except that a parent may be a sticky directory of root's, such as /tmp.
"""

import errno
import os
import shlex
import stat
from collections.abc import Callable
from contextlib import suppress

from mvmnix.errors import ReasonCode, UsageError, refuse

#: How a directory is opened that is to be listed, made durable and used.
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: A parent need not be readable, only passable (/home is 0711 in places).
_PARENT = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

#: How to get from a parent's descriptor to that of a name in it: name, path for messages, parent, open flags.
type Step = Callable[[str, str, int, int], int]


def walk(path: str, step: Step) -> int:
    """Open an absolute path component by component, judging each parent before anything is looked up or made in it.

    The last component is not judged yet: that is `judge` with its descriptor's status. `step` says whether what is
    missing is made. Raises FileNotFoundError, RefusedError [state-permissions], UsageError for a relative path.
    """
    if not path.startswith("/") or "\0" in path:
        raise UsageError(f"not an absolute path: {path!r}", hint="name it from / on")
    # without symbolic links, `..` means what it says in the text
    names = [name for name in os.path.normpath(path).split("/") if name]
    here = "/"
    fd = os.open(here, _PARENT if names else DIRECTORY)
    for index, name in enumerate(names, 1):
        parent = fd
        try:
            _judge_parent(here, os.fstat(parent))
            here = f"{here.rstrip('/')}/{name}"
            fd = step(name, here, parent, _PARENT if index < len(names) else DIRECTORY)
        finally:
            os.close(parent)
    return fd


def open_component(name: str, path: str, parent: int, flags: int) -> int:
    """Open a directory that must be there. Raises FileNotFoundError, RefusedError [state-permissions]."""
    try:
        return os.open(name, flags, dir_fd=parent)
    except PermissionError:
        judge_closed(name, path, parent)
        raise
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
            raise
        why = "it is a symbolic link or no directory"
        hint = f"name the real directory (realpath {shlex.quote(path)}), or remove what stands there"
        raise refuse(ReasonCode.STATE_PERMISSIONS, path, why, hint) from error


def make_component(name: str, path: str, parent: int, flags: int) -> int:
    """As `open_component`, but make what is missing; durable before anything is put into it."""
    try:
        return open_component(name, path, parent, flags)
    except FileNotFoundError:
        with suppress(FileExistsError):  # another process of ours was faster
            os.mkdir(name, 0o700, dir_fd=parent)
    readable = os.open(".", DIRECTORY, dir_fd=parent)
    try:
        os.fsync(readable)
    finally:
        os.close(readable)
    return open_component(name, path, parent, flags)


def judge_container(path: str) -> None:
    """Refuse a directory in which another user could put another file under a name; sticky ones of root's pass.

    Raises FileNotFoundError where as much as exists of it passes, and as `walk` does.
    """
    os.close(walk(f"{path.rstrip('/')}/any", _stay_above))


def _stay_above(name: str, path: str, parent: int, flags: int) -> int:
    """The directory is judged as the parent of whatever will be in it, which is not looked up."""
    return os.dup(parent) if flags == DIRECTORY else open_component(name, path, parent, flags)


def judge(path: str, status: os.stat_result) -> None:
    """Refuse a file or directory that a user other than us and root could have changed."""
    us = os.geteuid()
    if status.st_uid not in {us, 0}:
        why = f"it belongs to uid {status.st_uid}, who could change what mvm finds there"
        hint = f"chown {us} {shlex.quote(path)}, or point HOME or the XDG_… variables elsewhere"
        raise refuse(ReasonCode.STATE_PERMISSIONS, path, why, hint)
    if status.st_mode & _OTHERS_WRITE:
        why = f"others than its owner may write to it (mode {stat.S_IMODE(status.st_mode):04o})"
        raise refuse(ReasonCode.STATE_PERMISSIONS, path, why, f"chmod go-w {shlex.quote(path)}")


def judge_closed(name: str, path: str, parent: int) -> None:
    """As `judge`, for what couldn't be opened: whose it is says more than that."""
    with suppress(OSError):
        judge(path, os.stat(name, dir_fd=parent, follow_symlinks=False))


def _judge_parent(path: str, status: os.stat_result) -> None:
    """As `judge`, but let a sticky directory of root's pass: in it, no other user can rename or remove what is ours."""
    if status.st_uid != 0 or not status.st_mode & stat.S_ISVTX:
        judge(path, status)
