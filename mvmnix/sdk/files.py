"""Files of a machine: contents and trees as the records of a copy, in both directions; nothing is kept on the way."""

import errno
import os
import posixpath
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from mvmnix.formats.escaping import escape_line
from mvmnix.launch.agent.file_entries import FileEntry, FileEntryError, FileEntryReader
from mvmnix.launch.agent.operations import CopyDirection, FileOperation
from mvmnix.launch.control.calls import Exchange
from mvmnix.launch.control.drivers import Steps
from mvmnix.launch.control.messages import Copy, Files, Stream
from mvmnix.launch.copy.pack import Pack
from mvmnix.launch.copy.records import CopyKind, CopyLimits, Reader, record_head
from mvmnix.launch.copy.unpack import Unpack
from mvmnix.machines.exit_status import End, ExitStatus
from mvmnix.model import Verb
from mvmnix.sdk.drive import WorkerStack, work
from mvmnix.sdk.errors import (
    FileIsDirectory,
    FileNotDirectory,
    FileNotFound,
    GuestFailed,
    InvalidArgument,
    OutputLimitExceeded,
    file_error,
)
from mvmnix.sdk.machine import ENDED, Machine, check_request, require, unanswered

#: Bytes of a file that `read` returns, unless a caller says otherwise.
READ_LIMIT: Final = 1 << 30
#: Bytes of a record: the receiver of contents has a bound of its own.
_ANY_SIZE: Final = 2**63
#: MiB of a copy, unless a caller says otherwise.
COPY_LIMIT_MIB: Final = 1024
#: Permissions of a new file, unless a caller says otherwise.
NEW_MODE: Final = 0o644
#: Bytes of a guest's complaint that are kept.
_LONGEST: Final = 600
#: Bytes of standard input that are read ahead of the guest, and chunks that one piece of work reads of this host.
_AHEAD: Final = 1 << 20
_BATCH: Final = 16
#: By what the guest's agent says (strerror(3) of musl), the errno.
_NUMBERS: Final = {os.strerror(number): number for number in errno.errorcode}


class _Content:
    """The receiver of one file's bytes, at most so many."""

    def __init__(self, path: str, limit: int) -> None:
        self.content = bytearray()
        self._path = path
        self._limit = limit

    def file(self, name: bytes, mode: int, size: int) -> None:
        """Begin the file. Raises OutputLimitExceeded for one that is too large."""
        del name, mode
        if size > self._limit:
            why = f"{self._path} has {size} bytes, and {self._limit} are the limit"
            raise OutputLimitExceeded(why, stdout=b"", stderr=b"", hint="raise limit=, or use box.files.download")

    def data(self, data: bytes) -> None:
        """Keep more."""
        self.content += data

    def file_end(self) -> None:
        """End the file."""

    def enter(self, name: bytes, mode: int) -> None:
        """Raise FileIsDirectory: only a file has contents."""
        del name, mode
        raise FileIsDirectory(
            errno.EISDIR, f"{self._path}: it is a directory; box.files.download copies it", self._path
        )

    def leave(self) -> None:
        """End a directory; none begins."""


class _Complaint:
    """What a guest says of a path on standard error: the beginning alone is kept."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._said = bytearray()

    def take(self, data: bytes) -> None:
        """Keep more, as far as there is room."""
        self._said += data[: _LONGEST - len(self._said)]

    @property
    def words(self) -> str:
        """The words without the path and without control characters."""
        words = self._said.decode(errors="backslashreplace").strip() or "the guest doesn't say why"
        return escape_line(words.removeprefix(f"{self._path}: "))


def read(machine: Machine, path: str, limit: int) -> Steps[bytes]:
    """Return the bytes of a file. Raises FileFailed by its errno, OutputLimitExceeded, NotGranted, NotRunning."""
    content = _Content(path, limit)
    yield from _receive(machine, path, Reader(content, CopyLimits(size=_ANY_SIZE)))
    return bytes(content.content)


def write(machine: Machine, path: str, data: bytes, mode: int) -> Steps[None]:
    """Write a file, or replace a regular one. Raises as `read` does."""
    if not 0 <= mode <= 0o777:
        raise InvalidArgument(f"{mode:#o} has more than the permissions of a file", hint="mode=0o644")
    head = record_head(CopyKind.FILE, mode=mode, size=len(data))
    asked = Copy(CopyDirection.IN, path, "", replaces=True, streams=(Stream.STDIN, Stream.STDERR))
    yield from _send(machine, asked, iter((head, data, record_head(CopyKind.END))))


def upload(
    machine: Machine, source: str | os.PathLike[str], path: str, limits: CopyLimits, *, replaces: bool
) -> Steps[list[str]]:
    """Copy a file or directory of this host into the guest; returns what was left out.

    Into a directory that is there, it goes under its own name. Raises as `read` does, and PolicyRefused for links and
    devices, unless they are to be left out.
    """
    name = posixpath.basename(os.path.abspath(os.fspath(source)))  # noqa: PTH100 - links stay what they are
    pack = Pack(limits)
    asked = Copy(CopyDirection.IN, path, name, replaces=replaces, streams=(Stream.STDIN, Stream.STDERR))
    yield from _send(machine, asked, pack.chunks(Path(source)))
    return pack.skipped


def download(
    machine: Machine, path: str, target: str | os.PathLike[str], limits: CopyLimits, *, replaces: bool
) -> Steps[list[str]]:
    """Copy a file or directory of the guest to this host; returns what was left out. Raises as `upload` does.

    What is not complete is removed.
    """
    require(machine, Verb.COPY)
    name = os.fsencode(posixpath.basename(posixpath.normpath(path)))
    opened = WorkerStack()

    def begin(stack: ExitStack) -> Unpack:
        return stack.enter_context(Unpack(Path(target), name, replaces=replaces))

    try:
        unpack = yield from work(partial(opened.run, begin))
        reader = Reader(unpack, limits)
        yield from _receive(machine, path, reader, lambda data: opened.run(lambda _: reader.write(data)))
        yield from work(partial(opened.run, lambda _: unpack.commit()))
        yield from work(opened.close)
    finally:
        opened.close()
    return reader.skipped


def list_directory(machine: Machine, path: str) -> Steps[tuple[FileEntry, ...]]:
    """Return what is in a directory, ordered by the bytes of the names; at most 65,536 entries. Raises FileFailed."""
    return (yield from _operate(machine, Files(FileOperation.LIST, path))).listing()


def stat(machine: Machine, path: str) -> Steps[FileEntry]:
    """Return what a path names; a link is not followed. Raises FileFailed."""
    return (yield from _operate(machine, Files(FileOperation.STAT, path))).status()


def exists(machine: Machine, path: str) -> Steps[bool]:
    """Return whether a path names something, be it a link that leads nowhere. Raises FileFailed."""
    try:
        yield from stat(machine, path)
    except (FileNotFound, FileNotDirectory):
        return False
    return True


def remove(machine: Machine, path: str, *, recursive: bool) -> Steps[None]:
    """Remove a file, a link or an empty directory; with `recursive` all that is in one, too. Raises FileFailed."""
    yield from _operate(machine, Files(FileOperation.REMOVE, path, recursive=recursive))


def rename(machine: Machine, path: str, target: str) -> Steps[None]:
    """Rename a file or directory, which replaces a file of that name. Raises FileFailed."""
    if not target:
        raise InvalidArgument("the new name is empty", hint='box.files.rename("/tmp/a", "/tmp/b")')
    yield from _operate(machine, Files(FileOperation.RENAME, path, target))


def mkdir(machine: Machine, path: str, *, parents: bool) -> Steps[None]:
    """Make a directory; with `parents` those above it, too, and one that is there is no failure. Raises FileFailed."""
    yield from _operate(machine, Files(FileOperation.MKDIR, path, parents=parents))


def _operate(machine: Machine, asked: Files) -> Steps[FileEntryReader]:
    """Have an operation done; its entries. Raises FileFailed by its errno, GuestFailed for entries that can't be."""
    require(machine, Verb.COPY)
    check_request(asked)
    connection = yield from machine.connect()
    reader, complaint = FileEntryReader(), _Complaint(asked.path)
    outputs = {Stream.STDOUT: reader.write, Stream.STDERR: complaint.take}
    with connection, Exchange(connection, outputs, has_input=False) as exchange:
        try:
            status = yield from exchange.run(replace(asked, streams=exchange.streams))
        except ENDED as error:
            raise (yield from unanswered(machine)) from error
        except FileEntryError as error:
            raise GuestFailed(str(error), hint="its agent may have been taken over: end the machine") from error
    if status.end is End.EXITED and status.code:
        raise file_error(status.code, asked.path, complaint.words)
    _check(status, asked.path, complaint)
    return reader


def _receive(
    machine: Machine, path: str, reader: Reader, store: Callable[[bytes], object] | None = None
) -> Steps[None]:
    """Have a file or tree come to the reader; by `store`, which may block, where that is given."""
    asked = Copy(CopyDirection.OUT, path)
    require(machine, Verb.COPY)
    check_request(asked)
    connection = yield from machine.connect()
    complaint, pending = _Complaint(path), bytearray()
    outputs = {Stream.STDOUT: reader.write if store is None else pending.extend, Stream.STDERR: complaint.take}
    with connection, Exchange(connection, outputs, has_input=False) as exchange:
        try:
            yield from exchange.begin(replace(asked, streams=exchange.streams))
            while not exchange.is_over:
                yield from exchange.turn()
                if store is not None and pending:
                    data = bytes(pending)
                    pending.clear()
                    yield from work(partial(store, data))
        except ENDED as error:
            raise (yield from unanswered(machine)) from error
        status = exchange.status
    if status is not None:
        _check(status, path, complaint)
    reader.close()


def _send(machine: Machine, asked: Copy, chunks: Iterator[bytes]) -> Steps[None]:
    require(machine, Verb.COPY)
    check_request(asked)
    connection = yield from machine.connect()
    complaint = _Complaint(asked.path)
    with connection, Exchange(connection, {Stream.STDERR: complaint.take}, has_input=True) as exchange:
        try:
            yield from exchange.begin(asked)
            is_read = False
            while not exchange.is_over:
                if not is_read and exchange.pending_input < _AHEAD:
                    batch = yield from work(lambda: list(islice(chunks, _BATCH)))
                    is_read = not batch
                    for chunk in batch:
                        exchange.feed(chunk)
                    if is_read:
                        exchange.end_input()
                yield from exchange.turn(0 if not is_read and exchange.pending_input < _AHEAD else None)
        except ENDED as error:
            raise (yield from unanswered(machine)) from error
        status = exchange.status
    if status is not None:
        _check(status, asked.path, complaint)


def _check(status: ExitStatus, path: str, complaint: _Complaint) -> None:
    """Raise FileFailed by what the guest said of the path, GuestFailed where its copy ended otherwise."""
    if status.exit_code == 0:
        return
    if status.end is not End.EXITED:
        raise GuestFailed(f"{path}: the copy {status}", hint="try again; box.logs() may say more")
    words = complaint.words
    raise file_error(_NUMBERS.get(words.rpartition(": ")[2], errno.EIO), path, words)
