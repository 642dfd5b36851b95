"""The host's end of the conversation with one guest agent: its order, its streams, and waiting for progress."""

import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum, auto
from functools import partial

from mvmnix.audit.tally import Tally
from mvmnix.errors import ReasonCode, UsageError, refuse
from mvmnix.formats.escaping import escape_bytes
from mvmnix.launch.agent.commands import Command
from mvmnix.launch.agent.encoding import (
    ChannelClosedError,
    ChannelError,
    ChannelProtocolError,
    ChannelTimeoutError,
    GuestFailedError,
    MountPointError,
)
from mvmnix.launch.agent.endpoints import Sink, Stdin, open_source
from mvmnix.launch.agent.frames import (
    MAX_STREAMS,
    PROTOCOL_VERSION,
    Bye,
    Config,
    ControlFrame,
    Failed,
    Frame,
    Freeze,
    Frozen,
    GuestFailure,
    Hello,
    NotFrozen,
    Ping,
    Pong,
    Ready,
    Shutdown,
    Thaw,
    Thawed,
    Time,
)
from mvmnix.launch.agent.port_forward import Connection, ServiceFactory
from mvmnix.launch.agent.requests import ExecRequest, GuestConfig
from mvmnix.launch.agent.stream_frames import CommandFrame, Open, Reset, Run, Window, frame_of
from mvmnix.launch.agent.transport import Transport
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.system.loop import Loop

_NO_SERVICES: Mapping[int, ServiceFactory] = {}


def _never() -> bool:
    return False


class _Workload(Enum):
    """Whether the guest's commands run: FREEZE was sent, FROZEN came, THAW was sent, and THAWED ends it."""

    RUNS = auto()
    FREEZING = auto()
    FROZEN = auto()
    THAWING = auto()


class Channel:
    """A conversation: hello, configure, then commands, pings and the guest's connections, then shutdown.

    Calls that wait turn `loop`, so whatever else it watches is served meanwhile. `idle` is in seconds: after so long
    without a frame from the guest ChannelTimeoutError is raised; None waits for ever. `failure` says why the
    conversation ended; after that every call raises it. Nothing is raised from within the loop's callbacks.

    Connections that a service refuses are counted in `tally` under `port-NUMBER-refused`. `hello` is what the guest
    said before it was saved, where it was. `restored` is the configuration of a guest that was saved while its commands
    stood frozen, and goes on from there: until `start_thaw` nothing is possible but `shutdown`, and once that was
    answered it is as ready. Raises ValueError for an agent or ports that can't be so.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: Loop,
        *,
        services: Mapping[int, ServiceFactory] = _NO_SERVICES,
        tally: Tally | None = None,
        hello: Hello | None = None,
        restored: GuestConfig | None = None,
    ) -> None:
        self.hello = hello
        self.failure: ChannelError | None = None
        self._loop = loop
        self._services = dict(services)
        self._tally = Tally() if tally is None else tally
        self._config: GuestConfig | None = None
        self._ready = self._said_shutdown = self._ran = False
        #: Whether the agent took its leave, as it does when it was told to shut down.
        self.farewell = False
        self._streams: dict[int, Command | Connection] = {}
        self._wanting: dict[int, None] = {}
        self._next_command = 3
        self._last_connection = 0
        self._pings = 0
        self._pongs = 0
        self._answered: dict[int, Callable[[], object]] = {}
        self._progress = time.monotonic()
        self._frames_sent = 0
        self._workload = _Workload.RUNS
        self._when_frozen: Callable[[str | None], object] = lambda _why: None
        self._when_thawed: Callable[[], object] = _never
        #: Whether the plan's command had been started and had not ended when the guest was thawed last.
        self.run_goes_on = False
        self._unadopted: Command | None = None
        if restored is not None:
            self._go_on_from(restored)
        self._transport = Transport(sock, loop, received=self._received, produce=self._produce, ended=self._ended)
        if restored is not None:
            self._transport.hold()

    @property
    def frames_sent(self) -> int:
        """How many frames the host has sent so far, or queued, but for those of TIME."""
        return self._frames_sent

    @property
    def bytes_received(self) -> int:
        """All that ever came from the guest."""
        return self._transport.bytes_received

    def fileno(self) -> int:
        """The socket's descriptor, watched by the loop already."""
        return self._transport.fileno()

    def serve(self, services: Mapping[int, ServiceFactory], tally: Tally | None) -> None:
        """Have other services answer the guest, and another tally count, before it is told of any."""
        if self._config is not None:
            raise ValueError("the guest was told already what answers it")
        self._services = dict(services)
        self._tally = Tally() if tally is None else tally

    def wait_hello(self, *, idle: float) -> Hello:
        """The guest's first frame. Raises ChannelError."""
        self._wait(lambda: self.hello is not None, idle=idle, what="the guest agent to report")
        if self.hello is None:
            raise ChannelClosedError("the guest never reported")
        return self.hello

    def configure(self, config: GuestConfig, *, idle: float) -> None:
        """Tell the guest what it is to be and wait until it is. Once only. Raises ChannelError, ValueError."""
        if self._config is not None or self.hello is None:
            raise ValueError("a guest is configured once, after its HELLO")
        self._take(config)
        self.send(Config(config))
        self._wait(lambda: self._ready, idle=idle, what="the guest to set itself up")

    def start_run(self, *, stdout: Sink, stderr: Sink, stdin: Stdin = None) -> Command:
        """Start the configuration's command. Once only. Raises ChannelError, ValueError."""
        if self._config is None or self._config.workload is None or self._ran:
            raise ValueError("RUN needs a configuration with a workload, and happens once")
        if self._workload is not _Workload.RUNS:
            raise ValueError("RUN is not asked for while commands are frozen")
        self._ran = True
        return self._start(Run(1), stdout=stdout, stderr=stderr, stdin=stdin)

    def start_exec(self, request: ExecRequest, *, stdout: Sink, stderr: Sink, stdin: Stdin = None) -> Command:
        """Start a command. Raises RefusedError unless the verb that it needs was granted, ChannelError, ValueError."""
        if self._config is None or request.VERB not in self._config.verbs:
            hint = "grant the verb in the plan (posture dev), or run the plan's own command"
            raise refuse(ReasonCode.VERB_NOT_GRANTED, request.VERB, "the plan doesn't grant this verb", hint)
        stream, self._next_command = self._next_command, self._next_command + 2
        return self._start(frame_of(stream, request), stdout=stdout, stderr=stderr, stdin=stdin)

    @property
    def has_run(self) -> bool:
        """Whether the configuration's command was started, here or before the guest was saved."""
        return self._ran

    def wait(self, command: Command, *, idle: float | None = None) -> ExitStatus:
        """The command's end, when its output has reached the sinks. Raises ChannelError."""
        self._wait(
            lambda: command.status is not None,
            idle=idle,
            what="the command",
            busy=lambda: command.flushing or self._workload is _Workload.FROZEN,
        )
        while command.flushing:
            self._loop.turn()
        if command.status is None:
            raise ChannelClosedError("the command's end is unknown")
        return command.status

    def exec(
        self, request: ExecRequest, *, stdout: Sink, stderr: Sink, stdin: Stdin = None, idle: float | None = None
    ) -> ExitStatus:
        """Start a command and wait for its end; see `start_exec`."""
        return self.wait(self.start_exec(request, stdout=stdout, stderr=stderr, stdin=stdin), idle=idle)

    def ping(self, *, idle: float) -> float:
        """The time in seconds that a frame takes to the guest and back. Raises ChannelError."""
        self._pings += 1
        token, begin = self._pings, time.monotonic()
        self.send(Ping(token))
        self._wait(lambda: self._pongs >= token, idle=idle, what="the guest's PONG")
        return time.monotonic() - begin

    def start_ping(self, answered: Callable[[], object]) -> None:
        """Have a function called once the guest has answered; it isn't where the channel ends before.

        Raises ChannelError; UsageError while MAX_STREAMS answers are due.
        """
        if self.failure is not None:
            raise self.failure
        if self._pings - self._pongs >= MAX_STREAMS:
            raise UsageError("the guest has not answered earlier calls", hint="wait, or end the machine: mvm stop")
        self._pings += 1
        self._answered[self._pings] = answered
        self.send(Ping(self._pings))

    def tell_time(self, time_ns: int) -> None:
        """Tell a guest that is ready its Unix time in nanoseconds; without effect on others."""
        if self._ready and not self._said_shutdown:
            self.send(Time(time_ns))

    def start_freeze(self, milliseconds: int, answered: Callable[[str | None], object]) -> None:
        """Have the guest stop all processes of its commands, within so many milliseconds.

        `answered` is called with None once they stand, and with the guest's reason (escaped) why they go on instead; it
        isn't where the channel ends before. Nothing is sent from here on until `start_thaw` was answered, or that
        reason came: what is asked for meanwhile goes on afterwards, in its order.

        Raises ChannelError; ValueError for an agent that can't (`Hello.freezes_commands`), before READY, after
        SHUTDOWN, and until the one before has ended.
        """
        if self.failure is not None:
            raise self.failure
        if not self._ready or self._said_shutdown or self._workload is not _Workload.RUNS:
            raise ValueError("commands are frozen between READY and SHUTDOWN, and thawed before they are frozen again")
        if self.hello is None or not self.hello.freezes_commands:
            raise ValueError("the guest's agent is of a version that can't freeze commands")
        if not 0 <= milliseconds < 1 << 32:
            raise ValueError(f"not a time in milliseconds: {milliseconds}")
        self._workload, self._when_frozen = _Workload.FREEZING, answered
        self.send(Freeze(milliseconds))
        self._transport.hold()

    def start_thaw(self, thaw: Thaw, answered: Callable[[], object]) -> None:
        """Have a frozen guest renew itself and its commands go on; `answered` is called once they do.

        It isn't where the guest can't: then the channel ends with GuestFailedError. Raises ChannelError; ValueError for
        a guest that isn't frozen, and unless the THAW is renewed for one that was restored and for no other.
        """
        if self.failure is not None:
            raise self.failure
        if self._said_shutdown or self._workload is not _Workload.FROZEN:
            raise ValueError("commands are thawed once they are frozen, and before SHUTDOWN")
        if thaw.is_renewed is self._ready:
            raise ValueError("a guest is renewed as restored once, when it was restored")
        self._workload, self._when_thawed = _Workload.THAWING, answered
        self._progress = time.monotonic()  # until here it was our side that kept the guest waiting
        self._send_ahead(thaw)

    def adopt_run(self, stdout: Sink, stderr: Sink) -> Command:
        """Take over the plan's command of a restored guest, where `run_goes_on`. Once only. Raises ValueError.

        It has no standard input any more. What it has said since it was thawed is kept until here, a window of it.
        """
        if self._unadopted is None:
            raise ValueError("there is no command that goes on, or it was taken over already")
        command, self._unadopted = self._unadopted, None
        command.attach(stdout=stdout, stderr=stderr)
        return command

    def shutdown(self, *, grace_ms: int, idle: float) -> None:
        """End all commands and the guest; returns when the guest says so, or hangs up. Raises ChannelError.

        Commands that are frozen are killed as they stand, without a grace.
        """
        if not self._said_shutdown:
            self._said_shutdown = True
            self._transport.discard_held()  # a command among it would come behind SHUTDOWN
            self._send_ahead(Shutdown(grace_ms))
        with suppress(ChannelClosedError):
            self._wait(lambda: self.farewell, idle=idle, what="the guest to shut down")

    def close(self) -> None:
        """Close the channel; a caller that waits for a stream learns that it ended."""
        self._transport.close()
        if self.failure is None:
            self._ended(ChannelClosedError("the channel was closed"))

    # what streams ask of the channel (flow_control.Outlet)

    def send(self, frame: Frame) -> None:
        """Queue a frame that needs no credit."""
        self._frames_sent += not isinstance(frame, Time)
        self._transport.send(frame)

    def want(self, stream: int) -> None:
        """This stream may have a frame with bytes."""
        if stream in self._streams:
            self._wanting[stream] = None
            self._transport.want_write()

    # commands, and waiting

    def _take(self, config: GuestConfig) -> None:
        if unserved := set(config.ports) - set(self._services):
            raise ValueError(f"no service stands behind the ports {sorted(unserved)}")
        self._config = config.without_secrets()

    def _go_on_from(self, config: GuestConfig) -> None:
        if self.hello is None or not self.hello.freezes_commands:
            raise ValueError("the guest's agent is of a version that can't freeze commands")
        self._take(config)
        self._ran = True
        self._workload = _Workload.FROZEN

    def _send_ahead(self, frame: Thaw | Shutdown) -> None:
        self._frames_sent += 1
        self._transport.send(frame, ahead=True)

    def _start(self, frame: CommandFrame, *, stdout: Sink, stderr: Sink, stdin: Stdin) -> Command:
        if self.failure is not None:
            raise self.failure
        if not self._ready or self._said_shutdown:
            raise ValueError("commands are started between READY and SHUTDOWN")
        if sum(isinstance(stream, Command) for stream in self._streams.values()) >= MAX_STREAMS:
            raise ValueError(f"more than {MAX_STREAMS} commands at once")
        command = Command(self, frame.stream, stdout=stdout, stderr=stderr)
        self._streams[frame.stream] = command
        self.send(frame)
        command.feed_from(open_source(stdin, self._loop, lambda: self.want(frame.stream)))
        return command

    def _wait(
        self, done: Callable[[], bool], *, idle: float | None, what: str, busy: Callable[[], bool] = _never
    ) -> None:
        """Turn the loop until `done`; while `busy`, it is our side that keeps the guest waiting."""
        last = time.monotonic()
        while not done():
            if self.failure is not None:
                raise self.failure
            now = time.monotonic()
            last = now if busy() else max(last, self._progress)
            if idle is not None and now - last >= idle:
                hint = "look at the console log; a loaded machine may need a longer idle limit"
                raise ChannelTimeoutError(f"no sign of life for {idle:g} s while waiting for {what}", hint=hint)
            self._loop.turn(None if idle is None else last + idle - now)

    # what the transport asks of the channel

    def _produce(self) -> Frame | None:
        """The next frame with bytes; streams take turns."""
        while self._wanting:
            number = next(iter(self._wanting))
            del self._wanting[number]
            stream = self._streams.get(number)
            frame = stream.produce() if stream is not None else None
            if stream is not None:
                self._reap(stream)
            if frame is not None:
                self._frames_sent += 1
                self.want(number)
                return frame
        return None

    def _ended(self, error: ChannelError) -> None:
        if self.failure is None:
            self.failure = error
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.abandon()

    def _received(self, frame: Frame) -> None:
        self._progress = time.monotonic()
        if isinstance(frame, Frozen | NotFrozen | Thawed):
            self._of_workload(frame)
        elif isinstance(frame, ControlFrame):
            self._control(frame)
        elif self._workload in {_Workload.FROZEN, _Workload.THAWING}:
            raise ChannelProtocolError(f"a {frame.KIND.name} frame between FROZEN and THAWED")
        elif not self._ready:
            raise ChannelProtocolError(f"a {frame.KIND.name} frame before READY")
        elif isinstance(frame, Open):
            self._opened(frame)
        else:
            self._of_stream(frame)

    # frames that were received

    def _control(self, frame: ControlFrame) -> None:
        match frame:
            case Hello() if self.hello is None:
                if frame.version != PROTOCOL_VERSION:
                    raise ChannelProtocolError(f"version {frame.version}, where {PROTOCOL_VERSION} is spoken")
                self.hello = frame
            case Ready() if self._config is not None and not self._ready and self._workload is _Workload.RUNS:
                self._ready = True
            case Failed() if self.hello is not None and self._may_fail:
                self._failed(frame)
            case Pong() if (
                self._workload not in {_Workload.FROZEN, _Workload.THAWING}
                and self._pongs < self._pings
                and frame.token == self._pongs + 1
            ):
                self._pongs += 1
                self._answered.pop(self._pongs, _never)()
            case Bye() if self._said_shutdown:
                self.farewell = True
                self.close()  # which the agent waits for before it restarts, so that nothing of its own is lost
            case _:
                raise ChannelProtocolError(f"a {frame.KIND.name} frame out of order")

    @property
    def _may_fail(self) -> bool:
        return self._workload is _Workload.THAWING or (not self._ready and self._workload is _Workload.RUNS)

    def _failed(self, frame: Failed) -> None:
        why = escape_bytes(frame.message)
        what = "set itself up" if self._workload is _Workload.RUNS else "renew itself, and goes on no more"
        kind = MountPointError if frame.failure is GuestFailure.MOUNT_POINT else GuestFailedError
        self._ended(kind(f"the guest could not {what}: {why}", hint="look at the console log"))
        self.close()

    def _of_workload(self, frame: Frozen | NotFrozen | Thawed) -> None:
        match frame:
            case Frozen() if self._workload is _Workload.FREEZING:
                self._workload = _Workload.FROZEN
                self._when_frozen(None)
            case NotFrozen() if self._workload is _Workload.FREEZING:
                self._workload = _Workload.RUNS
                self._transport.release()
                self._when_frozen(escape_bytes(frame.message))
            case Thawed() if self._workload is _Workload.THAWING:
                self._thawed(run_goes_on=frame.run_goes_on)
            case _:
                raise ChannelProtocolError(f"a {frame.KIND.name} frame out of order")

    def _thawed(self, *, run_goes_on: bool) -> None:
        has_workload = self._config is not None and self._config.workload is not None
        if run_goes_on and not self._ready and has_workload:
            self._unadopted = Command(self, 1)
            self._unadopted.started = True
            self._streams[1] = self._unadopted
        if run_goes_on is not (1 in self._streams):
            raise ChannelProtocolError(f"a THAWED frame that says of the plan's command: {run_goes_on}")
        self._ready = True
        self.run_goes_on = run_goes_on
        self._workload = _Workload.RUNS
        self._transport.release()
        self._when_thawed()

    def _opened(self, frame: Open) -> None:
        if self._config is None or frame.port not in self._config.ports:
            raise ChannelProtocolError(f"a connection to port {frame.port}, which was not granted")
        if frame.stream != self._last_connection + 2:
            raise ChannelProtocolError(f"connection {frame.stream} after {self._last_connection}")
        if sum(isinstance(stream, Connection) for stream in self._streams.values()) >= MAX_STREAMS:
            raise ChannelProtocolError(f"more than {MAX_STREAMS} connections at once")
        self._last_connection = frame.stream
        refused = partial(self._tally.count, f"port-{frame.port}-refused")
        connection = Connection(self, frame.stream, self._services[frame.port], refused)
        self._streams[frame.stream] = connection
        self.want(connection.stream)

    def _of_stream(self, frame: Frame) -> None:
        stream = self._streams.get(frame.stream)
        if stream is not None:
            stream.received(frame)
            self._reap(stream)
        elif frame.stream % 2 or frame.stream > self._last_connection or not isinstance(frame, Window | Reset):
            raise ChannelProtocolError(f"a {frame.KIND.name} frame for stream {frame.stream}, which is not open")

    def _reap(self, stream: Command | Connection) -> None:
        ended = stream.closed if isinstance(stream, Connection) else stream.status is not None
        if ended:
            self._streams.pop(stream.stream, None)
