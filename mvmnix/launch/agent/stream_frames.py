"""The frames of single streams, commands and connections (docs/reference/channel.md), as types; no I/O."""

from abc import ABC
from dataclasses import dataclass
from typing import Protocol, Self, override

from mvmnix.launch.agent.encoding import ChannelProtocolError, Reader, Writer
from mvmnix.launch.agent.frames import INITIAL_WINDOW, Frame, FrameKind, window_of
from mvmnix.launch.agent.requests import CopyRequest, ExecRequest, FilesRequest, ShellRequest
from mvmnix.machines.exit_status import End, Step


@dataclass(frozen=True, slots=True)
class CommandFrame(Frame, ABC):
    """A frame of a command that the host had started; such streams have odd numbers."""

    @override
    @classmethod
    def carries(cls, stream: int) -> bool:
        return stream % 2 == 1


@dataclass(frozen=True, slots=True)
class ConnectionFrame(Frame, ABC):
    """A frame of a connection that the guest opened; such streams have even numbers."""

    @override
    @classmethod
    def carries(cls, stream: int) -> bool:
        return stream != 0 and stream % 2 == 0


@dataclass(frozen=True, slots=True)
class Run(CommandFrame):
    """Host: start CONFIG's command, as stream 1."""

    KIND = FrameKind.RUN


@dataclass(frozen=True, slots=True)
class Asking(CommandFrame, ABC):
    """Host: start something; a kind of frame for each kind of request."""

    request: ExecRequest

    @override
    def payload(self) -> bytes:
        return self.request.encode()


@dataclass(frozen=True, slots=True)
class Exec(Asking):
    """Host: start this command."""

    KIND = FrameKind.EXEC


@dataclass(frozen=True, slots=True)
class Shell(Asking):
    """Host: start this command in a pseudo-terminal."""

    KIND = FrameKind.SHELL
    request: ShellRequest


@dataclass(frozen=True, slots=True)
class Copy(Asking):
    """Host: copy this, over the flows of a command."""

    KIND = FrameKind.COPY
    request: CopyRequest


@dataclass(frozen=True, slots=True)
class Files(Asking):
    """Host: do this with files; entries come as a command's output."""

    KIND = FrameKind.FILES
    request: FilesRequest


def frame_of(stream: int, request: ExecRequest) -> Exec | Shell | Copy | Files:
    """The frame that asks for it."""
    match request:
        case ShellRequest():
            return Shell(stream, request)
        case CopyRequest():
            return Copy(stream, request)
        case FilesRequest():
            return Files(stream, request)
        case _:
            return Exec(stream, request)


@dataclass(frozen=True, slots=True)
class Started(CommandFrame):
    """Guest: the program has replaced the agent's child."""

    KIND = FrameKind.STARTED


@dataclass(frozen=True, slots=True)
class Bytes(Frame, ABC):
    """A frame that carries a stream's bytes and uses up its window."""

    data: bytes

    @override
    def payload(self) -> bytes:
        return self.data

    @override
    @classmethod
    def parse(cls, stream: int, payload: bytes) -> Self:
        if not payload:
            raise ChannelProtocolError(f"an empty {cls.KIND.name} frame")
        return cls(stream, payload)


@dataclass(frozen=True, slots=True)
class Stdin(Bytes, CommandFrame):
    """Host: bytes for standard input; none of them means its end."""

    KIND = FrameKind.STDIN


@dataclass(frozen=True, slots=True)
class Stdout(Bytes, CommandFrame):
    """Guest: bytes from standard output."""

    KIND = FrameKind.STDOUT


@dataclass(frozen=True, slots=True)
class Stderr(Bytes, CommandFrame):
    """Guest: bytes from standard error."""

    KIND = FrameKind.STDERR


@dataclass(frozen=True, slots=True)
class Signal(CommandFrame):
    """Host: send this signal (Linux number, 1 to 64) to the command's process group; 9 reaches its whole session."""

    KIND = FrameKind.SIGNAL
    number: int

    @override
    def payload(self) -> bytes:
        return Writer().pack("I", self.number).done()


@dataclass(frozen=True, slots=True)
class Resize(CommandFrame):
    """Host: the terminal has so many rows and columns now."""

    KIND = FrameKind.RESIZE
    rows: int
    columns: int

    @override
    def payload(self) -> bytes:
        return Writer().pack("HH", self.rows, self.columns).done()


@dataclass(frozen=True, slots=True)
class Exit(CommandFrame):
    """Guest: the command's last frame, with the fields of an ExitStatus."""

    KIND = FrameKind.EXIT
    end: End
    step: Step
    code: int
    is_out_of_memory: bool = False

    @override
    def payload(self) -> bytes:
        return Writer().pack("BBHI", self.end, self.step, self.is_out_of_memory, self.code).done()

    @override
    @classmethod
    def parse(cls, stream: int, payload: bytes) -> Self:
        reader = Reader(payload)
        end, step, flags, code = reader.number("B"), reader.number("B"), reader.number("H"), reader.number("I")
        reader.end()
        limit = {End.EXITED: 255, End.SIGNALED: 64, End.TIMED_OUT: 0, End.NOT_STARTED: 4095, End.REFUSED: 255}
        if end not in limit or code > limit[End(end)] or step not in set(Step) or flags > 1:
            raise ChannelProtocolError(f"an impossible end: {end}, {step}, {code}")
        if (step != Step.NONE) != (end == End.NOT_STARTED):
            raise ChannelProtocolError(f"an end {End(end).name} at step {Step(step).name}")
        if flags and (end in {End.NOT_STARTED, End.REFUSED} or (end, code) == (End.EXITED, 0)):
            raise ChannelProtocolError(f"an end {End(end).name} with {code} for want of memory")
        return cls(stream, End(end), Step(step), code, flags == 1)


@dataclass(frozen=True, slots=True)
class Open(ConnectionFrame):
    """Guest: a client connected to this forwarded port; both flows are open at once."""

    KIND = FrameKind.OPEN
    port: int

    @override
    def payload(self) -> bytes:
        return Writer().pack("H", self.port).done()

    @override
    @classmethod
    def parse(cls, stream: int, payload: bytes) -> Self:
        reader = Reader(payload)
        port = reader.number("H")
        reader.end()
        return cls(stream, port)


@dataclass(frozen=True, slots=True)
class Data(Bytes, ConnectionFrame):
    """Either side: bytes of a connection."""

    KIND = FrameKind.DATA


@dataclass(frozen=True, slots=True)
class Eof(ConnectionFrame):
    """Either side: no more bytes from here; the other flow goes on."""

    KIND = FrameKind.EOF


@dataclass(frozen=True, slots=True)
class Reset(ConnectionFrame):
    """Either side: the connection is broken off; answered by a RESET, unless both flows had ended."""

    KIND = FrameKind.RESET


@dataclass(frozen=True, slots=True)
class Window(Frame):
    """The receiver of a flow: `credit` bytes more may be sent. `flow` is the kind of frame that carries them."""

    KIND = FrameKind.WINDOW
    flow: FrameKind
    credit: int

    @override
    def payload(self) -> bytes:
        return Writer().pack("BI", self.flow, self.credit).done()

    @override
    @classmethod
    def parse(cls, stream: int, payload: bytes) -> Self:
        reader = Reader(payload)
        flow, credit = reader.number("B"), reader.number("I")
        reader.end()
        flows = (FrameKind.STDIN, FrameKind.STDOUT, FrameKind.STDERR) if stream % 2 else (FrameKind.DATA,)
        if flow not in flows or not 0 < credit <= window_of(FrameKind(flow)):
            raise ChannelProtocolError(f"a window of {credit} for flow {flow} of stream {stream}")
        return cls(stream, FrameKind(flow), credit)


#: Credit is returned in so many portions of a window, so that small reads don't cost a frame each.
_PORTIONS = 4


class Outlet(Protocol):
    """Where streams put what they have to say."""

    def send(self, frame: Frame) -> None:
        """Queue a small frame that needs no credit."""

    def want(self, stream: int) -> None:
        """Ask this stream for its next frame with bytes as soon as there is room."""


class Inbound:
    """The flow of a stream on which we receive: the guest may have a window's worth under way."""

    def __init__(self, outlet: Outlet, *, stream: int, flow: FrameKind) -> None:
        self._outlet = outlet
        self._stream = stream
        self._flow = flow
        self._allowed = window_of(flow)
        self._portion = window_of(flow) // _PORTIONS
        self._consumed = 0

    def received(self, count: int) -> None:
        """So many bytes came. Raises ChannelProtocolError when they were more than granted."""
        if count > self._allowed:
            why = f"{count} bytes on flow {self._flow.name} of stream {self._stream}, {self._allowed} were granted"
            raise ChannelProtocolError(why)
        self._allowed -= count

    def consumed(self, count: int) -> None:
        """So many bytes have left our memory; tells the guest, in portions."""
        self._consumed += count
        if self._consumed >= self._portion:
            credit, self._consumed = self._consumed, 0
            self._allowed += credit
            self._outlet.send(Window(self._stream, self._flow, credit))


class Outbound:
    """The flow of a stream on which we send."""

    def __init__(self) -> None:
        self.credit = INITIAL_WINDOW

    def granted(self, frame: Window) -> None:
        """The guest took bytes. Raises ChannelProtocolError when it grants more than it ever received."""
        if self.credit + frame.credit > INITIAL_WINDOW:
            raise ChannelProtocolError(f"a window of more than {INITIAL_WINDOW} bytes on stream {frame.stream}")
        self.credit += frame.credit

    def spent(self, count: int) -> None:
        """So many bytes were sent. Raises ValueError when a source gave more than it was asked for."""
        if count > self.credit:
            raise ValueError(f"a source gave {count} bytes where {self.credit} were asked for")
        self.credit -= count
