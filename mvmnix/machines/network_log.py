"""The only writer and reader of a machine's network log: one line for each verdict, in two files of a bounded size.

`network.log` is the newer, `network.1.log` the older one, in the machine's directory, for its owner alone. A line is
canonical JSON: the time, the machine, and the event as the gateway or the dialer told it. When the newer file has half
of the bound it takes the older one's place. No failing disk ends a machine: what can't be written is missing. What was
left in the files at the end has a digest, which stands in the receipt.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from mvmnix.errors import MvmnixError
from mvmnix.formats.strict import MalformedError, Record, canonical, parse_json, read, show_time
from mvmnix.model import Digest
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.system.private_dirs import Directory

NEWER: Final = "network.log"
OLDER: Final = "network.1.log"
#: Bytes of both files.
LIMIT: Final = 8 << 20
_CHUNK: Final = 1 << 20
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

    def text(self) -> str:
        """As a person reads it."""
        it = self.event
        port = f":{it.port}" if it.port else ""
        is_in = it.kind in {NetworkEventKind.INBOUND, NetworkEventKind.INBOUND_CLOSED}
        where = f"the guest{port}" if is_in else f"{it.name or it.address or '-'}{port}"
        led = f" {'from' if is_in else 'at'} {it.address}" if it.address and (it.name or is_in) else ""
        by = f" by {it.rule}" if it.rule else ""
        code = f" [{it.code}]" if it.code else ""
        carried = f", {it.sent} bytes sent, {it.received} received" if it.sent or it.received else ""
        flag = f"; {it.flag} would allow it" if it.flag else ""
        return f"{show_time(self.time)} {it.kind} {where}{led}{by}{code}{carried}{flag}"

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


def has_network_log(directory: Directory) -> bool:
    """Whether any verdict was kept there."""
    return directory.exists(NEWER) or directory.exists(OLDER)


class NetworkLogReader:
    """Reads what is kept in a machine's directory, which stays the caller's."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._fd = -1
        self._rest = b""

    def read(self) -> Iterator[LoggedEvent]:
        """What is there and wasn't read yet, the oldest first.

        Raises MvmnixError for a file that isn't what mvm writes.
        """
        while self._fd >= 0 or self._open_next():
            following = self._next()  # asked before the last look at the file
            while data := os.read(self._fd, _CHUNK):
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    yield self._parsed(line)
            if following is None or not self._open_next():
                return

    def _parsed(self, line: bytes) -> LoggedEvent:
        try:
            return LoggedEvent.parse(line)
        except MalformedError as error:
            where = self._directory.where(NEWER)
            hint = f"look at {self._directory.path}"
            raise MvmnixError(f"{where}, or the older {OLDER}, is not what mvm writes", hint=hint) from error

    def _next(self) -> str | None:
        """The name of the file that was begun after the one that is open; None where there is none yet.

        The open file keeps its number, so that no later one has it.
        """
        found = [self._status(name) for name in (OLDER, NEWER)]
        if self._fd >= 0:
            own = os.fstat(self._fd)
            for status, following in zip(reversed(found), (None, NEWER), strict=True):
                if status is not None and os.path.samestat(status, own):
                    return following
        return next((name for name, status in zip((OLDER, NEWER), found, strict=True) if status is not None), None)

    def _status(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _open_next(self) -> bool:
        if (name := self._next()) is None:
            return False
        try:
            fd = self._directory.open_file(name)
        except FileNotFoundError:
            return False  # it takes the older one's place at this moment
        self.close()
        self._fd, self._rest = fd, b""
        return True

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
