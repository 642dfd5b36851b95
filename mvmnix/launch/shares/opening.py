"""Opens the directories of the host that a plan names, without a symbolic link on the way, and holds them.

The descriptor is what is looked at, judged and shared: renaming or replacing the path afterwards changes nothing. The
process that opens it is the caller's, so that no directory is shared that the caller doesn't reach; the one that starts
the machine judges what it is handed, by these steps:

1. It is a directory, opened for reading: O_PATH, which reaches more than it proves, is refused.
2. It is the very directory that the plan's path leads to, without a symbolic link on the way.
3. A writable share comes with a file that was made in it and is open for writing.
"""

import errno
import os
import stat
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from mvmnix.errors import Reason, ReasonCode, RefusedError, refuse
from mvmnix.plan.share import Share
from mvmnix.system.descriptors import access_of
from mvmnix.system.trusted_path import user_name

_PASSED: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPENED: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(path: str, last: int = _OPENED) -> int:
    """A descriptor of a directory, which the caller closes: from `/` on, component by component, links refused.

    `last` are the flags with which it is opened itself. Raises OSError; ELOOP or ENOTDIR for what is a link or no
    directory.
    """
    fd = os.open("/", _PASSED)
    for name, flags in (*((name, _PASSED) for name in PurePosixPath(path).parts), (".", last)):
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


@dataclass(slots=True)
class OpenedShares:
    """Directories of shares, by their places in the guest, and why the others can't be had.

    `proofs` are, for writable ones, files that were made in them: their descriptors, open for writing.
    """

    directories: dict[str, int] = field(default_factory=dict)
    proofs: dict[str, int] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All of them: of each share its directory, and the proof behind it."""
        return tuple(
            each[place] for place in self.directories for each in (self.directories, self.proofs) if place in each
        )

    def close(self) -> None:
        """Close them. A second call does nothing."""
        for fd in self.descriptors:
            os.close(fd)
        self.directories, self.proofs = {}, {}


def open_shares(shares: Sequence[Share]) -> OpenedShares:
    """Open the directories of all shares, as far as they can be had."""
    found = OpenedShares()
    try:
        for share in shares:
            try:
                fd = found.directories[share.guest] = open_share(share)
                if share.writable:
                    found.proofs[share.guest] = _make_proof(share, fd)
            except RefusedError as refused:
                found.reasons += refused.reasons
    except BaseException:
        found.close()
        raise
    return found


def check_handed(share: Share, fd: int, proof: int | None) -> None:
    """Judge the descriptor that a caller handed over for a share, by the module's steps; it stays open.

    Raises RefusedError [share-unavailable].
    """
    why = _doubt(share, fd, proof)
    if why:
        raise unavailable(share, f"what was handed over for it {why}", "this is mvm's own mistake, or an attack")


def _doubt(share: Share, fd: int, proof: int | None) -> str:
    """Return what speaks against a descriptor; "" for nothing."""
    try:
        status = os.fstat(fd)
        if access_of(fd) is None or not stat.S_ISDIR(status.st_mode):
            return "is not a directory, or is not open for reading"  # 1
        named = open_directory(share.host, _PASSED)
        try:
            if not os.path.samestat(status, os.fstat(named)):
                return "is another directory"  # 2
        finally:
            os.close(named)
        if share.writable and (proof is None or not _proves(fd, proof)):
            return "doesn't show that it may be written"  # 3
    except OSError as error:
        return f"can't be looked at: {error.strerror}"
    return ""


def _make_proof(share: Share, directory: int) -> int:
    """Make a file without a name in a directory, or with one that is removed at once. Raises RefusedError."""
    try:
        try:
            return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=directory)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}:
                raise
        name = f".mvm-{os.urandom(8).hex()}"
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
        os.unlink(name, dir_fd=directory)
    except OSError as error:
        hint = "let this user write to it, or share it read only (ro)"
        raise unavailable(share, f"no file can be made in it: {error.strerror}", hint) from error
    return fd


def _proves(directory: int, proof: int) -> bool:
    """Whether a file was made in this very directory, and is open for writing. Raises OSError.

    Its status is asked of its file system, which may take for ever to answer: so only where that is the directory's.
    """
    where, name = (os.readlink(f"/proc/self/fd/{fd}") for fd in (directory, proof))  # noqa: PTH115 - texts
    is_there = os.path.dirname(name) == where  # noqa: PTH120 - a text
    if not is_there or access_of(proof) not in {os.O_WRONLY, os.O_RDWR}:
        return False
    status = os.fstat(proof)
    return stat.S_ISREG(status.st_mode) and status.st_dev == os.fstat(directory).st_dev


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
