"""The only writer and reader of a machine's network log: one line for each verdict, in two files of a bounded size.

`network.log` is the newer, `network.1.log` the older one, in the machine's directory, for its owner alone. A line is
canonical JSON: the time, the machine, and the event as the gateway or the dialler told it. When the newer file has half
of the bound it takes the older one's place. No failing disk ends a machine: what can't be written is missing. What was
left in the files at the end has a digest, which stands in the receipt.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from mvmnix.errors import MvmnixError
from mvmnix.launch.network.messages import NetworkEvent
from mvmnix.model import Digest
from mvmnix.private_dirs import Directory
from mvmnix.strict import MalformedError, Record, canonical, parse_json, read, show_time

NEWER: Final = "network.log"
OLDER: Final = "network.1.log"
#: Bytes of both files.
LIMIT: Final = 8 << 20
_CHUNK: Final = 1 << 20
#: Seconds between two looks at a log that is followed.
_INTERVAL: Final = 0.2
_MACHINE: Final = r"[a-z0-9][a-z0-9-]{0,63}"


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One line."""

    time: datetime
    machine: str
    event: NetworkEvent

    def line(self) -> bytes:
        """As it is written."""
        return canonical({"time": show_time(self.time), "machine": self.machine} | self.event.fields()) + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Raises MalformedError."""
        return read(parse_json(line), "event", cls._read)

    @classmethod
    def _read(cls, record: Record) -> Self:
        return cls(record.time("time"), record.text("machine", _MACHINE), NetworkEvent.read(record))


class NetworkLog:
    """Keeps events in a machine's directory, which stays the caller's."""

    def __init__(self, directory: Directory, limit: int = LIMIT) -> None:
        self._directory, self._most = directory, limit // 2
        self._fd = -1
        self._size = 0

    def write(self, logged: LoggedEvent) -> None:
        """Add a line, if the disk takes it."""
        line = logged.line()
        with suppress(OSError):
            if self._fd < 0 or self._size + len(line) > self._most:
                self._begin()
            written = os.pwrite(self._fd, line, self._size)
            if written < len(line):
                os.ftruncate(self._fd, self._size)
            else:
                self._size += written

    def _begin(self) -> None:
        if self._fd >= 0:
            self._directory.rename(NEWER, OLDER, durable=False)
            os.close(self._fd)
            self._fd = -1
        self._fd = self._directory.create_file(NEWER)
        self._size = 0

    def close(self) -> Digest:
        """The digest of what is kept, the older file first; what is written later is lost."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._most = 0
        return kept_digest(self._directory)


def kept_digest(directory: Directory) -> Digest:
    """SHA-256 of both files, the older one first; that of nothing where there is none."""
    hasher = hashlib.sha256()
    for name in (OLDER, NEWER):
        with suppress(FileNotFoundError):
            hasher.update(directory.read(name, LIMIT))
    return Digest(hasher.hexdigest())


def read_log(directory: Directory, *, follow: Callable[[], bool] | None = None) -> Iterator[LoggedEvent]:
    """What is kept, the oldest first; with `follow`, what comes too, for as long as that says so.

    Raises MvmnixError for a file that isn't what mvm writes.
    """
    reader = _Reader(directory)
    try:
        while True:
            goes_on = follow is not None and follow()  # asked before the last look
            yield from reader.read()
            if not goes_on:
                return
            time.sleep(_INTERVAL)
    finally:
        reader.close()


class _Reader:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._fd = -1
        self._rest = b""
        #: The file that was read last, by its number, whose place another may have taken since.
        self._seen: set[int] = set()

    def read(self) -> Iterator[LoggedEvent]:
        while True:
            if self._fd < 0 and not self._open_next():
                return
            while data := os.read(self._fd, _CHUNK):
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    yield self._parsed(line)
            if not self._is_over():
                return
            self.close()

    def _parsed(self, line: bytes) -> LoggedEvent:
        try:
            return LoggedEvent.parse(line)
        except MalformedError as error:
            where = self._directory.where(NEWER)
            hint = f"look at {self._directory.path}"
            raise MvmnixError(f"{where}, or the older {OLDER}, is not what mvm writes", hint=hint) from error

    def _is_over(self) -> bool:
        """Whether there is a file that was begun later."""
        try:
            newest = os.stat(NEWER, dir_fd=self._directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return newest.st_ino not in self._seen

    def _open_next(self) -> bool:
        for name in (OLDER, NEWER):
            with suppress(FileNotFoundError):
                fd = self._directory.open_file(name)
                number = os.fstat(fd).st_ino
                if number not in self._seen:
                    self._seen.add(number)
                    self._fd, self._rest = fd, b""
                    return True
                os.close(fd)
        return False

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
