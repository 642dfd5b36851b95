"""Writes what a guest sends beneath one directory that it holds: new files and directories only, no link is followed.

All of it lies under a name of its own until it is complete; then it gets the name that was asked for. What is not
completed is removed.
"""

import os
import shutil
import stat
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from mvmnix.errors import UsageError
from mvmnix.launch.copy.records import copy_refusal, is_name
from mvmnix.system.output_files import give_name, open_parent, temporary_name

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TWICE: Final = "it comes twice"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Unpack:
    """A receiver of a copy; a context manager that leaves what `commit` was called for, or nothing.

    `name` is what it is called if `target` is a directory; else `target` is its new path. With `replaces`, a file may
    take the place of a regular file, with `forces` that of a link or device, too; a directory never takes anything's.
    Modes keep their permissions as far as the umask lets them, and nothing else.
    """

    def __init__(self, target: Path, name: bytes, *, replaces: bool, forces: bool = False) -> None:
        """Raises UsageError when there is no such place, or something is there."""
        self._replaces, self._forces = replaces or forces, forces
        self._temporary = temporary_name("mvm-cp")
        self._file: IO[bytes] | None = None
        self._is_file = self._begun = False
        try:
            place, self._name = _place(target, os.fsdecode(name))
        except OSError as error:
            raise UsageError(f"{target}: {error.strerror}", hint="make the directory first") from error
        self._fds = [place]
        with ExitStack() as undo:
            undo.callback(self._close)
            if not is_name(os.fsencode(self._name)):
                hint = "name the new file or directory, not the one it goes into"
                raise UsageError("it needs a name here", hint=hint)
            self._look()
            undo.pop_all()

    def _look(self) -> None:
        """Say so at once when something is in the way; whether it still is, the end finds out."""
        try:
            status = os.stat(self._name, dir_fd=self._fds[0], follow_symlinks=False)
        except FileNotFoundError:
            return
        is_replaceable = not stat.S_ISDIR(status.st_mode) if self._forces else stat.S_ISREG(status.st_mode)
        if not (is_replaceable and self._replaces):
            raise self._in_the_way()

    def _in_the_way(self) -> UsageError:
        hint = "another name; a file replaces a file, with --force also a link or device, and nothing a directory"
        return UsageError(f"{self._name!r} is there already", hint=hint)

    def file(self, name: bytes, mode: int, size: int) -> None:
        """A new file."""
        del size
        text, self._is_file = self._text(name), not self._begun
        self._begun = True
        try:
            self._file = os.fdopen(os.open(text, _NEW, mode, dir_fd=self._fds[-1]), "wb", buffering=0)
        except FileExistsError as error:
            raise copy_refusal(text, _TWICE) from error

    def data(self, data: bytes) -> None:
        """More of it."""
        view = memoryview(data)
        while view and self._file is not None:
            view = view[self._file.write(view) :]

    def file_end(self) -> None:
        """Complete."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def enter(self, name: bytes, mode: int) -> None:
        """A new directory, into which its owner can always look."""
        text = self._text(name)
        self._begun = True
        try:
            os.mkdir(text, mode | stat.S_IRWXU, dir_fd=self._fds[-1])
        except FileExistsError as error:
            raise copy_refusal(text, _TWICE) from error
        self._fds.append(os.open(text, _DIRECTORY, dir_fd=self._fds[-1]))

    def leave(self) -> None:
        """Complete."""
        os.close(self._fds.pop())

    def commit(self) -> None:
        """All of it came: give it its name. Raises UsageError when another process was faster."""
        parent = self._fds[0]
        try:
            give_name(parent, self._temporary, self._name, replaces=self._replaces or not self._is_file)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise self._in_the_way() from error

    def _text(self, name: bytes) -> str:
        return os.fsdecode(name) if len(self._fds) > 1 else self._temporary

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file_end()
        while len(self._fds) > 1:
            self.leave()
        try:  # first as a file: rmtree would open it, and its mode may not let its owner do that
            os.unlink(self._temporary, dir_fd=self._fds[0])
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            shutil.rmtree(self._temporary, dir_fd=self._fds[0])
        self._close()

    def _close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())


def _place(target: Path, name: str) -> tuple[int, str]:
    """Open the directory that a copy goes into; it is called `name` there if `target` is that directory.

    Raises OSError, and UsageError for a symbolic link on the way (mvmnix/system/output_files.py).
    """
    with open_parent(str(target)) as (parent, last):
        with suppress(FileNotFoundError, NotADirectoryError):  # what is no directory may be replaced
            return os.open(last, _DIRECTORY, dir_fd=parent), name
        return os.open(".", _DIRECTORY, dir_fd=parent), last
