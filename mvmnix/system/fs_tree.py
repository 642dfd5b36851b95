"""The only reader of whole directories into trees to archive; follows no symbolic link, opens no special file."""

import os
import stat
from collections.abc import Iterable, Iterator
from functools import partial

from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError
from mvmnix.formats.escaping import shell_command
from mvmnix.formats.nar import Dir, File, Node, Symlink, tree_of_paths

#: Directories deeper than this are refused: no source tree has them, and each level costs a descriptor.
MAX_DEPTH = 200
_MAX_REASONS = 20
_CHUNK = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}

type _Path = tuple[bytes, ...]
#: What tells a file apart from what may have taken its name since: device, inode, size and time of the last change.
type _Stamp = tuple[int, int, int, int]


def tree_of_directory(fd: int) -> Dir:
    """The tree beneath an open directory. Its files are opened when they are read, beneath `fd`, which must stay open.

    Raises RefusedError [flake-unsupported] naming sockets, FIFOs, devices and what is nested too deep; MvmnixError when
    the tree changes meanwhile. Owners, times and modes but the owner's executable bit are left out, as a NAR does.
    """
    reasons: list[Reason] = []
    tree = _directory(fd, fd, (), reasons)
    if reasons:
        raise RefusedError(*reasons)
    return tree


def tree_of_files(fd: int, names: Iterable[bytes]) -> Dir:
    """The tree of these files beneath an open directory, as they lie there; what is not there is left out.

    `names` are paths from there, with slashes. Otherwise like `tree_of_directory`; a directory is refused as a file.
    """
    reasons: list[Reason] = []
    paths = (tuple(name.split(b"/")) for name in names)
    found = [(path, node) for path in paths if (node := _file(fd, path, reasons)) is not None]
    if reasons:
        raise RefusedError(*reasons)
    try:
        return tree_of_paths(found)
    except ValueError as error:
        raise MvmnixError("the directory changed while it was read", hint="keep it still, and try again") from error


def _file(root: int, path: _Path, reasons: list[Reason]) -> Node | None:
    try:
        parent = _parent_of(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _changed(path) from error
    try:
        if stat.S_ISDIR(os.stat(path[-1], dir_fd=parent, follow_symlinks=False).st_mode):
            _add(reasons, path, "it is a directory where a file is expected, a submodule perhaps")
            return None
        return _entry(root, parent, path, reasons)
    except FileNotFoundError:
        return None
    finally:
        os.close(parent)


def _directory(root: int, fd: int, path: _Path, reasons: list[Reason]) -> Dir:
    entries: dict[bytes, Node] = {}
    for text in sorted(os.listdir(fd)):
        name = os.fsencode(text)
        node = _entry(root, fd, (*path, name), reasons)
        if node is not None:
            entries[name] = node
    return Dir(entries)


def _entry(root: int, parent: int, path: _Path, reasons: list[Reason]) -> Node | None:
    """The node of the last name of `path` in `parent`; None when there is a reason to refuse it."""
    name = path[-1]
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        match stat.S_IFMT(status.st_mode):
            case stat.S_IFREG:
                executable = bool(status.st_mode & stat.S_IXUSR)
                return File(status.st_size, partial(_read, root, path, _stamp_of(status)), executable)
            case stat.S_IFLNK:
                return Symlink(os.readlink(name, dir_fd=parent))
            case stat.S_IFDIR if len(path) <= MAX_DEPTH:
                fd = os.open(name, _DIRECTORY, dir_fd=parent)
                try:
                    return _directory(root, fd, path, reasons)
                finally:
                    os.close(fd)
            case stat.S_IFDIR:
                _add(reasons, path, f"it is nested deeper than {MAX_DEPTH} directories")
            case kind:
                _add(reasons, path, f"{_KINDS.get(kind, 'it')} has no place in a source tree")
    except OSError as error:
        raise _changed(path) from error
    return None


def _add(reasons: list[Reason], path: _Path, why: str) -> None:
    if len(reasons) < _MAX_REASONS:
        where = _text(path)
        reasons.append(
            Reason(ReasonCode.FLAKE_UNSUPPORTED, where, why, f"remove it: {shell_command('rm', '-r', '--', where)}")
        )


def _read(root: int, path: _Path, stamp: _Stamp) -> Iterator[bytes]:
    """The bytes of a file beneath `root`; every component is opened without following a symbolic link."""
    try:
        fd = _open_beneath(root, path)
    except OSError as error:
        raise _changed(path) from error
    with os.fdopen(fd, "rb", buffering=0) as file:
        if _stamp_of(os.fstat(fd)) != stamp:
            raise _changed(path)
        while chunk := file.read(_CHUNK):
            yield chunk
        if _stamp_of(os.fstat(fd)) != stamp:
            raise _changed(path)


def _stamp_of(status: os.stat_result) -> _Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _parent_of(root: int, path: _Path) -> int:
    parent = os.dup(root)
    for name in path[:-1]:
        try:
            child = os.open(name, _DIRECTORY, dir_fd=parent)
        finally:
            os.close(parent)
        parent = child
    return parent


def _open_beneath(root: int, path: _Path) -> int:
    parent = _parent_of(root, path)
    try:
        return os.open(path[-1], _FILE, dir_fd=parent)
    finally:
        os.close(parent)


def _text(path: _Path) -> str:
    return os.fsdecode(b"/".join(path)).encode(errors="backslashreplace").decode()


def _changed(path: _Path) -> MvmnixError:
    return MvmnixError(
        f"{_text(path)} could not be read, or changed meanwhile", hint="keep the directory still, and try again"
    )
