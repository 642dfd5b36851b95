"""The supervisor's end of a machine's control socket: who calls is looked at, and served by the machine's own loop.

What is done for each packet, which the code repeats by number:

1. The client runs as the supervisor's user, by the kernel's word, or its connection is closed.
2. The packet is bounded and typed, its descriptors are closed if it isn't.
3. The machine grants it, by its verified plan, or refuses; either is in the audit log before anything is done. To have
   its guest stand still is no verb of the plan: it is in its user's power, like its end.
4. The bytes of a command go between the guest and the descriptors that came with it, none of which can block.
5. If the client disconnects before the end, its command is killed; a shell, a copy or a file operation gets SIGHUP
   first, and two seconds.

Callbacks here never raise: what goes wrong is the caller's answer.
"""

import os
import signal
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Protocol, Self, override

from mvmnix.errors import MvmnixError, UsageError
from mvmnix.launch.agent.commands import Command
from mvmnix.launch.agent.endpoints import FdSink, Sink, Stdin
from mvmnix.launch.control import messages
from mvmnix.launch.control.messages import (
    Answer,
    Asked,
    Copy,
    Done,
    Exec,
    Exited,
    Files,
    PacketError,
    Pause,
    Resize,
    Resume,
    Shell,
    Signal,
    Start,
    Stream,
    encode,
    parse_asked,
)
from mvmnix.launch.control.start_notification import Failure
from mvmnix.machines import control_socket
from mvmnix.machines.machine_dir import MachineHome
from mvmnix.system.loop import Loop

#: Seconds within which a caller has to say what he wants.
_PATIENCE: Final = 10.0
#: Seconds that a shell or a copy has to end once its caller has hung up.
_LAST_BREATH: Final = 2.0
_NULL: Final = os.makedev(1, 3)


class Served(Protocol):
    """What a control socket needs of a machine; `Machine` is one."""

    @property
    def loop(self) -> Loop:
        """The loop that serves it."""

    @property
    def home(self) -> MachineHome:
        """Its directory, in which the socket lies."""

    def start_verb(self, asked: Start, *, stdout: Sink, stderr: Sink, stdin: Stdin) -> Command:
        """Start a command. Raises MvmnixError, ValueError."""

    def set_paused(self, paused: bool, done: Callable[[MvmnixError | None], None]) -> None:
        """Have its guest stand still or go on; `done` is told once it does. Raises MvmnixError."""


class Control:
    """Serves callers while it is entered; to be left once the machine has ended."""

    def __init__(self, machine: Served) -> None:
        self.machine = machine
        self._listening = machine.home.listen()
        self._callers: set[_Caller] = set()

    def __enter__(self) -> Self:
        self._welcome()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.machine.loop.forget(self._listening.fileno())
        self._listening.close()
        for caller in tuple(self._callers):
            caller.answer(_gone())

    def leave(self, caller: "_Caller") -> None:
        """A caller is done."""
        self._callers.discard(caller)
        self._welcome()

    def _welcome(self) -> None:
        if self._listening.fileno() >= 0:
            self.machine.loop.watch(self._listening.fileno(), read=self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except OSError:
            return
        if control_socket.peer(connection)[1] != os.geteuid():  # 1
            connection.close()
            return
        connection.setblocking(False)
        self._callers.add(_Caller(self, connection))
        if len(self._callers) >= control_socket.MOST_CALLERS:  # the others wait in the kernel
            self.machine.loop.forget(self._listening.fileno())


class _Caller:
    """One connection, and the command that it asked for."""

    def __init__(self, control: Control, connection: socket.socket) -> None:
        self._control = control
        self._loop = control.machine.loop
        self._connection = connection
        self._command: Command | None = None
        self._waits = False
        self._descriptors: tuple[int, ...] = ()
        self._outputs: tuple[int, ...] = ()
        self._sinks: tuple[CallerSink, ...] = ()
        #: Whether it hears that its caller hung up before it is killed: a shell does, and a copy that has to clean up.
        self._is_gentle = self._is_terminal = False
        self._loop.watch(connection.fileno(), read=self._readable)
        self._timer = self._loop.after(_PATIENCE, self._close)

    def answer(self, answer: Answer) -> None:
        """Send it, and close the connection. A second answer is not sent."""
        if self._connection.fileno() >= 0:
            with suppress(OSError, ValueError):  # the client is gone; there is more to say than a packet holds
                messages.send(self._connection, encode(answer))
        self._close()

    def _readable(self) -> None:
        try:
            data, descriptors = messages.receive(self._connection)
        except BlockingIOError:
            return
        except (PacketError, OSError):  # 2
            self._left()
            return
        if not data:
            messages.close(descriptors)
            self._left()
            return
        try:
            self._asked(data, descriptors)
        except MvmnixError as error:
            self._refuse(error)
        except (ValueError, OSError) as error:
            hint = "the two may be of different versions of mvm"
            self._refuse(UsageError(f"the machine's supervisor can't do that: {error}", hint=hint))

    def _refuse(self, error: MvmnixError) -> None:
        """Who talks nonsense while his command runs has hung up: its descriptors stay until it has ended."""
        if self._command is None:
            self.answer(Failure.of(error))
        else:
            self._left()

    def _asked(self, data: bytes, descriptors: tuple[int, ...]) -> None:
        try:
            asked = parse_asked(data)  # 2
            _check(asked, len(descriptors))
        except ValueError:
            messages.close(descriptors)
            raise
        match asked, self._command:
            case ((Pause() | Resume()), None) if not self._waits:
                self._timer.cancel()
                self._waits = True
                self._control.machine.set_paused(isinstance(asked, Pause), self._changed)  # 3
            case ((Exec() | Shell() | Copy() | Files()), None) if not self._waits:
                self._start(asked, descriptors)
            case Signal(number), Command() as command:
                command.signal(number)
            case Resize(rows, columns), Command() as command if self._is_terminal:
                command.resize(rows, columns)
            case _:
                messages.close(descriptors)
                raise ValueError("a command is asked for once, and a signal sent while it runs")

    def _start(self, asked: Start, descriptors: tuple[int, ...]) -> None:
        self._timer.cancel()
        self._is_gentle = not isinstance(asked, Exec)
        self._is_terminal = isinstance(asked, Shell)
        streams = dict[Stream, int]()
        left = list(descriptors)
        try:
            for stream in asked.streams:
                streams[stream] = take(left.pop(0), stream)
                self._descriptors = tuple(streams.values())
        finally:
            messages.close(tuple(left))
        self._outputs = tuple(fd for stream, fd in streams.items() if stream is not Stream.STDIN)
        out, err = (self._sink(streams.get(stream)) for stream in (Stream.STDOUT, Stream.STDERR))
        start = self._control.machine.start_verb
        self._command = start(asked, stdout=out, stderr=err, stdin=streams.get(Stream.STDIN))  # 3, 4
        self._command.when_over(self._over)

    def _sink(self, fd: int | None) -> Sink:
        if fd is None:
            return _nowhere
        sink = CallerSink(self._loop, fd)
        self._sinks = (*self._sinks, sink)
        return sink

    def _changed(self, error: MvmnixError | None) -> None:
        self.answer(Done() if error is None else Failure.of(error))

    def _over(self) -> None:
        status = None if self._command is None else self._command.status
        self.answer(_gone() if status is None else Exited(status))

    def _left(self) -> None:
        """The client no longer waits for the command."""
        if self._command is None:
            self._close()
            return
        self._loop.forget(self._connection.fileno())
        if self._is_gentle:
            self._command.signal(signal.SIGHUP)
            self._timer = self._loop.after(_LAST_BREATH, self._kill)
        else:
            self._kill()
        for sink in self._sinks:
            sink.leave()
        self._let_go(self._outputs)  # at once: their readers need not wait for a guest that may stand still

    def _kill(self) -> None:
        if self._command is not None:
            self._command.signal(signal.SIGKILL)  # 5

    def _close(self) -> None:
        self._timer.cancel()
        if self._connection.fileno() >= 0:
            self._loop.forget(self._connection.fileno())
            self._connection.close()
        self._let_go(self._descriptors)
        self._control.leave(self)

    def _let_go(self, descriptors: tuple[int, ...]) -> None:
        for fd in descriptors:
            self._loop.forget(fd)
        messages.close(descriptors)
        self._descriptors = tuple(fd for fd in self._descriptors if fd not in descriptors)


def _check(asked: Asked, descriptors: int) -> None:
    if descriptors != (len(asked.streams) if isinstance(asked, Exec | Shell | Copy | Files) else 0):
        raise ValueError("there are more streams than descriptors, or fewer")


def _nowhere(data: bytes) -> None:
    """For output that the client doesn't want."""


def _gone() -> Failure:
    return Failure.of(MvmnixError("the machine has ended", hint="mvm ps --all says how"))


class CallerSink(FdSink):
    """Output to a descriptor of a caller; one that can't be written is like a reader that left."""

    @override
    def _failed(self, error: OSError) -> None:
        self._give_up()


def take(fd: int, stream: Stream) -> int:
    """A descriptor that doesn't block, in place of this one, which is closed. Raises ValueError for what can't be.

    A supervisor watches a guest, so what a caller hands it must not block it. A pipe is opened once more for reading or
    writing without waiting, which leaves the caller's own mode as it is; a terminal, where a stopped one would block,
    is not taken: the caller's process stands between.
    """
    mode = os.O_RDONLY if stream is Stream.STDIN else os.O_WRONLY
    try:
        status = os.fstat(fd)
        if stat.S_ISFIFO(status.st_mode):
            return os.open(f"/proc/self/fd/{fd}", mode | os.O_NONBLOCK | os.O_CLOEXEC)
        is_null = stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISSOCK(status.st_mode) or is_null):
            raise ValueError(f"{stream} is neither a pipe, a file nor a socket")
        return os.dup(fd)
    finally:
        os.close(fd)
