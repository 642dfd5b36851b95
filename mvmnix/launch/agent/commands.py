"""One command in the guest, seen from the host: its flows, its signals and how it ended; speaks through an outlet."""

import signal
from collections.abc import Callable

from mvmnix.launch.agent.encoding import ChannelProtocolError
from mvmnix.launch.agent.endpoints import PipeSink, Sink, Source
from mvmnix.launch.agent.frames import Frame, FrameKind
from mvmnix.launch.agent.operations import MAX_PAYLOAD
from mvmnix.launch.agent.requests import is_size
from mvmnix.launch.agent.stream_frames import (
    Bytes,
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
    Window,
)
from mvmnix.machines.exit_status import End, ExitStatus


class Command:
    """A command that was asked for; `status` is None until its last frame came.

    Without sinks its output waits, at most a window of each flow, until it has some.
    """

    def __init__(self, outlet: Outlet, stream: int, *, stdout: Sink | None = None, stderr: Sink | None = None) -> None:
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

    def attach(self, *, stdout: Sink, stderr: Sink) -> None:
        """Set the sinks of a command that was made without; they take what has come so far at once."""
        self._out.attach(stdout)
        self._err.attach(stderr)

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
        self.status = ExitStatus(frame.end, frame.step, frame.code, frame.is_out_of_memory)
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
        self, command: Command, outlet: Outlet, flow: FrameKind, sink: Sink | None, broken: Callable[[], None]
    ) -> None:
        stream = command.stream
        self._flow = Inbound(outlet, stream=stream, flow=flow)
        self._sink: Sink | None = None
        #: What came before there was a sink.
        self._early = bytearray()
        self._open = True
        self._emptied = command.settle
        self._broken = broken
        if sink is not None:
            self.attach(sink)

    def attach(self, sink: Sink) -> None:
        self._sink = sink
        if isinstance(sink, PipeSink):
            sink.bind(released=self._released, broken=self._broken)
        if self._early:
            self._deliver(bytes(self._early))
            self._early.clear()

    @property
    def pending(self) -> bool:
        return isinstance(self._sink, PipeSink) and self._sink.pending > 0

    def received(self, frame: Bytes) -> None:
        self._flow.received(len(frame.data))
        self._deliver(frame.data)

    def _deliver(self, data: bytes) -> None:
        if self._sink is None:
            self._early += data
            return
        self._sink(data)
        if not isinstance(self._sink, PipeSink):
            self._flow.consumed(len(data))

    def abandon(self) -> None:
        self._open = False
        if isinstance(self._sink, PipeSink):
            self._sink.drop()

    def _released(self, count: int) -> None:
        if self._open:
            self._flow.consumed(count)
            self._emptied()
