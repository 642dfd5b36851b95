"""The only maker of mounts that show one user's files to another: what helpers read and servers of shares serve.

The caller opens the file or directory with its own rights and passes the descriptor (O_PATH). What comes back is a
detached mount of it, which a user namespace can attach (entry.py):

1. In what mvm was granted (grants.py), the file is looked up again beneath the descriptor that root opened, since a
   mount that is ID-mapped can't be mapped once more. It has to be the same file.
2. What belongs to neither root nor mvm's uid is mapped only if the command line names that very file or directory.
   Root's, outside of what was granted, isn't mapped. What isn't mapped is read as everybody may, or refused.
3. What is read is mounted read-only; the reader has the place of the file's owner and group, unless everybody may read
   it. Where it can't be mapped the reader sees what everybody may read.
4. What is served to a guest has the reader in the place of its owner and group; groups below `lowest_group` have no
   place. A directory of root's isn't mapped, and is served read-only or not at all.
5. The flags of what is mapped are locked (locked_mount.py): the caller has capabilities in namespaces of its own. What
   isn't mapped is read-only for others' sake; its reader may do there what every user may.
"""

import ctypes
import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mvmnix import procfs
from mvmnix.privileges import idmap, ids, user_namespaces
from mvmnix.privileges.grants import Grant, Grants
from mvmnix.privileges.locked_mount import locked

_OPENAT2: Final = 437
#: openat2(2): RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH.
_BENEATH: Final = 0x02 | 0x04 | 0x08


@dataclass(frozen=True, slots=True)
class ServedDirectory:
    """How a directory is served to a guest: whether it may write; the lowest group that has a place (0 or 1)."""

    writable: bool
    lowest_group: int


def made(source: int, reader: int, served: ServedDirectory | None, grants: Grants | None) -> int:
    """The detached mount of what `source` names, for a uid and gid of the pool; the caller closes it.

    `served` is None for what a helper reads; `grants` is None where the caller is root itself. Raises OSError: EACCES
    where the caller may not have it, EOPNOTSUPP where it can't be mapped and has to be.
    """
    if grants is None:
        return _Made(reader, served).of(source)
    path = _path(source)
    made_ = _Made(reader, served, whole=not grants.has_at_or_beneath(path))
    if served is not None and not made_.whole and _has_others_mounts(path, grants):
        raise OSError(errno.EOPNOTSUPP, "another file system is mounted in it, which root's mvm can't serve", path)
    grant = grants.above(path)
    if grant is None:
        return _allowed(source, made_, granted=False, named=False)
    original, named = _looked_up(source, grant)  # 1
    try:
        return _allowed(original, made_, granted=True, named=named and grant.named)
    finally:
        os.close(original)


def _has_others_mounts(path: str, grants: Grants) -> bool:
    """Whether mounts beneath a directory are others than those of what was granted (view.py)."""
    own = {grant.path for grant in grants.all}
    points = (mount.point for mount in procfs.mounts(procfs.lines(Path("/proc/self/mountinfo"))))
    return any(point.startswith(f"{path}/") and point not in own for point in points)


def _allowed(source: int, made_: "_Made", *, granted: bool, named: bool) -> int:
    owner, served = os.fstat(source).st_uid, made_.served  # 2
    if owner == ids.MVM or named or (granted and owner == 0):
        return made_.of(source)
    if served is not None and served.writable and owner != 0:
        raise PermissionError(errno.EACCES, "it isn't named on the command line", _path(source))
    return made_.plain(source)


@dataclass(frozen=True, slots=True)
class _Made:
    """How a file is mounted, once it is known that it may be; `whole` is it with all mounts beneath it.

    What was granted is mounted once more beneath itself by view.py: then it isn't whole.
    """

    reader: int
    served: ServedDirectory | None
    whole: bool = True

    def of(self, source: int) -> int:
        """The mount of a file or directory, for the reader."""
        status, served = os.fstat(source), self.served
        if served is None:  # 3
            if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH:
                return self.plain(source)
            tree = self._mapped(source, status, status.st_gid, 0)
            return self.plain(source) if tree is None else _locked(tree, writable=False)
        if status.st_uid == 0:  # 4
            return self.plain(source)
        tree = self._mapped(source, status, status.st_gid or status.st_uid, served.lowest_group)
        if tree is None:
            raise OSError(errno.EOPNOTSUPP, "its file system has no ID-mapped mounts", _path(source))
        return _locked(tree, writable=served.writable)

    def _mapped(self, source: int, status: os.stat_result, group: int, lowest_group: int) -> int | None:
        pairs = (status.st_uid, self.reader), (group, self.reader)
        namespace = user_namespaces.for_mount(*pairs, lowest_group)
        try:
            return idmap.mapped(source, namespace, whole=self.whole)
        finally:
            os.close(namespace)

    def plain(self, source: int) -> int:
        """It as it is, read-only."""
        if self.served is not None and self.served.writable:
            raise PermissionError(errno.EACCES, "it belongs to root", _path(source))
        tree = idmap.detached(source, whole=self.whole)
        if tree is None:
            raise PermissionError(errno.EPERM, "it can't be mounted", _path(source))
        try:
            idmap.restrict(tree, writable=False)
        except OSError:
            os.close(tree)
            raise
        return tree


def _locked(tree: int, *, writable: bool) -> int:
    try:
        idmap.restrict(tree, writable=writable)
        return locked(tree)  # 5
    finally:
        os.close(tree)


def _path(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - a descriptor's


class _OpenHow(ctypes.Structure):
    """struct open_how (openat2(2))."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _looked_up(source: int, grant: Grant) -> tuple[int, bool]:
    """The same file beneath what root opened, and whether it is that itself.

    Raises OSError, ESTALE where another one is there by now.
    """
    relative = os.path.relpath(_path(source), grant.path)
    if relative == ".":
        found = os.dup(grant.fd)
    else:
        how = _OpenHow(os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW, 0, _BENEATH)
        name, size = os.fsencode(relative), ctypes.c_size_t(ctypes.sizeof(how))
        libc = ctypes.CDLL(None, use_errno=True)
        found = idmap.checked(libc.syscall(_OPENAT2, grant.fd, name, ctypes.byref(how), size), relative)
    if not os.path.samestat(os.fstat(found), os.fstat(source)):
        os.close(found)
        raise OSError(errno.ESTALE, "another file is there by now", relative)
    return found, relative == "."
