"""Holds files that root's command line names, open, for a process that is another user by the time it reads them.

`mvm verify` as root reads so what root alone may read: nothing is parsed, only opened. What everybody may read needs no
descriptor, and is opened by its path, as any user does.

1. A word, what follows its `=`, and the bundle beside it, name a file; a directory the files of an exported image.
2. Only regular files are held, none that has another name (a stranger's hard link) and none that a symbolic link or
   `..` leads to: a stranger's may lead anywhere.
3. At most MOST files are held, and none is waited for (leases, fcntl(2)).

A process that starts a machine for a caller is handed an exported image's files as descriptors (`hold_handed`), and
opens none of them by its path.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from mvmnix.images.file_names import BUNDLE_NAME, BUNDLE_SUFFIX, LOCK_NAME, PARTS_NAME, REBUILDS_NAME
from mvmnix.system.descriptors import reopen

#: Descriptors: an image's directory has some ten files, and a release some hundred artifacts with a bundle each.
MOST: Final = 512
#: The files of an exported image (api/verify/image.py).
EXPORTED: Final = (
    *("kernel", "initrd", "rootfs", "manifest.json", LOCK_NAME, "sbom.cdx.json"),
    *(BUNDLE_NAME, PARTS_NAME, REBUILDS_NAME),
)
_PASSED: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_files: Final[dict[str, int]] = {}
_directories: Final[set[str]] = set()
#: Directories and files of which nothing is opened by its path.
_handed: Final[set[str]] = set()


def hold(words: Sequence[str]) -> tuple[int, ...]:
    """Open what the words name, by the rule above; the descriptors."""
    for path in filter(None, map(_key, _named(words))):
        if len(_files) == MOST:
            break
        if path not in _files and (fd := _opened(path)) is not None:
            _files[path] = fd
    return tuple(_files.values())


def hold_handed(path: str, files: Mapping[str, int]) -> None:
    """Have the files of a directory, by their names, be these descriptors, and no others be there.

    The name "" is that of the path itself: it is a file then. Raises ValueError for a descriptor that is open for more
    than reading, and for a path that isn't absolute and normal.
    """
    if not path.startswith("/") or _key(path) != path:
        raise ValueError(f"not an absolute path: {path!r}")
    for name, fd in files.items():
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        if flags & os.O_PATH or flags & os.O_ACCMODE != os.O_RDONLY:
            raise ValueError(f"{name or path} is not open for reading alone")
        _files[f"{path}/{name}" if name else path] = fd
    _directories.add(path)
    _handed.add(path)


def _key(path: str) -> str:
    """The same path for each way to write it; "" where it depends on links."""
    return "" if ".." in path.split("/") else os.path.normpath(path)


def opened(path: str) -> int | None:
    """A descriptor of a held file, at its beginning, which the caller closes; None for what isn't held.

    Raises FileNotFoundError for a file that might have been handed over, and wasn't.
    """
    if not is_held(path):
        key = _key(path)
        if key in _handed or os.path.dirname(key) in _handed:  # noqa: PTH120 - a text
            raise FileNotFoundError(errno.ENOENT, "it was not handed over", path)
        return None
    fd = os.dup(_files[_key(path)])
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def is_held(path: str) -> bool:
    """Whether this file is held."""
    return _key(path) in _files


def is_handed(path: str) -> bool:
    """Whether the files of this directory were handed over, and no other counts."""
    return _key(path) in _handed


def is_held_directory(path: str) -> bool:
    """Whether files of this directory are held."""
    return _key(path) in _directories


def _named(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        for path in filter(None, dict.fromkeys((word, word.partition("=")[2]))):
            yield path
            yield path + BUNDLE_SUFFIX
            if (directory := _key(path)) and _is_directory(path):
                _directories.add(directory)
                yield from (f"{path}/{name}" for name in EXPORTED)


def _is_directory(path: str) -> bool:
    fd = _reached(path)
    if fd is None:
        return False
    try:
        return stat.S_ISDIR(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def _opened(path: str) -> int | None:
    """A descriptor for reading of a regular file; None for anything else."""
    fd = _reached(path)
    if fd is None:
        return None
    try:
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            return reopen(fd, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    finally:
        os.close(fd)
    return None


def _reached(path: str) -> int | None:
    """What a path leads to, component by component, without a symbolic link; None where there is none."""
    fd = -1
    try:
        fd = os.open("/", _PASSED)
        for name in os.path.abspath(path).split("/"):  # noqa: PTH100 - a text
            above, fd = fd, os.open(name or ".", _PASSED, dir_fd=fd)
            os.close(above)
    except (OSError, ValueError):
        if fd >= 0:
            os.close(fd)
        return None
    return fd
