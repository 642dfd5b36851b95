"""One command in the guest, seen from the host: its flows, its signals and how it ended; speaks through an outlet."""

import errno
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self, assert_never, override

from mvmnix.formats import strict
from mvmnix.launch.agent.encoding import ChannelProtocolError
from mvmnix.launch.agent.endpoints import FdSink, Sink, Source
from mvmnix.launch.agent.frames import Frame, FrameKind
from mvmnix.launch.agent.requests import MAX_PAYLOAD, is_size
from mvmnix.launch.agent.stream_frames import (
    Bytes,
    End,
    Exit,
    Inbound,
    Outbound,
    Outlet,
    Resize,
    Signal,
    Started,
    Stderr,
    Stdin,
    Stdout,
    Step,
    Window,
)

_OUR_FAILURE = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
_STEPS = {
    Step.NONE: "",
    Step.PREPARE: "preparing the process",
    Step.IDENTITY: "dropping privileges",
    Step.DIRECTORY: "entering the working directory",
    Step.EXECUTE: "executing the program",
}
#: What an EXIT frame holds.
_LARGEST_CODE: Final = 2**32 - 1
#: Why an agent refuses a command (docs/channel.md, "EXIT").
_REFUSALS = {1: "the verb is not granted", 2: "it would run as root", 3: "too many commands"}


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a command ended, as the guest reports it; `code` is a status, a signal, an errno or a refusal, by `end`."""

    end: End
    step: Step = Step.NONE
    code: int = 0

    @property
    def exit_code(self) -> int:
        """What `mvm run` exits with: the guest's own, 128 + signal, 124, 125, 126 or 127 (docs: exit codes)."""
        match self.end:
            case End.EXITED:
                return self.code
            case End.SIGNALED:
                return 128 + self.code
            case End.TIMED_OUT:
                return 124
            case End.NOT_STARTED:
                return 125 if self.code in _OUR_FAILURE else 127
            case End.REFUSED:
                return 126
            case _:
                assert_never(self.end)

    def value(self) -> Mapping[str, object]:
        """As receipts and answers have it."""
        return {"end": self.end.name.lower(), "step": self.step.name.lower(), "code": self.code}

    @classmethod
    def read(cls, record: strict.Record) -> Self:
        """As `value` wrote it. Raises ValueError."""
        end = record.parsed("end", lambda text: End[_name(text, End)], End.EXITED)
        step = record.parsed("step", lambda text: Step[_name(text, Step)], Step.NONE)
        return cls(end, step, record.integer("code", 0, _LARGEST_CODE))

    @override
    def __str__(self) -> str:
        match self.end:
            case End.EXITED:
                return f"exited with status {self.code}"
            case End.SIGNALED:
                names = {number.value: number.name for number in signal.Signals}
                return f"was ended by {names.get(self.code, f'signal {self.code}')}"
            case End.TIMED_OUT:
                return "took longer than its time limit"
            case End.NOT_STARTED:
                return f"could not be started: {_STEPS[self.step]}: {os.strerror(self.code)}"
            case End.REFUSED:
                return f"was refused by the guest agent: {_REFUSALS.get(self.code, f'reason {self.code}')}"
            case _:
                assert_never(self.end)


def _name(text: str, kind: type[End | Step]) -> str:
    if text not in {member.name.lower() for member in kind}:
        raise ValueError(f"not one of {', '.join(member.name.lower() for member in kind)}")
    return text.upper()


class Command:
    """A command that was asked for; `status` is None until its last frame came."""

    def __init__(self, outlet: Outlet, stream: int, *, stdout: Sink, stderr: Sink) -> None:
        self.stream = stream
        self.started = False
        self.status: ExitStatus | None = None
        self._outlet = outlet
        self._source: Source | None = None
        self._stdin = Outbound()
        self._over: Callable[[], None] | None = None
        self._abandoned = False
        self._out = _Output(self, outlet, FrameKind.STDOUT, stdout, self._reader_left)
        self._err = _Output(self, outlet, FrameKind.STDERR, stderr, self._reader_left)

    def feed_from(self, source: Source) -> None:
        """Where standard input comes from."""
        self._source = source
        self._outlet.want(self.stream)

    def when_over(self, callback: Callable[[], None]) -> None:
        """Call this once, when it has ended and its output has reached the sinks, or when that can't be known."""
        self._over = callback
        self.settle()

    def signal(self, number: int) -> None:
        """Send a Linux signal to the command; without effect when it has ended. Raises ValueError for a bad number."""
        if not 0 < number <= 64:
            raise ValueError(f"no such signal: {number}")
        if self.status is None:
            self._outlet.send(Signal(self.stream, number))

    def resize(self, rows: int, columns: int) -> None:
        """Tell a command that runs in a terminal its size; without effect when it has ended. Raises ValueError."""
        if not is_size(rows, columns):
            raise ValueError(f"not the size of a terminal: {rows} rows, {columns} columns")
        if self.status is None:
            self._outlet.send(Resize(self.stream, rows, columns))

    @property
    def flushing(self) -> bool:
        """Whether output still waits for a slow reader on the host."""
        return self._out.pending or self._err.pending

    def received(self, frame: Frame) -> None:
        """A frame of this stream came. Raises ChannelProtocolError."""
        if self.status is not None:
            raise ChannelProtocolError(f"a {frame.KIND.name} frame after the end of stream {self.stream}")
        match frame:
            case Started() if not self.started:
                self.started = True
            case Stdout() if self.started:
                self._out.received(frame)
            case Stderr() if self.started:
                self._err.received(frame)
            case Window(flow=FrameKind.STDIN):
                self._stdin.granted(frame)
                self._outlet.want(self.stream)
            case Exit():
                self._ended(frame)
            case _:
                raise ChannelProtocolError(f"a {frame.KIND.name} frame out of order on stream {self.stream}")

    def produce(self) -> Frame | None:
        """The next frame with standard input, if there is any and the guest has room."""
        if self._source is None or self.status is not None or self._stdin.credit == 0:
            return None
        data = self._source.pull(min(self._stdin.credit, MAX_PAYLOAD))
        if data is None:
            self._source.close()
            self._source = None
            return Stdin(self.stream, b"")
        self._stdin.spent(len(data))
        return Stdin(self.stream, data) if data else None

    def abandon(self) -> None:
        """The channel ended: nothing more is received, and nothing sent is read."""
        self._close_source()
        self._out.abandon()
        self._err.abandon()
        self._abandoned = True
        self.settle()

    def _ended(self, frame: Exit) -> None:
        if not self.started and frame.end in (End.EXITED, End.SIGNALED):
            raise ChannelProtocolError(f"stream {self.stream} ended without having started")
        self.status = ExitStatus(frame.end, frame.step, frame.code)
        self._close_source()
        self.settle()

    def settle(self) -> None:
        """Output reached its sink: that may have been the last of it."""
        if self._over is not None and (self.status is not None or self._abandoned) and not self.flushing:
            over, self._over = self._over, None
            over()

    def _close_source(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None

    def _reader_left(self) -> None:
        """As in a shell's pipeline: a process that writes to a reader that is gone gets SIGPIPE."""
        self.signal(signal.SIGPIPE)


class _Output:
    """One of the two output flows and the sink behind it."""

    def __init__(
        self, command: Command, outlet: Outlet, flow: FrameKind, sink: Sink, broken: Callable[[], None]
    ) -> None:
        stream = command.stream
        self._flow = Inbound(outlet, stream=stream, flow=flow)
        self._sink = sink
        self._open = True
        self._emptied = command.settle
        if isinstance(sink, FdSink):
            sink.bind(released=self._released, broken=broken)

    @property
    def pending(self) -> bool:
        return isinstance(self._sink, FdSink) and self._sink.pending > 0

    def received(self, frame: Bytes) -> None:
        self._flow.received(len(frame.data))
        self._sink(frame.data)
        if not isinstance(self._sink, FdSink):
            self._flow.consumed(len(frame.data))

    def abandon(self) -> None:
        self._open = False
        if isinstance(self._sink, FdSink):
            self._sink.drop()

    def _released(self, count: int) -> None:
        if self._open:
            self._flow.consumed(count)
            self._emptied()
