"""Commands in a machine: run to their end with bounded output, streamed as they print, or held by their pipes."""

import os
import signal
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final, Literal, TypedDict

from mvmnix.errors import GuestTimeoutError
from mvmnix.launch.agent.operations import MOST_ROWS
from mvmnix.launch.control import calls
from mvmnix.launch.control.calls import Exchange
from mvmnix.launch.control.connection import Connection, ConnectionLostError
from mvmnix.launch.control.drivers import Steps, Wait
from mvmnix.launch.control.messages import Exec, GuestCall, Resize, Shell, Signal, Stream
from mvmnix.machines.exit_status import End, ExitStatus, Step
from mvmnix.model import Verb
from mvmnix.sdk.arguments import check_argument, check_options, seconds
from mvmnix.sdk.errors import (
    CommandFailed,
    GuestFailed,
    InvalidArgument,
    OutcomeUnknown,
    OutputLimitExceeded,
    TimedOut,
    file_error,
)
from mvmnix.sdk.machine import ENDED, Machine, check_request, not_running, require, unanswered
from mvmnix.sdk.outcome import Outcome
from mvmnix.sdk.results import ExitEvent, OutputEvent, Result, StreamEvent
from mvmnix.sdk.users import check_user, with_numbers
from mvmnix.words import Words

#: Bytes of each stream of a command that are kept, unless a caller says otherwise.
OUTPUT_LIMIT: Final = 10 << 20
_CHUNK: Final = 65536
_LAST_SIGNAL: Final = 64
_OUTPUTS: Final = (Stream.STDOUT, Stream.STDERR)


class CommandOptions(TypedDict, total=False):
    """Where and as whom a command runs; what is left out is as the plan says."""

    cwd: str
    env: Mapping[str, str]
    """Added to the plan's environment."""
    user: str
    """A user of the guest: UID, UID:GID, or a name, which is looked up in its /etc/passwd and takes the verb copy."""


class ExecOptions(CommandOptions, total=False):
    """What a command is given, and held to."""

    input: bytes | str
    """Its standard input; empty where it is left out."""
    timeout: float
    """Seconds, after which it is killed and TimedOut is raised."""
    output_limit: int
    """Bytes of each stream that are kept; more is OutputLimitExceeded. 10 MiB where it is left out."""


def words_of(argv: Words) -> tuple[str, ...]:
    """Return a command's words. Raises TypeError, which shows the list, for a str; InvalidArgument for none."""
    check_argument("argv", argv, Words)
    if not argv:
        raise InvalidArgument("there is no command", hint='box.exec(["/bin/ls", "-l"])')
    return tuple(argv)


def exec_message(argv: tuple[str, ...], options: CommandOptions, timeout: float | None = None) -> Exec:
    """Return the request for a command, without its streams. Raises InvalidArgument."""
    bound = seconds(timeout, "timeout")
    user = check_user(options.get("user", ""))
    limit = 0 if bound is None else bound + 1  # the caller counts precisely, the guest bounds it
    return Exec(argv, dict(options.get("env", {})), options.get("cwd", ""), limit, user)


class _OutputBuffer:
    """The beginning of a command's output; what goes beyond the limit ends it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.kept = {stream: bytearray() for stream in _OUTPUTS}

    def take(self, stream: Stream, data: bytes) -> None:
        """Keep more. Raises OutputLimitExceeded."""
        kept = self.kept[stream]
        kept += data[: self.limit - len(kept) + 1]
        if len(kept) > self.limit:
            del kept[self.limit :]
            why = f"the command printed more than {self.limit} bytes on {stream}, and was ended"
            out, err = self.outputs
            raise OutputLimitExceeded(why, stdout=out, stderr=err)

    @property
    def outputs(self) -> tuple[bytes, bytes]:
        """What is kept of standard output, and of standard error."""
        return bytes(self.kept[Stream.STDOUT]), bytes(self.kept[Stream.STDERR])


def execute(machine: Machine, argv: Words, options: ExecOptions) -> Steps[Result[bytes]]:
    """Run a command to its end, and return what it printed.

    Raises NotGranted, TimedOut, OutputLimitExceeded, FileNotFound where there is no such program, GuestFailed,
    NotRunning, OutcomeUnknown.
    """
    check_options(options, ExecOptions)
    words, given = words_of(argv), _bytes(options.get("input"))
    timeout = options.get("timeout")
    request = exec_message(words, options, timeout)
    kept = _OutputBuffer(options.get("output_limit", OUTPUT_LIMIT))
    require(machine, Verb.EXEC)
    request = yield from with_numbers(machine, request)
    check_request(request)
    connection = yield from machine.connect()
    begin = time.monotonic()
    outputs = {stream: partial(kept.take, stream) for stream in _OUTPUTS}
    with connection, Exchange(connection, outputs, has_input=given is not None) as exchange:
        request = replace(request, streams=exchange.streams)
        exchange.feed(given or b"")
        exchange.end_input()
        try:
            status = yield from exchange.run(request, timeout)
        except GuestTimeoutError:
            raise _timed_out(words, *kept.outputs) from None
        except ENDED as error:
            raise (yield from unanswered(machine, *kept.outputs)) from error
    if status.end is End.TIMED_OUT:
        raise _timed_out(words, *kept.outputs)
    check_status(status, words)
    return Result(*kept.outputs, status.exit_code, time.monotonic() - begin)


def _timed_out(words: tuple[str, ...], out: bytes = b"", err: bytes = b"") -> TimedOut:
    why = f"the command {words[0]!r} did not end in its time, and was killed"
    return TimedOut(why, hint="give it more: timeout=", stdout=out, stderr=err)


def _bytes(data: bytes | str | None) -> bytes | None:
    return data.encode() if isinstance(data, str) else data


def check_status(status: ExitStatus, words: tuple[str, ...]) -> None:
    """Raise FileNotFound, FileFailed or GuestFailed for a command that never ran."""
    if status.end is End.NOT_STARTED and status.step in {Step.EXECUTE, Step.DIRECTORY}:
        what = words[0] if status.step is Step.EXECUTE else f"the working directory of {words[0]}"
        raise file_error(status.code, what, os.strerror(status.code))
    if status.end in {End.NOT_STARTED, End.REFUSED}:
        raise GuestFailed(f"the command {words[0]!r} {status}", hint="Sandbox.run(…, memory_mib=) gives the guest more")


def shell_words(script: str) -> tuple[str, ...]:
    """Return the words by which the guest's shell reads a script."""
    return ("sh", "-c", script)


def finish(argv: Words, result: Result[bytes], *, text: bool, check: bool) -> Result[bytes] | Result[str]:
    """Return a result as it was asked for: as text (UTF-8, with replacement characters), or raise CommandFailed."""
    made: Result[bytes] | Result[str] = result
    if text:
        out, err = (data.decode(errors="replace") for data in (result.stdout, result.stderr))
        made = Result(out, err, result.exit_code, result.duration)
    if check and result.exit_code:
        raise CommandFailed(f"the command {argv[0]!r} ended with exit code {result.exit_code}", made)
    return made


class CommandStream:
    """A command's output as it comes, and its end; closing it before has the command killed."""

    def __init__(self, machine: Machine, argv: Words, options: ExecOptions) -> None:
        check_options(options, ExecOptions)
        self._machine = machine
        self._words = words_of(argv)
        self._timeout = options.get("timeout")
        self._request = exec_message(self._words, options, self._timeout)
        self._input = _bytes(options.get("input"))
        self._events: deque[StreamEvent] = deque()
        self._exchange: Exchange | None = None
        self._begin = 0.0
        self._has_ended = False
        require(machine, Verb.EXEC)

    def next_event(self) -> Steps[StreamEvent | None]:
        """Return the next event; None after the last one. Raises as `execute` does."""
        while not self._events:
            if self._has_ended:
                return None
            try:
                yield from self._turn()
            except BaseException:
                self.close()
                raise
        return self._events.popleft()

    def _turn(self) -> Steps[None]:
        if self._exchange is None:
            yield from self._start()
            return
        left = None if self._timeout is None else max(0.0, self._begin + self._timeout - time.monotonic())
        try:
            yield from self._exchange.turn(left)
        except ENDED as error:
            raise (yield from unanswered(self._machine)) from error
        if self._exchange.is_over and (status := self._exchange.status) is not None:
            self.close()
            if status.end is End.TIMED_OUT:
                raise _timed_out(self._words)
            check_status(status, self._words)
            self._events.append(ExitEvent(status.exit_code, time.monotonic() - self._begin))
        elif left == 0 and not self._events:
            raise _timed_out(self._words)

    def _start(self) -> Steps[None]:
        request = yield from with_numbers(self._machine, self._request)
        check_request(request)
        connection = yield from self._machine.connect()
        names: tuple[tuple[Stream, Literal["stdout", "stderr"]], ...] = (
            (Stream.STDOUT, "stdout"),
            (Stream.STDERR, "stderr"),
        )
        outputs = {stream: partial(self._take, name) for stream, name in names}
        self._exchange = Exchange(connection, outputs, has_input=self._input is not None)
        self._begin = time.monotonic()
        yield from self._exchange.begin(replace(request, streams=self._exchange.streams))
        self._exchange.feed(self._input or b"")
        self._exchange.end_input()

    def _take(self, name: Literal["stdout", "stderr"], data: bytes) -> None:
        self._events.append(OutputEvent(name, data))

    def close(self) -> None:
        """End the command, if it still runs. A second call does nothing."""
        self._has_ended = True
        if self._exchange is not None:
            self._exchange.close()


class _PipeEnd:
    """This program's end of a command's pipe, closed with the object at the latest; -1 where there is none."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        """Close the pipe; a command that goes on printing gets SIGPIPE or EPIPE. A second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close


class PipeReader(_PipeEnd):
    """What a command prints on one of its streams; read by one thread or task at a time."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._buffer = bytearray()

    def read(self, size: int = -1) -> Steps[bytes]:
        """Return what is there, at most `size` bytes, waiting for the first; for -1 all up to the end."""
        while size < 0 or (not self._buffer and size):
            if not (yield from self._fill()):
                break
        return self._take(len(self._buffer) if size < 0 else size)

    def readline(self) -> Steps[bytes]:
        """Return the next line with its line break, or what is left before the end."""
        while b"\n" not in self._buffer:
            if not (yield from self._fill()):
                return self._take(len(self._buffer))
        return self._take(self._buffer.index(b"\n") + 1)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _fill(self) -> Steps[bool]:
        """Wait for more; whether there was any."""
        while self._fd >= 0:
            try:
                data = os.read(self._fd, _CHUNK)
            except BlockingIOError:
                yield Wait(read=(self._fd,))
                continue
            if not data:
                break
            self._buffer += data
            return True
        return False


class PipeWriter(_PipeEnd):
    """Standard input of a command, which ends when this is closed; written by one thread or task at a time."""

    def write(self, data: bytes) -> Steps[None]:
        """Write all of it, waiting while the command doesn't read. Raises BrokenPipeError where it reads no more."""
        view = memoryview(data)
        while view:
            if self._fd < 0:
                raise ValueError("standard input was closed")
            try:
                view = view[os.write(self._fd, view[:_CHUNK]) :]
            except BlockingIOError:
                yield Wait(write=(self._fd,))


class GuestProcess:
    """A command that runs in a machine, with pipes of its own. Closing it before its end has it killed."""

    def __init__(
        self, machine: Machine, connection: Connection, words: tuple[str, ...], ends: Mapping[Stream, int]
    ) -> None:
        self.stdin = PipeWriter(ends[Stream.STDIN])
        self.stdout = PipeReader(ends[Stream.STDOUT])
        self.stderr = PipeReader(ends.get(Stream.STDERR, -1))
        self._machine = machine
        self._connection = connection
        self._words = words
        self._exit = Outcome(connection, self._take_exit, self._late)

    @property
    def exit_code(self) -> int | None:
        """Its exit code, once `wait` returned it."""
        return self._exit.value

    def wait(self, timeout: float | None) -> Steps[int]:
        """Return its exit code, once it has ended. What it prints has to be read meanwhile, or it never ends.

        Raises TimedOut, after which it goes on; FileNotFound where there is no such program; OutcomeUnknown where the
        machine ended before it, or it was closed.
        """
        if self._exit.value is None and self._connection.fileno() < 0:
            why = f"the command {self._words[0]!r} was let go of before its end was waited for"
            raise OutcomeUnknown(why, hint="call process.wait() inside of the with block")
        return (yield from self._exit.wait(timeout))

    def _late(self) -> TimedOut:
        return TimedOut(f"the command {self._words[0]!r} has not ended in its time", hint="process.kill()")

    def _take_exit(self) -> Steps[int]:
        try:
            status = yield from calls.wait_for_exit(self._connection)
        except ENDED as error:
            raise (yield from unanswered(self._machine)) from error
        check_status(status, self._words)
        return status.exit_code

    def signal(self, number: int) -> None:
        """Send it a Linux signal, 1 to 64; without effect once it has ended. Raises InvalidArgument."""
        if not 1 <= number <= _LAST_SIGNAL:
            raise InvalidArgument(f"there is no signal {number}", hint="process.signal(signal.SIGTERM)")
        self._connection.tell(Signal(number))

    def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the size of its terminal, where it has one. Raises InvalidArgument for what is no size."""
        if not (1 <= rows <= MOST_ROWS and 1 <= columns <= MOST_ROWS):
            raise InvalidArgument(f"a terminal of {rows} rows and {columns} columns", hint="process.resize(24, 80)")
        self._connection.tell(Resize(rows, columns))

    def close(self) -> None:
        """Close its pipes, and end it if it still runs. A second call does nothing."""
        self._connection.close()
        for pipe in (self.stdin, self.stdout, self.stderr):
            pipe.close()


def open_process(machine: Machine, argv: Words, options: CommandOptions) -> Steps[GuestProcess]:
    """Begin a command with pipes for its three streams. Raises as `execute` does."""
    check_options(options, CommandOptions)
    words = words_of(argv)
    request = replace(exec_message(words, options), streams=tuple(Stream))
    require(machine, Verb.EXEC)
    request = yield from with_numbers(machine, request)
    return (yield from _open(machine, words, request))


def open_terminal(machine: Machine, argv: Words, term: str, rows: int, columns: int) -> Steps[GuestProcess]:
    """Begin a command, or the image's shell, in a pseudo-terminal of the guest's. Raises as `execute` does."""
    words = words_of(argv) if argv else ()
    require(machine, Verb.SHELL)
    return (yield from _open(machine, words or ("the shell",), Shell(words, rows, columns, term)))


def _open(machine: Machine, words: tuple[str, ...], request: GuestCall) -> Steps[GuestProcess]:
    check_request(request)
    connection = yield from machine.connect()
    ours, theirs = dict[Stream, int](), list[int]()
    try:
        for stream in request.streams:
            reading, writing = os.pipe2(os.O_CLOEXEC)
            mine, other = (writing, reading) if stream is Stream.STDIN else (reading, writing)
            ours[stream] = mine
            theirs.append(other)
            os.set_blocking(mine, False)
        yield from connection.send(request, theirs)
    except BaseException as error:
        connection.close()
        for fd in ours.values():
            os.close(fd)
        if isinstance(error, ConnectionLostError):
            raise not_running(machine.id) from error
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    return GuestProcess(machine, connection, words, ours)
