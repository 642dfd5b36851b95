"""What else than EXEC starts something in a guest, each by a verb of its own: its request and its frames; no I/O."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self, override

from mvmnix.launch.agent.encoding import ChannelProtocolError, Reader, Writer
from mvmnix.launch.agent.frames import Kind
from mvmnix.launch.agent.requests import ExecRequest
from mvmnix.launch.agent.stream_frames import Asking, CommandFrame, Exec
from mvmnix.launch.copy import is_name
from mvmnix.model import Verb, Workload

#: Most rows, or columns, that a terminal may have.
MOST_ROWS: Final = 4096


def is_size(rows: int, columns: int) -> bool:
    """Whether a terminal may have so many rows and columns."""
    return 0 < rows <= MOST_ROWS and 0 < columns <= MOST_ROWS


@dataclass(frozen=True, slots=True)
class ShellRequest(ExecRequest):
    """A command in a pseudo-terminal of so many rows and columns; without arguments the image's own shell.

    Raises ValueError for what can't be passed on.
    """

    VERB = Verb.SHELL
    rows: int = 24
    columns: int = 80

    @override
    def _check_program(self) -> None:
        if self.workload.argv and not self.workload.argv[0]:
            raise ValueError("a command needs at least a program")
        if not is_size(self.rows, self.columns):
            raise ValueError(f"not the size of a terminal: {self.rows} rows, {self.columns} columns")

    @override
    def encode(self) -> bytes:
        return Writer().pack("HH", self.rows, self.columns).raw(ExecRequest.encode(self)).done()

    @override
    @classmethod
    def parse(cls, payload: bytes) -> Self:
        reader = Reader(payload)
        return cls._read(reader, rows=reader.number("H"), columns=reader.number("H"))


@dataclass(frozen=True, slots=True)
class Shell(Asking):
    """Host: start this command in a pseudo-terminal."""

    KIND = Kind.SHELL
    REQUEST = ShellRequest
    request: ShellRequest


@dataclass(frozen=True, slots=True)
class Resize(CommandFrame):
    """Host: the terminal has so many rows and columns now."""

    KIND = Kind.RESIZE
    rows: int
    columns: int

    @override
    def payload(self) -> bytes:
        return Writer().pack("HH", self.rows, self.columns).done()

    @override
    @classmethod
    def parse(cls, stream: int, payload: bytes) -> Self:
        reader = Reader(payload)
        rows, columns = reader.number("H"), reader.number("H")
        reader.end()
        if not is_size(rows, columns):
            raise ChannelProtocolError(f"not the size of a terminal: {rows} rows, {columns} columns")
        return cls(stream, rows, columns)


class CopyDirection(StrEnum):
    """Which way a copy goes, seen from the guest."""

    OUT = "out"
    IN = "in"


_WAYS: Final = {CopyDirection.OUT: 1, CopyDirection.IN: 2}
_REPLACES: Final = 1


@dataclass(frozen=True, slots=True)
class CopyRequest(ExecRequest):
    """A copy by the workload's user: `workload.argv` is a path, relative to its directory, and what may follow it.

    Out of the guest: nothing. Into it: a name, which counts if there is a directory of that path; without, nothing may
    be there, or a file if it `replaces` that. No program is run. Raises ValueError for what can't be passed on.
    """

    VERB = Verb.COPY
    way: int = _WAYS[CopyDirection.OUT]
    options: int = 0

    @override
    def _check_program(self) -> None:
        argv = self.workload.argv
        if not argv or not argv[0] or len(argv) > self.way or self.way not in _WAYS.values():
            raise ValueError("a copy needs a path, and a name at most")
        if any(not is_name(name.encode("utf-8", "surrogateescape")) for name in argv[1:]):
            raise ValueError(f"not the name of a file: {argv[1]!r}")
        if self.options not in {0, _REPLACES}:
            raise ValueError("unknown copy direction or option")

    @override
    def encode(self) -> bytes:
        return Writer().pack("BBH", self.way, self.options, 0).raw(ExecRequest.encode(self)).done()

    @override
    @classmethod
    def parse(cls, payload: bytes) -> Self:
        reader = Reader(payload)
        way, options, zero = reader.number("B"), reader.number("B"), reader.number("H")
        if zero:
            raise ChannelProtocolError("unknown copy direction or option")
        return cls._read(reader, way=way, options=options)


def copy_request(workload: Workload, way: CopyDirection, *, replaces: bool) -> CopyRequest:
    """A copy that way. Raises ValueError."""
    return CopyRequest(workload, 0, _WAYS[way], _REPLACES if replaces else 0)


@dataclass(frozen=True, slots=True)
class Copy(Asking):
    """Host: copy this, over the flows of a command."""

    KIND = Kind.COPY
    REQUEST = CopyRequest
    request: CopyRequest


def frame_of(stream: int, request: ExecRequest) -> Exec | Shell | Copy:
    """The frame that asks for it."""
    match request:
        case ShellRequest():
            return Shell(stream, request)
        case CopyRequest():
            return Copy(stream, request)
        case _:
            return Exec(stream, request)
