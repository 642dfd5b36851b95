"""What goes over a machine's control socket, one message in each packet, with exactly one spelling in bytes; pure.

The client sends one `Asked`, with descriptors where it says so, and gets one `Answer`; meanwhile it may send signals.
"""

import array
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Final

from mvmnix.formats.strict import Record, canonical, parse_json, read
from mvmnix.launch.agent.requests import MAX_PAYLOAD, MOST_ROWS, CopyDirection, FileOperation
from mvmnix.launch.control.start_notification import Failure, parse_failure
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.model import check_words
from mvmnix.system.descriptors import received

#: Bytes of a packet: twice what a guest takes of a command, and less than a socket's buffer, which a packet has to fit.
LIMIT: Final = 2 * MAX_PAYLOAD
_MOST_SECONDS: Final = 2**31 - 1
#: What TERM may say: the name of a description of a terminal (terminfo(5)).
TERM: Final = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"


class Stream(StrEnum):
    """A standard stream that a client hands over with a command, in this order."""

    STDIN = "stdin"
    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class Exec:
    """Run a command; `seconds` is its time limit, 0 for none. `directory` is the plan's where it is empty.

    `environment` is added to the plan's. The `streams` come with it as descriptors; what is missing is empty.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = ""
    seconds: int = 0
    streams: tuple[Stream, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "argv", check_words(self.argv))


@dataclass(frozen=True, slots=True)
class Shell:
    """Run a command in a pseudo-terminal of so many rows and columns; without arguments the image's own shell.

    `term` is the kind of the caller's terminal, as in TERM. The rest is as in `Exec`; there are two `streams`, for a
    terminal's output is one.
    """

    argv: tuple[str, ...]
    rows: int
    columns: int
    term: str
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = ""
    streams: tuple[Stream, ...] = (Stream.STDIN, Stream.STDOUT)

    def __post_init__(self) -> None:
        object.__setattr__(self, "argv", check_words(self.argv))


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy what lies at `path` in the guest, or to there, relative to the plan's directory.

    `name` is what a copy into a directory is called, empty for a path that is the new name itself. The records go over
    standard output or input (docs/channel.md, "Copies"); what goes wrong is a line on standard error.
    """

    way: CopyDirection
    path: str
    name: str = ""
    replaces: bool = False
    streams: tuple[Stream, ...] = ()


@dataclass(frozen=True, slots=True)
class Files:
    """List, stat, remove, rename or make what lies at `path` in the guest, relative to the plan's directory.

    `target` is the new path of a rename, else empty. A removal may be `recursive`, a mkdir make `parents`. Entries come
    on standard output (docs/channel.md, "Files"); an error is a line on standard error, and errno the exit status.
    """

    operation: FileOperation
    path: str
    target: str = ""
    recursive: bool = False
    parents: bool = False
    streams: tuple[Stream, ...] = ()


@dataclass(frozen=True, slots=True)
class Signal:
    """Send this Linux signal to the command that runs."""

    number: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Have the guest stand still."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Have it go on."""


@dataclass(frozen=True, slots=True)
class Resize:
    """The terminal of the command that runs has so many rows and columns now."""

    rows: int
    columns: int


#: What starts something, each by a verb of its own.
type Start = Exec | Shell | Copy | Files
type Asked = Start | Signal | Resize | Pause | Resume


@dataclass(frozen=True, slots=True)
class Exited:
    """How a command ended, as the guest reported it."""

    status: ExitStatus


@dataclass(frozen=True, slots=True)
class Done:
    """What was asked for is so."""


type Answer = Exited | Done | Failure


def encode(message: Asked | Answer) -> bytes:
    """A message's bytes, in canonical JSON. Raises ValueError when they are too many."""
    data = canonical({type(message).__name__.lower(): _value(message)})
    if len(data) > LIMIT:
        raise ValueError(f"a message of {len(data)} bytes, where {LIMIT} are allowed")
    return data


def _value(message: Asked | Answer) -> Mapping[str, object]:
    match message:
        case Exited(status):
            return status.value()
        case Pause() | Resume() | Done():
            return {}
        case Failure():
            return message.to_value()
        case _:
            return {it.name: _plain(getattr(message, it.name)) for it in fields(message)}


def _plain(value: object) -> object:
    match value:
        case bool():
            return int(value)
        case tuple():
            return list(value)
        case Mapping():
            return dict(value)
        case _:
            return value


def parse_asked(data: bytes) -> Asked:
    """What a client asks for. Raises MalformedError, a ValueError."""
    return read(parse_json(data, limit=LIMIT), "message", _asked)


def parse_answer(data: bytes) -> Answer:
    """What a supervisor answered. Raises MalformedError, a ValueError."""
    return read(parse_json(data, limit=LIMIT), "message", _answer)


def _asked(record: Record) -> Asked:
    readers: Mapping[str, Callable[[Record], Asked]] = {
        "signal": lambda it: Signal(it.integer("number", 1, 64)),
        "resize": lambda it: Resize(it.integer("rows", 1, MOST_ROWS), it.integer("columns", 1, MOST_ROWS)),
        "pause": lambda _: Pause(),
        "resume": lambda _: Resume(),
        "shell": _shell,
        "copy": _copy,
        "files": _files,
    }
    name = next(filter(record.has, readers), "exec")
    return record.child(name, readers.get(name, _exec))


def _exec(record: Record) -> Exec:
    argv = _argv(record)
    if not argv:
        raise ValueError("no command")
    return Exec(
        argv,
        record.child("environment", _environment),
        record.text("directory", limit=4096),
        record.integer("seconds", 0, _MOST_SECONDS),
        _streams(record),
    )


def _shell(record: Record) -> Shell:
    return Shell(
        _argv(record),
        record.integer("rows", 1, MOST_ROWS),
        record.integer("columns", 1, MOST_ROWS),
        record.text("term", TERM),
        record.child("environment", _environment),
        record.text("directory", limit=4096),
        _streams(record),
    )


def _copy(record: Record) -> Copy:
    return Copy(
        record.choice("way", CopyDirection),
        record.text("path", r"(?s)[^\x00]+", limit=4096),
        record.text("name", r"(?s)[^\x00/]*", limit=255),
        bool(record.integer("replaces", 0, 1)),
        _streams(record),
    )


def _files(record: Record) -> Files:
    return Files(
        record.choice("operation", FileOperation),
        record.text("path", r"(?s)[^\x00]+", limit=4096),
        record.text("target", r"(?s)[^\x00]*", limit=4096),
        bool(record.integer("recursive", 0, 1)),
        bool(record.integer("parents", 0, 1)),
        _streams(record),
    )


def _argv(record: Record) -> tuple[str, ...]:
    return record.texts("argv", r"(?s)[^\x00]*")


def _streams(record: Record) -> tuple[Stream, ...]:
    streams = tuple(Stream(name) for name in record.texts("streams", "|".join(Stream), len(Stream)))
    if list(streams) != [stream for stream in Stream if stream in streams]:
        raise ValueError("the streams are out of order, or one is listed twice")
    return streams


def _environment(record: Record) -> Mapping[str, str]:
    return {name: record.text(name) for name in record.names()}


def _answer(record: Record) -> Answer:
    if record.has("failure"):
        return record.child("failure", parse_failure)
    if record.has("done"):
        return record.child("done", lambda _: Done())
    return record.child("exited", lambda it: Exited(ExitStatus.read(it)))


class PacketError(ValueError):
    """What came was not a packet that fits, with at most three descriptors."""


def send(connection: socket.socket, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
    """Send one packet. Raises OSError."""
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    connection.sendmsg([data], [rights] if descriptors else [])


def receive(connection: socket.socket) -> tuple[bytes, tuple[int, ...]]:
    """The next packet, and its descriptors, which are the caller's to close; no bytes when the other end hung up.

    Raises PacketError, and then all descriptors are closed; OSError.
    """
    data, descriptors, flags = received(connection, LIMIT, len(Stream))
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        close(tuple(descriptors))
        raise PacketError("a packet that is too long, or has too many descriptors")
    return data, tuple(descriptors)


def close(descriptors: tuple[int, ...]) -> None:
    """Close them all."""
    for fd in descriptors:
        os.close(fd)
