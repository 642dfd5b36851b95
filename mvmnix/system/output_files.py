"""The only writer of files and directories that callers name: by no symbolic link but root's, whole or not at all.

What is written may be a stranger's text (a flake's, a guest's), and the place may be a stranger's, too (a checkout):

1. The path is walked component by component (openat(2), O_NOFOLLOW), and what is used is what was opened. openat2(2)
   alone follows all links or none (RESOLVE_NO_SYMLINKS): it doesn't ask who owns them.
2. A symbolic link on the way counts if root owns it; where the caller is root, only one in the root directory.
3. One in place of the file or directory is neither followed nor replaced, whosever it is.
4. A file is written under a random name beside its own (O_EXCL), and gets its own by rename(2) once it is whole. The
   file that had the name stays as it is under its other names, and a new one has its permissions, if it was the
   caller's: another user's file is replaced even by the same bytes, or its owner could change them later.
5. FIFOs and character devices are written to. So are descriptors that the caller passed, by the names /dev/stdout,
   /dev/stderr, /dev/fd/N and /proc/self/fd/N.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Final, Self

from mvmnix.errors import UsageError
from mvmnix.formats.escaping import shell_command
from mvmnix.system.trusted_path import user_name

_PARENT: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD: Final = os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: What link(2) fails with where a file system has no hard links.
_NO_LINKS: Final = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP}
#: Symbolic links on the way, as many as Linux follows (path_resolution(7)).
_MOST_LINKS: Final = 40
#: Characters of a name that its temporary name begins with; a name has 255 bytes at most (limits.h, NAME_MAX).
_STEM: Final = 50
_STANDARD: Final = {"/dev/stdout": 1, "/dev/stderr": 2}
_PASSED: Final = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file to write, or to replace; with `makes_parents`, in directories that are made where they are missing."""

    path: str
    makes_parents: bool = False

    def write(self, data: bytes) -> bool:
        """Write the file; return whether it replaced one that held something else. Raises UsageError."""
        with _translate_errors(self.path, "written", "name another file"):
            if (passed := _find_descriptor(self.path)) is not None:
                with open(passed, "wb", closefd=False) as file:
                    file.write(data)
                return False
            with open_parent(self.path, makes_parents=self.makes_parents) as (parent, name):
                return self._replace(parent, name, data)

    def _replace(self, parent: int, name: str, data: bytes) -> bool:
        before = _status(parent, name)
        if before is not None and stat.S_ISLNK(before.st_mode):
            raise _make_link_error(self.path, self.path)  # 3
        if before is not None and not stat.S_ISREG(before.st_mode):
            _write_stream(parent, name, before, data)  # 5
            return False
        mode, is_same = (None, False) if before is None else _compare(parent, name, data)  # 4
        if not is_same:
            with temporary_file(parent, name, mode) as (temporary, file):
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                give_name(parent, temporary, name, replaces=True)
        return before is not None and not is_same


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to write where nothing is."""

    path: str

    def write(self, data: bytes) -> bool:
        """Write the file; return False, for nothing is replaced. Raises UsageError where something is there."""
        with self.open() as file:
            file.write(data)
        return False

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the file, which gets its name once the block has ended. Raises UsageError where something is there."""
        failures = (self.path, "made", "name a file that is not there yet")
        with ExitStack() as held:
            with _translate_errors(*failures):
                parent, name = held.enter_context(open_parent(self.path))
                if _status(parent, name) is not None:  # `give_name` finds what comes later
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
                temporary, file = held.enter_context(temporary_file(parent, name))
            yield file
            with _translate_errors(*failures):
                file.flush()
                give_name(parent, temporary, name, replaces=False)


class HeldDirectory:
    """A directory to write new files into, held by its descriptor; a context manager. Methods raise OSError."""

    def __init__(self, fd: int) -> None:
        """Take over `fd`."""
        self.fd = fd

    def file(self, name: str, mode: int = 0o666) -> IO[bytes]:
        """Open a new file."""
        return os.fdopen(os.open(name, _NEW, mode, dir_fd=self.fd), "wb")

    def write(self, name: str, data: bytes) -> None:
        """Write a new file."""
        with self.file(name) as file:
            file.write(data)

    def directory(self, name: str) -> "HeldDirectory":
        """Make a directory."""
        return HeldDirectory(_make_directory(self.fd, name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


@dataclass(frozen=True, slots=True)
class NewDirectory:
    """A directory to make where nothing is, as are those above it that are missing."""

    path: str

    def make(self, mode: int = 0o777) -> HeldDirectory:
        """Make the directory. Raises UsageError where something is there."""
        with (
            _translate_errors(self.path, "made", "name a directory that is not there yet"),
            open_parent(self.path, makes_parents=True) as (parent, name),
        ):
            return HeldDirectory(_make_directory(parent, name, mode))


@dataclass(frozen=True, slots=True)
class OutputDirectory:
    """A directory to write into; it and those above it are made where they are missing."""

    path: str

    def open(self) -> HeldDirectory:
        """Open the directory. Raises UsageError."""
        with (
            _translate_errors(self.path, "used", "name a new directory"),
            open_parent(self.path, makes_parents=True, is_directory=True) as (directory, name),
        ):
            return HeldDirectory(os.open(name, _DIRECTORY, dir_fd=directory))


@contextmanager
def open_parent(path: str, *, makes_parents: bool = False, is_directory: bool = False) -> Iterator[tuple[int, str]]:
    """Yield a descriptor (O_PATH) of the directory that a path lies in, by steps 1 and 2, and the name in it.

    The name may be `.`, `..` or that of a symbolic link; of a path that `is_directory`, it is `.` in the directory
    itself. Raises OSError, and UsageError for a link on the way that doesn't count.
    """
    with _Walk(path, makes_parents=makes_parents, is_directory=is_directory) as walk:
        while (name := walk.step()) is None:
            pass
        yield walk.reached, name


class _Walk:
    """A walk along a path, which holds the directory that it has reached."""

    def __init__(self, path: str, *, makes_parents: bool, is_directory: bool) -> None:
        self._path, self._makes_parents = path, makes_parents
        self._left = [*(["."] if is_directory else []), *_split_reversed(path)] or ["."]
        self._here = "/" if path.startswith("/") else ""
        self._links = 0
        self.reached = os.open(self._here or ".", _PARENT)

    def step(self) -> str | None:
        """Go into the next directory, or where a link leads; at the last name, return it."""
        name = self._left.pop()
        if not self._left:
            return name
        where = os.path.join(self._here, name)  # noqa: PTH118 - a text
        try:
            self._go(self._open(name), where)
        except NotADirectoryError:
            self._follow(name, where)
        return None

    def _open(self, name: str) -> int:
        try:
            return os.open(name, _PARENT, dir_fd=self.reached)
        except FileNotFoundError:
            if not self._makes_parents:
                raise
        os.mkdir(name, dir_fd=self.reached)
        return os.open(name, _PARENT, dir_fd=self.reached)

    def _follow(self, name: str, where: str) -> None:
        link = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.reached)
        try:
            status = os.fstat(link)
            if not stat.S_ISLNK(status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if status.st_uid != 0 or (os.geteuid() == 0 and self._here != "/"):  # 2
                raise _make_link_error(self._path, where)
            target = os.readlink("", dir_fd=link)
        finally:
            os.close(link)
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        self._left += _split_reversed(target)
        if target.startswith("/"):
            self._go(os.open("/", _PARENT), "/")

    def _go(self, directory: int, here: str) -> None:
        os.close(self.reached)
        self.reached, self._here = directory, here

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.reached)


def _split_reversed(path: str) -> list[str]:
    return [name for name in reversed(path.split("/")) if name not in {"", "."}]


@contextmanager
def temporary_file(parent: int, name: str, mode: int | None = None) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the name of a new file beside `name`, and the file; it is removed, unless it got its name by `put`.

    Its permissions are `mode`; without one, as the umask has it. Raises OSError.
    """
    temporary = temporary_name(name)
    try:
        with os.fdopen(os.open(temporary, _NEW, 0o666 if mode is None else mode, dir_fd=parent), "wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            yield temporary, file
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=parent)


def temporary_name(name: str) -> str:
    """Return a random name for a file that will be called `name` once it is whole."""
    return f".{name[:_STEM]}.{os.urandom(8).hex()}.tmp"


def give_name(parent: int, temporary: str, name: str, *, replaces: bool) -> None:
    """Give a file its name. Raises OSError; FileExistsError where the name is taken and nothing may be replaced."""
    if replaces:
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        return
    try:
        os.link(temporary, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if _status(parent, name) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)


def _make_directory(parent: int, name: str, mode: int = 0o777) -> int:
    os.mkdir(name, mode, dir_fd=parent)
    return os.open(name, _DIRECTORY, dir_fd=parent)


def _status(parent: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _compare(parent: int, name: str, data: bytes) -> tuple[int | None, bool]:
    """Return the permissions of a file of the caller's, and whether it holds this; of another's, None and False.

    Raises OSError where it may not be written to.
    """
    fd = os.open(name, os.O_RDWR | os.O_NONBLOCK | _OLD, dir_fd=parent)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid():
            return None, False
        return stat.S_IMODE(status.st_mode) & 0o777, os.pread(fd, len(data) + 1, 0) == data
    finally:
        os.close(fd)


def _write_stream(parent: int, name: str, before: os.stat_result, data: bytes) -> None:
    """Write to a FIFO of the caller's or root's, or to a character device. Raises OSError."""
    is_pipe = stat.S_ISFIFO(before.st_mode) and before.st_uid in {0, os.geteuid()}
    if not is_pipe and not stat.S_ISCHR(before.st_mode):
        code = errno.EISDIR if stat.S_ISDIR(before.st_mode) else errno.EACCES
        raise OSError(code, os.strerror(code))
    fd = os.open(name, os.O_WRONLY | _OLD, dir_fd=parent)
    with os.fdopen(fd, "wb") as file:
        if not os.path.samestat(before, os.fstat(fd)):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        file.write(data)


def _find_descriptor(path: str) -> int | None:
    """Return the inherited descriptor that a path names (5), None for other paths. Raises OSError for mvm's own."""
    found = _PASSED.fullmatch(path)
    number = _STANDARD.get(path) if found is None else int(found[1])
    if number is not None and not os.get_inheritable(number):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return number


def _make_link_error(path: str, link: str) -> UsageError:
    hint = f"name what it leads to, if that is what you mean: {shell_command('realpath', link)}"
    return UsageError(f"{path} can't be written: {link} is a symbolic link, which mvm doesn't follow", hint=hint)


@contextmanager
def _translate_errors(path: str, verb: str, hint: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise UsageError(f"{path} is there already", hint=hint) from error
    except PermissionError as error:
        directory, user = os.path.dirname(os.path.abspath(path)), user_name(os.geteuid())  # noqa: PTH100, PTH120 - texts
        # a directory that is there isn't to be given away: it may be the system's, and another's link in the end
        make = shell_command("install", "-d", "-o", user, f"/srv/{user}")
        made = f"write to a directory of {user}'s, such as /srv/{user} after: {make}"
        told = f"{user} may not write in {directory}: {made}; run mvm as its owner (sudo -u OWNER mvm …); or {hint}"
        raise UsageError(f"{path} can't be {verb}: {error.strerror}", hint=told) from error
    except OSError as error:
        raise UsageError(f"{path} can't be {verb}: {error.strerror}", hint=hint) from error
