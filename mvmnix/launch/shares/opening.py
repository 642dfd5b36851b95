"""Opens the directories of the host that a plan names, without a symbolic link on the way, and holds them.

The descriptor is what is looked at, judged and shared: renaming or replacing the path afterwards changes nothing.
"""

import errno
import os
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.plan.share import Share
from mvmnix.system.trusted_path import user_name

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
        if isinstance(error, PermissionError):
            user = user_name(os.geteuid())
            hint = f"let {user} in (chown, chmod), or run mvm as the directory's owner: sudo -u OWNER mvm …"
        raise unavailable(share, f"it can't be opened: {error.strerror}", hint) from error


def unavailable(share: Share, why: str, hint: str) -> RefusedError:
    """The refusal of a share that can't be had."""
    return refuse(ReasonCode.SHARE_UNAVAILABLE, f"the share {share.host}", why, hint)


def walk(
    directory: int, deepest: int, above: tuple[str, ...] = ()
) -> Generator[tuple[tuple[str, ...], os.DirEntry[str]]]:
    """Each entry in `directory`, a descriptor, and beneath it, with the names of the directories that lead to it.

    Directories at level `deepest` (1 is the first) are yielded and not entered, nor is one that is gone or can't be
    opened. The caller bounds the number of entries: it stops asking.
    """
    with os.scandir(directory) as found:  # it has a descriptor of its own
        for entry in found:
            yield above, entry
            if (
                len(above) + 1 < deepest
                and is_directory(entry)
                and (child := _entered(directory, entry.name)) is not None
            ):
                try:
                    yield from walk(child, deepest, (*above, entry.name))
                finally:
                    os.close(child)


def is_directory(entry: os.DirEntry[str]) -> bool:
    """Whether it is one itself, and no link to one."""
    with suppress(OSError):
        return entry.is_dir(follow_symlinks=False)
    return False


def _entered(parent: int, name: str) -> int | None:
    with suppress(OSError):
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    return None
