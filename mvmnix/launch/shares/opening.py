"""Opens the directories of the host that a plan names, without a symbolic link on the way, and holds them.

The descriptor is what is looked at, judged and shared: renaming or replacing the path afterwards changes nothing.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

from mvmnix import caller
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.launch.plan import Share
from mvmnix.launch.shares.walk import is_directory, walk
from mvmnix.privileges import ids

#: So many entries and levels are looked through.
_ENTRIES: Final = 20_000
_LEVELS: Final = 64
_PASSED: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPENED: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(path: str) -> int:
    """A descriptor of a directory, which the caller closes: from `/` on, component by component, links refused.

    Raises OSError; ELOOP or ENOTDIR for what is a link or no directory.
    """
    fd = os.open("/", _PASSED)
    for name, flags in (*((name, _PASSED) for name in PurePosixPath(path).parts), (".", _OPENED)):
        parent = fd
        try:
            fd = os.open(name, flags, dir_fd=parent)
        finally:
            os.close(parent)
    return fd


def open_share(share: Share) -> int:
    """The same for a share. Raises RefusedError [share-unavailable]."""
    try:
        return open_directory(share.host)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            real = os.path.realpath(share.host)
            if not Path(real).is_dir():
                why = "it is not a directory, and single files are not shared"
                hint = "put it into a directory of its own, and share that; or copy it into the machine: mvm cp"
                raise unavailable(share, why, hint) from error
            why = "it is not a directory, or there is a symbolic link on the way to it"
            raise unavailable(share, why, f"name the real directory: --share {real}:{share.guest}") from error
        hint = "make it, let yourself in, or leave the share out of the plan"
        if caller.uid() == 0:  # mvm has no rights of root's, nor of another user's
            named = "make it; name it on the command line or in MVMNIX_GRANT (docs/privileges.md)"
            hint = f"{named}; where it is another user's, chmod a+rx {share.host}"
        raise unavailable(share, f"it can't be opened: {error.strerror}", hint) from error


def refuse_owner(share: Share, fd: int) -> None:
    """Where root started mvm a server has the rights of the directory's owner, so the guest's files are theirs.

    So a directory of root's is served to be read alone. Raises RefusedError [share-unavailable].
    """
    if caller.uid() != 0 or not share.writable:
        return
    uid, gid, mode = _on_disk(os.fstat(fd))
    if uid == 0:
        why = f"it belongs to root ({stat.filemode(mode)}), and no guest writes with the rights of root"
        hint = f"give it to whom the guest's files shall belong: chown USER: {share.host}; or share it read only (ro)"
        raise unavailable(share, why, hint)
    if gid == 0 and gives_root_group(fd):
        why = "it has the group of root, which files in it would get (the set-group-ID bit), or it is too large to tell"
        raise unavailable(share, why, f"give it another group: chown {uid}: {share.host}")


def _on_disk(status: os.stat_result) -> tuple[int, int, int]:
    """Uid, gid and mode; what mvm's own uid has in what was granted is root's (privileges/view.py)."""
    uid, gid = (0 if number == ids.MVM else number for number in (status.st_uid, status.st_gid))
    return uid, gid, status.st_mode


def gives_root_group(fd: int) -> bool:
    """Whether files made in this directory, or beneath it, get the group of root: True where that is too much to tell.

    They get that of a directory with the set-group-ID bit (inode(7)), whatever the server's own group is.
    """
    if _gives(os.fstat(fd)):
        return True
    for number, (above, entry) in enumerate(walk(fd, _LEVELS), 1):
        if number > _ENTRIES:
            return True
        if is_directory(entry):
            with suppress(OSError):
                if len(above) + 1 == _LEVELS or _gives(entry.stat(follow_symlinks=False)):
                    return True
    return False


def _gives(status: os.stat_result) -> bool:
    _, gid, mode = _on_disk(status)
    return gid == 0 and bool(mode & stat.S_ISGID)


def unavailable(share: Share, why: str, hint: str) -> RefusedError:
    """The refusal of a share that can't be had."""
    return refuse(ReasonCode.SHARE_UNAVAILABLE, f"the share {share.host}", why, hint)
