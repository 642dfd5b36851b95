"""What goes over a machine's control socket, one message in each packet (codec.py); pure.

A caller sends one `Request`, with descriptors where it says so, and gets one `Answer`; meanwhile it may send signals.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from mvmnix.formats.strict import Record
from mvmnix.launch.agent.operations import MOST_ROWS, CopyDirection, FileOperation
from mvmnix.launch.control import codec
from mvmnix.launch.control.failure import Failure, parse_failure
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.words import check_words

_MOST_SECONDS: Final = 2**31 - 1
_ID: Final = r"[0-9a-f]{12}"
_DIGEST: Final = r"sha256:[0-9a-f]{64}"
#: What TERM may say: the name of a description of a terminal (terminfo(5)).
TERM: Final = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"


#: What the user of a command is named by: numbers alone, since names are the guest's own matter.
USER: Final = r"([0-9]{1,10}(:[0-9]{1,10})?)?"


class Stream(StrEnum):
    """A standard stream that a client hands over with a command, in this order."""

    STDIN = "stdin"
    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class Exec:
    """Run a command; `seconds` is its time limit, 0 for none. `directory` is the plan's where it is empty.

    `environment` is added to the plan's. `user` is UID or UID:GID in the guest, empty for the plan's user. The
    `streams` come with it as descriptors of pipes; what is missing is empty.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = ""
    seconds: int = 0
    user: str = ""
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
    standard output or input (docs/reference/channel.md, "Copies"); what goes wrong is a line on standard error.
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
    on standard output (docs/reference/channel.md, "Files"); an error is a line on standard error, and errno the exit
    status.
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
    """Pause the guest."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Resume the guest."""


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """Take a snapshot of the machine; with `ends` the machine ends with it. Answered once it is kept."""

    ends: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """End the machine: in order, its guest asked first; with `now` at once. Answered when it has ended."""

    now: bool = False


@dataclass(frozen=True, slots=True)
class Extend:
    """Have the machine end in so many seconds, unless that is asked for again; not later than its plan says."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Answer when the machine has ended."""


@dataclass(frozen=True, slots=True)
class Resize:
    """The terminal of the command that runs has so many rows and columns now."""

    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Answer as soon as the guest's agent does."""


#: What starts something in the guest, each by a verb of its own.
type GuestCall = Exec | Shell | Copy | Files
type Request = GuestCall | Signal | Resize | Pause | Resume | TakeSnapshot | Stop | Extend | Wait | Ping


@dataclass(frozen=True, slots=True)
class Exited:
    """How a command ended, as the guest reported it."""

    status: ExitStatus

    def to_value(self) -> Mapping[str, object]:
        """Return its fields as JSON."""
        return self.status.value()


@dataclass(frozen=True, slots=True)
class Done:
    """What was asked for is so."""


@dataclass(frozen=True, slots=True)
class SnapshotKept:
    """A snapshot is kept: its id, 12 hexadecimal digits, and the digest of its signed statement."""

    id: str
    statement: str


type Answer = Exited | Done | SnapshotKept | Failure


def parse_request(data: bytes) -> Request:
    """Read what a caller asks for. Raises MalformedError, a ValueError; VersionError."""
    return codec.parse(data, _REQUESTS)


def parse_answer(data: bytes) -> Answer:
    """Read what a supervisor answered. Raises as `parse_request` does."""
    return codec.parse(data, _ANSWERS)


def _exec(record: Record) -> Exec:
    argv = _argv(record)
    if not argv:
        raise ValueError("no command")
    return Exec(
        argv,
        record.child("environment", _environment),
        record.text("directory", limit=4096),
        record.integer("seconds", 0, _MOST_SECONDS),
        record.text("user", USER),
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
        record.flag("replaces"),
        _streams(record),
    )


def _files(record: Record) -> Files:
    return Files(
        record.choice("operation", FileOperation),
        record.text("path", r"(?s)[^\x00]+", limit=4096),
        record.text("target", r"(?s)[^\x00]*", limit=4096),
        record.flag("recursive"),
        record.flag("parents"),
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


def _size(record: Record) -> Resize:
    return Resize(record.integer("rows", 1, MOST_ROWS), record.integer("columns", 1, MOST_ROWS))


_REQUESTS: Final[Mapping[str, Callable[[Record], Request]]] = {
    "exec": _exec,
    "shell": _shell,
    "copy": _copy,
    "files": _files,
    "signal": lambda record: Signal(record.integer("number", 1, 64)),
    "resize": _size,
    "pause": lambda _: Pause(),
    "resume": lambda _: Resume(),
    "takeSnapshot": lambda record: TakeSnapshot(record.flag("ends")),
    "stop": lambda record: Stop(record.flag("now")),
    "extend": lambda record: Extend(record.integer("seconds", 1, _MOST_SECONDS)),
    "wait": lambda _: Wait(),
    "ping": lambda _: Ping(),
}
_ANSWERS: Final[Mapping[str, Callable[[Record], Answer]]] = {
    "exited": lambda record: Exited(ExitStatus.read(record)),
    "done": lambda _: Done(),
    "snapshotKept": lambda record: SnapshotKept(record.text("id", _ID), record.text("statement", _DIGEST)),
    "failure": parse_failure,
}
