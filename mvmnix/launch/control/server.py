"""The supervisor's end of a machine's control socket: each sender is judged, and served by the machine's own loop.

What is done for each packet, which the code repeats by number:

1. It is bounded and typed, and its descriptors are closed if it isn't.
2. Its sender is one that may call (caller_check.py), or it is refused.
3. The machine grants it, by its verified plan, or refuses; either is in the audit log before anything is done. To
   pause, resume or end its guest is no verb of the plan: that is in its user's power.
4. The bytes of a command go between the guest and the descriptors that came with it: pipes, which can't block this
   process, opened for what they are used for. Anything else is not taken; the caller's process stands between.
5. If the caller disconnects before the end, its command is killed; a shell, a copy or a file operation gets SIGHUP
   first, and two seconds.

Callbacks here never raise: what goes wrong is the caller's answer.
"""

import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Protocol, Self, assert_never

from mvmnix.errors import MvmnixError, UsageError
from mvmnix.launch.agent.commands import Command
from mvmnix.launch.agent.endpoints import PipeSink, Sink, Stdin, discard_output
from mvmnix.launch.control.caller_check import CallerCheck
from mvmnix.launch.control.codec import LIMIT, encode
from mvmnix.launch.control.failure import Failure, MachineEndedError
from mvmnix.launch.control.messages import (
    Answer,
    Copy,
    Done,
    Exec,
    Exited,
    Extend,
    Files,
    GuestCall,
    Pause,
    Ping,
    Request,
    Resize,
    Resume,
    Shell,
    Signal,
    SnapshotKept,
    Stop,
    Stream,
    TakeSnapshot,
    Wait,
    parse_request,
)
from mvmnix.machines import control_socket
from mvmnix.machines.machine_dir import MachineHome
from mvmnix.system.descriptors import (
    Packet,
    PacketError,
    close_apart,
    close_listening,
    hang_up,
    is_pipe,
    receive_packet,
    send_packet,
)
from mvmnix.system.loop import Loop

#: Seconds within which a caller has to send its request.
_PATIENCE: Final = 10.0
#: Connections of one caller's that wait until others have ended.
_MOST_WAITING: Final = 256
#: Seconds that a shell or a copy has to end once its caller has hung up.
_HANGUP_GRACE: Final = 2.0


class Served(Protocol):
    """What a control socket needs of a machine; `Machine` is one."""

    @property
    def loop(self) -> Loop:
        """The loop that serves it."""

    @property
    def home(self) -> MachineHome:
        """Its directory, in which the socket lies."""

    def start_verb(self, asked: GuestCall, *, stdout: Sink, stderr: Sink, stdin: Stdin) -> Command:
        """Start a command. Raises MvmnixError, ValueError."""

    def set_paused(self, paused: bool, done: Callable[[MvmnixError | None], None]) -> None:
        """Pause or resume its guest; `done` is called later, with an error or None. Raises MvmnixError."""

    def start_snapshot(self, taken: Callable[[SnapshotKept | MvmnixError], None], *, ends: bool) -> None:
        """Take a snapshot; `taken` is called later, with that or an error. Raises MvmnixError."""

    def extend(self, seconds: float) -> None:
        """Set its end anew, so many seconds from now. Raises MvmnixError."""

    def start_ping(self, answered: Callable[[], object]) -> None:
        """Ask its guest's agent for an answer; `answered` is called once that comes. Raises MvmnixError."""


class Control:
    """Serves callers while it is entered; to be left once the machine has ended.

    `stop` is called for a caller that ends the machine, with whether that is to be at once. With `is_listening` callers
    find the machine by its directory; otherwise only those are served that are taken in by `adopt`.
    """

    def __init__(
        self, machine: Served, check: CallerCheck, stop: Callable[[bool], None], *, is_listening: bool = True
    ) -> None:
        self.machine = machine
        self.check = check
        self.stop = stop
        self._listening = machine.home.listen() if is_listening else None
        self._callers: set[_Caller] = set()
        self._waiting: deque[socket.socket] = deque()

    def __enter__(self) -> Self:
        self._welcome()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listening is not None:
            self.machine.loop.forget(self._listening.fileno())
            close_listening(self._listening)
        self._listening = None
        while self._waiting:
            _dismiss(self._waiting.popleft())
        for caller in tuple(self._callers):
            caller.end()

    def adopt(self, connection: socket.socket) -> None:
        """Serve a connection that came by another way; one of too many waits, of far too many it is closed."""
        if len(self._callers) >= control_socket.MOST_CALLERS:
            if len(self._waiting) < _MOST_WAITING:
                self._waiting.append(connection)
            else:
                hang_up(connection)
            return
        connection.setblocking(False)
        self._callers.add(_Caller(self, connection))

    def leave(self, caller: "_Caller") -> None:
        """Forget a caller, and accept others again."""
        self._callers.discard(caller)
        if self._waiting:
            self.adopt(self._waiting.popleft())
        else:
            self._welcome()

    def _welcome(self) -> None:
        if self._listening is not None:
            self.machine.loop.watch(self._listening.fileno(), read=self._accept)

    def _accept(self) -> None:
        if self._listening is None:
            return
        try:
            connection, _ = self._listening.accept()
        except OSError:
            return
        self.adopt(connection)
        if len(self._callers) >= control_socket.MOST_CALLERS:  # the others wait in the kernel
            self.machine.loop.forget(self._listening.fileno())


class _Caller:
    """One connection, and the command that it asked for."""

    def __init__(self, control: Control, connection: socket.socket) -> None:
        self._control = control
        self._loop = control.machine.loop
        self._connection = connection
        self._request: Request | None = None
        self._command: Command | None = None
        self._pipes: dict[Stream, int] = {}
        self._sinks: tuple[PipeSink, ...] = ()
        self._loop.watch(connection.fileno(), read=self._readable)
        self._timer = self._loop.after(_PATIENCE, self._close)

    def answer(self, answer: Answer) -> None:
        """Send it, and close the connection. A second answer is not sent."""
        if self._connection.fileno() >= 0:
            with suppress(OSError, ValueError):  # the caller is gone; there is more to say than a packet holds
                send_packet(self._connection, encode(answer))
        self._close()

    def end(self) -> None:
        """Tell a caller that the machine has ended: what it waited for, or why it gets no more."""
        self.answer(Done() if isinstance(self._request, Stop | Wait) else _gone())

    def _readable(self) -> None:
        try:
            packet = receive_packet(self._connection, LIMIT, len(Stream))
        except BlockingIOError:
            return
        except (PacketError, OSError):  # 1
            self._hung_up()
            return
        if not packet.data:
            packet.close()
            self._hung_up()
            return
        try:
            self._take(packet)
        except MvmnixError as error:
            self._refuse(error)
        except (ValueError, OSError) as error:
            hint = "the two may be of different versions of mvm"
            self._refuse(UsageError(f"the machine's supervisor can't do that: {error}", hint=hint))
        finally:
            if packet.sender is not None:
                packet.sender.close()

    def _refuse(self, error: MvmnixError) -> None:
        """Answer a packet that is refused; while a command runs, it counts as a disconnect."""
        if self._command is None:
            self.answer(Failure.of(error))
        else:
            self._hung_up()

    def _take(self, packet: Packet) -> None:
        """Do what a packet asks for; what is left of its descriptors is closed."""
        left = list(packet.descriptors)
        try:
            request = parse_request(packet.data)  # 1
            self._control.check.check_call(packet.sender)  # 2
            streams = request.streams if isinstance(request, Exec | Shell | Copy | Files) else ()
            if len(left) != len(streams):
                raise ValueError("there are more streams than descriptors, or fewer")
            self._follow(request, left)
        finally:
            close_apart(left)

    def _follow(self, request: Request, descriptors: list[int]) -> None:
        if isinstance(request, Signal | Resize):
            self._forward(request)
            return
        if self._request is not None:
            raise ValueError("one thing is asked for on one connection")
        self._request = request
        self._timer.cancel()
        match request:
            case Exec() | Shell() | Copy() | Files():
                self._start(request, descriptors)
            case Pause() | Resume():
                self._control.machine.set_paused(isinstance(request, Pause), self._changed)  # 3
            case TakeSnapshot(ends):
                self._control.machine.start_snapshot(self._taken, ends=ends)  # 3
            case Stop(now):
                self._control.stop(now)
            case Extend(seconds):
                self._control.machine.extend(seconds)
                self.answer(Done())
            case Ping():
                self._control.machine.start_ping(lambda: self.answer(Done()))
            case Wait():
                return  # until `end`
            case _:
                assert_never(request)

    def _forward(self, message: Signal | Resize) -> None:
        """Hand a signal or a size on to the command that runs. Raises ValueError where none does that takes it."""
        match message, self._command:
            case Signal(number), Command() as command:
                command.signal(number)
            case Resize(rows, columns), Command() as command if isinstance(self._request, Shell):
                command.resize(rows, columns)
            case Resize(), Command():
                return  # it has no terminal
            case _:
                raise ValueError("a signal is sent to a command while that runs")

    def _start(self, call: GuestCall, descriptors: list[int]) -> None:
        for stream in call.streams:
            if not is_stream(stream, descriptors[0]):  # 4
                raise ValueError(f"{stream} is not a pipe that is open for it")
            self._pipes[stream] = descriptors.pop(0)
        out, err = (self._sink(stream) for stream in (Stream.STDOUT, Stream.STDERR))
        start = self._control.machine.start_verb
        self._command = start(call, stdout=out, stderr=err, stdin=self._pipes.get(Stream.STDIN))  # 3, 4
        self._command.when_over(self._over)

    def _sink(self, stream: Stream) -> Sink:
        if stream not in self._pipes:
            return discard_output
        sink = PipeSink(self._loop, self._pipes[stream])
        self._sinks = (*self._sinks, sink)
        return sink

    def _changed(self, error: MvmnixError | None) -> None:
        self.answer(Done() if error is None else Failure.of(error))

    def _taken(self, outcome: SnapshotKept | MvmnixError) -> None:
        self.answer(outcome if isinstance(outcome, SnapshotKept) else Failure.of(outcome))

    def _over(self) -> None:
        status = None if self._command is None else self._command.status
        self.answer(_gone() if status is None else Exited(status))

    def _hung_up(self) -> None:
        """End the command of a caller that is gone."""
        if self._command is None:
            self._close()
            return
        self._loop.forget(self._connection.fileno())
        if isinstance(self._request, Exec):
            self._kill()
        else:
            self._command.signal(signal.SIGHUP)
            self._timer = self._loop.after(_HANGUP_GRACE, self._kill)
        for sink in self._sinks:
            sink.leave()
        # at once: their readers need not wait for a guest that may be paused
        self._let_go([stream for stream in self._pipes if stream is not Stream.STDIN])

    def _kill(self) -> None:
        if self._command is not None:
            self._command.signal(signal.SIGKILL)  # 5

    def _close(self) -> None:
        self._timer.cancel()
        if self._connection.fileno() >= 0:
            self._loop.forget(self._connection.fileno())
            hang_up(self._connection)
        self._let_go(list(self._pipes))
        self._control.leave(self)

    def _let_go(self, streams: list[Stream]) -> None:
        for stream in streams:
            fd = self._pipes.pop(stream)
            self._loop.forget(fd)
            os.close(fd)


def is_stream(stream: Stream, fd: int) -> bool:
    """Return whether a descriptor is a pipe that is open for what the stream is used for."""
    return is_pipe(fd, os.O_RDONLY if stream is Stream.STDIN else os.O_WRONLY)


def _dismiss(connection: socket.socket) -> None:
    """Tell a caller that was never served that the machine has ended."""
    with suppress(OSError):
        connection.setblocking(False)
        send_packet(connection, encode(_gone()))
    hang_up(connection)


def _gone() -> Failure:
    return Failure.of(MachineEndedError())
