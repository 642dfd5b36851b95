"""The only place that opens mvm's own directories and their files: by descriptor, none that others could change."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Self

from mvmnix.errors import ReasonCode, RefusedError, UnreadableError, refuse
from mvmnix.formats.escaping import shell_command
from mvmnix.system import file_lock
from mvmnix.system.file_lock import Lock
from mvmnix.system.trusted_path import DIRECTORY, Step, judge, judge_closed, make_component, open_component, walk

#: O_NONBLOCK: opening a FIFO that another process planted must not hang before its kind is seen.
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class Directory:
    """A trusted directory, held by its descriptor; a context manager. `path` is for messages only.

    Names are single components (else ValueError). What is missing raises FileNotFoundError; what is there but not to
    be trusted raises RefusedError [state-permissions].
    """

    def __init__(self, fd: int, path: str) -> None:
        """Take over `fd`; it is closed again when the directory is not to be trusted."""
        try:
            judge(path, os.fstat(fd))
        except RefusedError:
            os.close(fd)
            raise
        self.fd = fd
        self.path = path

    @classmethod
    def open(cls, path: str) -> Self:
        """Open an existing directory by its absolute path."""
        return cls(walk(path, open_component), path)

    @classmethod
    def create(cls, path: str) -> Self:
        """Open a directory by its absolute path; what is missing of it is made first, with mode 0700."""
        return cls(walk(path, make_component), path)

    def child(self, name: str, mode: int = 0o700) -> "Directory":
        """The directory of that name in this one, made with that mode if it is missing."""
        with self._located(name):
            return self._child(name, partial(make_component, mode=mode))

    def existing(self, name: str) -> "Directory":
        """The directory of that name in this one. Raises FileNotFoundError when it is missing."""
        return self._child(name, open_component)

    def _child(self, name: str, step: Step) -> "Directory":
        path = self.where(name)
        return Directory(step(_component(name), path, self.fd, DIRECTORY), path)

    def where(self, name: str) -> str:
        """The path of a name in this directory, for messages."""
        return f"{self.path.rstrip('/')}/{name}"

    def open_file(self, name: str) -> int:
        """A descriptor of a regular file, for reading; the caller closes it."""
        return self._open(name, os.O_RDONLY)

    def open_writable(self, name: str) -> int:
        """A descriptor of a regular file, for reading and writing; the caller closes it."""
        return self._open(name, os.O_RDWR)

    def create_file(self, name: str, mode: int = 0o600) -> int:
        """A descriptor of a new file, for reading and writing. Raises FileExistsError."""
        with self._judged(name), self._located(name):
            return os.open(_component(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE, mode, dir_fd=self.fd)

    def _open(self, name: str, flags: int) -> int:
        path = self.where(name)
        try:
            fd = os.open(_component(name), flags | _FILE, dir_fd=self.fd)
        except PermissionError:
            judge_closed(name, path, self.fd)
            raise
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
                raise
            raise _no_file(path) from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise _no_file(path)
            judge(path, status)
        except RefusedError:
            os.close(fd)
            raise
        return fd

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of a regular file. Raises UnreadableError beyond `limit` bytes."""
        with os.fdopen(self.open_file(name), "rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise UnreadableError(
                f"{self.where(name)} is larger than {limit} bytes", hint="move it away and look at it"
            )
        return data

    def write_atomic(self, name: str, data: bytes, mode: int = 0o600, *, durable: bool = True) -> None:
        """Put `data` under `name`: after a crash at any moment the old or the new file is there, whole.

        Once this has returned it is the new one, unless that is of no matter to the caller (`durable`).
        """
        temporary, fd = self.create_temporary(_component(name)[:200], mode)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
                self.rename(temporary, name, durable=durable)  # before it is closed, or a sweep might come first
        except BaseException:
            self.remove(temporary)
            raise

    def write_new(self, name: str, data: bytes, mode: int = 0o600) -> None:
        """Put `data` under a name that isn't taken, durably. Raises FileExistsError where it is.

        The file is on the disk before it gets its name, which link(2) gives once: after a crash at any moment there is
        either no file of that name, or all of it.
        """
        temporary, fd = self.create_temporary(_component(name)[:200], mode)
        with os.fdopen(fd, "wb") as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(fd)
                with self._judged(name):
                    os.link(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=False)
            finally:  # before it is closed, or a sweep might come first
                os.unlink(temporary, dir_fd=self.fd)
        self.sync()

    def create_temporary(self, stem: str, mode: int = 0o600) -> tuple[str, int]:
        """A new file that `names` leaves out: its name, and a descriptor for reading and writing.

        While that descriptor is open, in whatever process, `sweep` leaves the file alone.
        """
        while True:
            name = f".{_component(stem)}.{os.urandom(8).hex()}.tmp"
            fd = self.create_file(name, mode)
            fcntl.flock(fd, fcntl.LOCK_EX)  # waits for a sweep at most, which may have seen it before it was held
            if os.fstat(fd).st_nlink:
                return name, fd
            os.close(fd)

    def sweep(self, *, remove: bool = True) -> dict[str, int]:
        """Remove the temporary files of writers that died (or just find them): names and sizes in bytes.

        A writer's hold is the kernel's word, so that of a living one stays, however old it is.
        """
        found = {}
        for name in filter(_is_temporary, os.listdir(self.fd)):  # noqa: PTH208 - a descriptor
            try:
                fd = os.open(name, os.O_RDONLY | _FILE, dir_fd=self.fd)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found[name] = os.fstat(fd).st_size
                if remove:
                    os.unlink(name, dir_fd=self.fd)
            except (BlockingIOError, FileNotFoundError):  # it is held, or its writer was done in between
                continue
            finally:
                os.close(fd)
        return found

    def rename(self, old: str, new: str, *, durable: bool = True) -> None:
        """Give a file of this directory another name, durably unless it is of no matter; what had it is replaced."""
        with self._judged(new):
            os.rename(_component(old), _component(new), src_dir_fd=self.fd, dst_dir_fd=self.fd)
        if durable:
            self.sync()

    def sync(self) -> None:
        """Make names durable (fsync of the directory)."""
        os.fsync(self.fd)

    def names(self) -> tuple[str, ...]:
        """The names in it, sorted. Temporary files of unfinished writes (`.….tmp`) are left out."""
        return tuple(sorted(name for name in os.listdir(self.fd) if not _is_temporary(name)))  # noqa: PTH208 - a descriptor

    def exists(self, name: str) -> bool:
        """Whether the name is there, whatever it names."""
        try:
            os.stat(_component(name), dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def remove(self, name: str, *, durable: bool = True) -> None:
        """Remove a file, if it is there, durably unless it is of no matter whether it is back after a crash."""
        try:
            with self._judged(name):
                os.unlink(_component(name), dir_fd=self.fd)
        except FileNotFoundError:
            return
        if durable:
            self.sync()

    def remove_tree(self, name: str) -> None:
        """Remove a directory with all that is in it, following no symbolic link. Raises FileNotFoundError."""
        import shutil  # noqa: PLC0415 - it loads compression libraries, and few commands remove a tree

        shutil.rmtree(_component(name), dir_fd=self.fd)
        self.sync()

    def lock(self, name: str) -> Lock:
        """The exclusive lock on the lock file `name`, waited for; see mvmnix/system/file_lock.py."""
        with self._judged(name):
            return file_lock.acquire(self.fd, _component(name))

    def share(self, name: str) -> Lock:
        """The lock on the lock file `name` together with others who share it, waited for."""
        with self._judged(name):
            return file_lock.acquire(self.fd, _component(name), is_shared=True)

    def try_lock(self, name: str) -> Lock | None:
        """The exclusive lock on the lock file `name`, or None when it is held already."""
        with self._judged(name):
            return file_lock.try_acquire(self.fd, _component(name))

    def holder(self, name: str) -> int | None:
        """The process that holds that lock now, as the kernel says; None when none does."""
        with self._judged(name):
            return file_lock.holder(self.fd, _component(name))

    @contextmanager
    def _judged(self, name: str) -> Iterator[None]:
        """Where the system denies something about this name, say whose it is, or whose this directory is."""
        try:
            yield
        except PermissionError:
            judge_closed(name, self.where(name), self.fd)
            judge_closed(".", self.path, self.fd)
            raise

    @contextmanager
    def _located(self, name: str) -> Iterator[None]:
        """Where nothing can be made, for this directory was removed, have the error name the whole path."""
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(error.errno, error.strerror, self.where(name)) from error

    def close(self) -> None:
        """Close the descriptor. A second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def _component(name: str) -> str:
    """A single path component; names come from mvm's own code, so another is a mistake there: ValueError."""
    if not name or name in {".", ".."} or "/" in name or "\0" in name:
        raise ValueError(f"not the name of one file: {name!r}")
    return name


def _no_file(path: str) -> RefusedError:
    why = "it is not a regular file"
    return refuse(
        ReasonCode.STATE_PERMISSIONS, path, why, f"look at it and remove it: {shell_command('ls', '-ld', path)}"
    )
