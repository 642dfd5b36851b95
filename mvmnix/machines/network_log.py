"""The only writer and reader of a machine's network log: one line for each verdict, in files of a bounded size.

`network.log` is the newer, `network.1.log` the older one, in the machine's directory, for its owner alone. A line is
canonical JSON: the time, the machine, the event's number, and the event as the gateway or the dialer told it. When the
newer file has half of the bound it takes the older one's place.

A guest can have as many events as it likes, so it could rotate its own deeds out. The first event of each kind, rule,
code and name lies in `network.first.log` too, which isn't rotated; how many events had no room there stands in its
first line. The reader puts them before what is left of the others, and says how many are missing.

No failing disk ends a machine: what can't be written is missing. What was left in the files at the end has a digest,
which stands in the receipt.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError
from mvmnix.formats.strict import MAX_INTEGER, MalformedError, Record, canonical, parse_json, read, show_time
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.system.private_dirs import Directory

NEWER: Final = "network.log"
OLDER: Final = "network.1.log"
FIRST: Final = "network.first.log"
#: Bytes of the newer and the older file.
LIMIT: Final = 8 << 20
#: First events that are kept: of those that a gateway can make up, and as many of others; and of one kind, rule and
#: code, so that names of one don't displace others.
MOST_FIRST: Final = 4096
_MOST_NAMES: Final = 64
#: The first line of the file of first events: how many events had no room there.
_OTHERS: Final = b'{"others":"%016d"}\n'
_COUNT: Final = r"[0-9]{16}"
_HEAD_BYTES: Final = len(_OTHERS % 0)
#: Bytes of that file: no event has 1,500.
_LARGEST_FIRST: Final = 2 * MOST_FIRST * 1500
#: Events by the word of the dialer or the supervisor, which no gateway can make up.
_CERTAIN: Final = frozenset(
    {
        NetworkEventKind.OPENED,
        NetworkEventKind.INBOUND,
        NetworkEventKind.BREACH,
        NetworkEventKind.FORGED,
        NetworkEventKind.UNREPORTED,
    }
)
#: The end of a connection is no deed of its own, unless it was ended.
_ENDS: Final = frozenset({NetworkEventKind.CLOSED, NetworkEventKind.INBOUND_CLOSED})
_CHUNK: Final = 1 << 20
_MACHINE: Final = r"[a-z0-9][a-z0-9-]{0,63}"


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One line; `number` counts the machine's events from 1."""

    time: datetime
    machine: str
    event: NetworkEvent
    number: int = 0

    def line(self) -> bytes:
        """As it is written."""
        return canonical(self._fields()) + b"\n"

    def _fields(self) -> dict[str, object]:
        about = {"time": show_time(self.time), "machine": self.machine, "number": self.number}
        return about | self.event.fields()

    def shown(self) -> dict[str, object]:
        """Return what `mvm net log --json` prints: the line, and the option that would allow what was refused."""
        return self._fields() | ({"flag": self.event.flag} if self.event.flag else {})

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
        number = record.integer("number", 1, MAX_INTEGER)
        return cls(record.time("time"), record.text("machine", _MACHINE), NetworkEvent.read(record), number)


@dataclass(frozen=True, slots=True)
class MissingEvents:
    """So many events are no longer kept at this place.

    `others` are those of all of a machine's events that had no room among the first ones.
    """

    count: int
    others: int


class _FirstEvents:
    """Keeps the first event of each kind, rule, code and name in a machine's directory."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._names: dict[tuple[str, str, str], set[str]] = {}
        #: How many are kept, by whether a gateway can't make up such events.
        self._counts = {False: 0, True: 0}
        self._others = 0
        self._fd = -1
        self._size = 0

    def keep(self, logged: LoggedEvent) -> None:
        """Add an event that is the first of its name, or count it where there is no room. Raises OSError."""
        event = logged.event
        if event.kind in _ENDS and not event.code:
            return
        name, of = event.name or event.address, (event.kind, event.rule, event.code)
        names, is_certain = self._names.get(of, set()), event.kind in _CERTAIN
        if name in names:
            return
        if self._fd < 0:
            self._begin()
        if len(names) >= _MOST_NAMES or self._counts[is_certain] >= MOST_FIRST:
            self._others += 1
            os.pwrite(self._fd, _OTHERS % self._others, 0)
            return
        line = logged.line()
        if os.pwrite(self._fd, line, self._size) < len(line):
            os.ftruncate(self._fd, self._size)
            return
        self._size += len(line)
        self._counts[is_certain] += 1
        self._names.setdefault(of, set()).add(name)

    def _begin(self) -> None:
        """Make the file with its head, or none. Raises OSError."""
        fd = self._directory.create_file(FIRST)
        written = 0
        with suppress(OSError):
            written = os.pwrite(fd, _OTHERS % 0, 0)
        if written < _HEAD_BYTES:
            os.close(fd)
            self._directory.remove(FIRST)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._fd, self._size = fd, _HEAD_BYTES

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class NetworkLog:
    """Keeps events in a machine's directory, which stays the caller's."""

    def __init__(self, directory: Directory, limit: int = LIMIT) -> None:
        self._directory, self._most = directory, limit // 2
        self._first = _FirstEvents(directory)
        self._fd = -1
        self._size = self._number = 0

    def write(self, time: datetime, machine: str, event: NetworkEvent) -> None:
        """Add a line, if the disk takes it."""
        if not self._most:
            return
        self._number += 1
        logged = LoggedEvent(time, machine, event, self._number)
        line = logged.line()
        with suppress(OSError):
            self._first.keep(logged)
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
        self._first.close()
        self._most = 0
        return kept_digest(self._directory)


def kept_digest(directory: Directory) -> Digest:
    """SHA-256 of the first events, the older and the newer file in this order; that of nothing where there is none."""
    hasher = hashlib.sha256()
    for name in (FIRST, OLDER, NEWER):
        with suppress(FileNotFoundError), os.fdopen(directory.open_file(name), "rb") as file:
            while data := file.read(_CHUNK):
                hasher.update(data)
    return Digest(hasher.hexdigest())


def has_network_log(directory: Directory) -> bool:
    """Whether any verdict was kept there."""
    return any(map(directory.exists, (NEWER, OLDER, FIRST)))


def _others(line: bytes) -> int:
    return read(parse_json(line), "first events", lambda record: int(record.text("others", _COUNT)))


class NetworkLogReader:
    """Reads what is kept in a machine's directory, which stays the caller's."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._fd = -1
        self._rest = b""
        self._last = 0

    def read(self) -> Iterator[LoggedEvent | MissingEvents]:
        """What is there and wasn't read yet, the oldest first; where events are missing, the first ones of these.

        Raises MvmnixError for a file that isn't what mvm writes.
        """
        for logged in self._lines():
            if logged.number > self._last + 1:
                yield from self._between(self._last, logged.number)
            self._last = logged.number
            yield logged

    def _between(self, last: int, following: int) -> Iterator[LoggedEvent | MissingEvents]:
        """The first events with numbers between these two, and how many others were there."""
        count, others = following - last - 1, 0
        with suppress(FileNotFoundError):
            head, *lines = self._directory.read(FIRST, _LARGEST_FIRST).split(b"\n")
            others = self._parsed(head, _others) if lines else 0  # without a whole head, nothing was kept
            for logged in (self._parsed(line, LoggedEvent.parse) for line in lines[:-1]):
                if last < logged.number < following:
                    count -= 1
                    yield logged
        if count > 0:
            yield MissingEvents(count, others)

    def _lines(self) -> Iterator[LoggedEvent]:
        while self._fd >= 0 or self._open_next():
            following = self._next()  # asked before the last look at the file
            while data := os.read(self._fd, _CHUNK):
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    yield self._parsed(line, LoggedEvent.parse)
            if following is None or not self._open_next():
                return

    def _parsed[T](self, line: bytes, parse: Callable[[bytes], T]) -> T:
        try:
            return parse(line)
        except MalformedError as error:
            where = self._directory.where(NEWER)
            hint = f"look at {self._directory.path}"
            why = f"{where}, or {OLDER} or {FIRST} beside it, is not what mvm writes"
            raise MvmnixError(why, hint=hint) from error

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
