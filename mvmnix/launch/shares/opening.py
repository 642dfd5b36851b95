"""Opens the directories of the host that a plan names, without a symbolic link on the way, and holds them.

The descriptor is what is looked at, judged and shared: whoever renames or replaces the path afterwards changes nothing.
"""

import errno
import os
import stat
from pathlib import PurePosixPath
from typing import Final

from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.launch.shares.share import Share
from mvmnix.model import User

_PASSED: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPENED: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(path: str) -> int:
    """A descriptor of a directory, which the caller closes: from `/` on, component by component, links refused.

    Raises OSError; ELOOP or ENOTDIR for what is a link or no directory.
    """
    names = PurePosixPath(path).parts[1:]
    fd = os.open("/", _PASSED if names else _OPENED)
    for index, name in enumerate(names, 1):
        parent = fd
        try:
            fd = os.open(name, _PASSED if index < len(names) else _OPENED, dir_fd=parent)
        finally:
            os.close(parent)
    return fd


def opened(share: Share) -> int:
    """The same for a share. Raises RefusedError [share-unavailable]."""
    try:
        return open_directory(share.host)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            real = os.path.realpath(share.host)
            why = "it is no directory, or there is a symbolic link on the way to it"
            raise unavailable(share, why, f"name the real directory: --share {real}:{share.guest}") from error
        hint = "make it, let yourself in, or leave the share out of the plan"
        raise unavailable(share, f"it can't be opened: {error.strerror}", hint) from error


def owner(share: Share, fd: int) -> User | None:
    """Whose rights its server has: the directory's owner's under root, so that the guest's files are theirs.

    None for whoever nobody else is, where nothing is written: a directory of root's, which root shares. Without root
    it is always the caller. Raises RefusedError [share-unavailable].
    """
    if (us := os.geteuid()) != 0:
        return User(us, os.getegid())
    status = os.fstat(fd)
    if status.st_uid != 0:
        return User(status.st_uid, status.st_gid or status.st_uid)
    if not share.writable:
        return None
    mode = stat.filemode(status.st_mode)
    why = f"it belongs to root ({mode}), and no guest writes with the rights of root"
    hint = f"give it to whom the guest's files shall belong: chown USER: {share.host}; or share it read only (ro)"
    raise unavailable(share, why, hint)


def unavailable(share: Share, why: str, hint: str) -> RefusedError:
    """The refusal of a share that can't be had."""
    return refuse(ReasonCode.SHARE_UNAVAILABLE, f"the share {share.host}", why, hint)
