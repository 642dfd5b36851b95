"""What a caller asks of a running machine: the steps of each call, which a driver runs (drivers.py)."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final, Self

from mvmnix.errors import GuestTimeoutError, MvmnixError
from mvmnix.launch.control.connection import Connection
from mvmnix.launch.control.drivers import Steps, Wait
from mvmnix.launch.control.failure import Failure
from mvmnix.launch.control.messages import (
    Answer,
    Done,
    Exited,
    GuestCall,
    Request,
    SnapshotKept,
    Stream,
    TakeSnapshot,
    parse_answer,
)
from mvmnix.machines.exit_status import ExitStatus

_CHUNK: Final = 65536
#: Chunks that are read from one pipe in a turn: more than a pipe holds.
_TURN: Final = 32
#: Seconds that a guest gets beyond a command's time limit to say that it ended; a lying one says nothing.
GRACE: Final = 15.0


def call(
    connection: Connection, request: Request, descriptors: Iterable[int] = (), *, seconds: float | None = None
) -> Steps[ExitStatus | None]:
    """Ask for something and wait for the answer: how a command ended, None for what is no command.

    Raises what the supervisor answered; ConnectionLostError where there is none in so many seconds.
    """
    yield from connection.send(request, descriptors)
    return (yield from answer(connection, seconds))


def answer(connection: Connection, seconds: float | None = None) -> Steps[ExitStatus | None]:
    """Wait for the answer to what was asked for. Raises as `call` does."""
    return _result((yield from connection.receive(seconds)).data)


def wait_for_exit(connection: Connection) -> Steps[ExitStatus]:
    """Wait for how the command ended that was asked for. Raises as `call` does."""
    return _required((yield from answer(connection)))


def _required(status: ExitStatus | None) -> ExitStatus:
    """Return how a command ended. Raises MvmnixError for an answer that isn't a command's."""
    if status is None:
        raise _another()
    return status


def _another() -> MvmnixError:
    return MvmnixError("the machine's supervisor answered another question", hint="mvm ps --all")


def _result(data: bytes) -> ExitStatus | None:
    found: Answer = parse_answer(data)
    match found:
        case Exited(status):
            return status
        case Done() | SnapshotKept():
            return None
        case Failure():
            raise found.to_error()


def take_snapshot(connection: Connection, *, ends: bool) -> Steps[SnapshotKept]:
    """Have a snapshot taken, and wait until it is kept; with `ends` the machine ends with it. Raises as `call` does."""
    yield from connection.send(TakeSnapshot(ends))
    found: Answer = parse_answer((yield from connection.receive(None)).data)
    match found:
        case SnapshotKept():
            return found
        case Failure():
            raise found.to_error()
        case _:
            raise _another()


class Exchange:
    """A command's streams and its answer, as they come.

    `outputs` are called with what comes on standard output and error; `feed` gives standard input, and `end_input` ends
    it. A context manager: leaving it closes all ends, and a command that runs on then is ended.
    """

    def __init__(
        self,
        connection: Connection,
        outputs: Mapping[Stream, Callable[[bytes], object]],
        *,
        has_input: bool,
    ) -> None:
        self.connection = connection
        self.status: ExitStatus | None = None
        self._outputs = dict(outputs)
        self._theirs: list[int] = []
        self._reading: dict[int, Stream] = {}
        self._writing = -1
        self._input: deque[memoryview] = deque()
        self._ends_input = False
        self._is_over = False
        try:
            if has_input:
                reading, self._writing = os.pipe2(os.O_CLOEXEC)
                os.set_blocking(self._writing, False)
                self._theirs.append(reading)
            for stream in (Stream.STDOUT, Stream.STDERR):
                if stream in self._outputs:
                    reading, writing = os.pipe2(os.O_CLOEXEC)
                    os.set_blocking(reading, False)
                    self._reading[reading] = stream
                    self._theirs.append(writing)
        except BaseException:
            self.close()
            raise

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams that go with the request."""
        given = (Stream.STDIN,) if self._writing >= 0 else ()
        return (*given, *(stream for stream in (Stream.STDOUT, Stream.STDERR) if stream in self._outputs))

    @property
    def is_over(self) -> bool:
        """Whether the command has ended, and all that it said was handed out."""
        return self._is_over

    def begin(self, request: GuestCall) -> Steps[None]:
        """Send the request, whose `streams` are these. Raises as `call` does."""
        yield from self.connection.send(request, self._theirs)
        self._close_theirs()

    def feed(self, data: bytes) -> None:
        """Add to standard input; a command that reads no more gets none of it."""
        if self._writing >= 0 and not self._ends_input and data:
            self._input.append(memoryview(data))

    def end_input(self) -> None:
        """End standard input, once all of it is written."""
        self._ends_input = True
        self._flush()

    @property
    def pending_input(self) -> int:
        """Bytes of standard input that are not written yet."""
        return sum(map(len, self._input))

    def turn(self, seconds: float | None = None) -> Steps[bool]:
        """Wait for what comes next, and hand it out; return False where nothing came in so many seconds.

        Raises what the supervisor answered instead of a command's end.
        """
        writing = (self._writing,) if self._input else ()
        ready = yield Wait(read=(self.connection.fileno(), *self._reading), write=writing, seconds=seconds)
        if self._writing in ready:
            self._flush()
        self._read(ready)
        if self.connection.fileno() in ready:
            with suppress(BlockingIOError):
                data = self.connection.next_packet().data
                self._read(tuple(self._reading))  # all of it was written before the answer was sent
                self._is_over = True
                self.status = _result(data)
        return bool(ready)

    def run(self, request: GuestCall, seconds: float | None = None) -> Steps[ExitStatus]:
        """Run a command to its end; after so many seconds the caller gives up: GuestTimeoutError."""
        yield from self.begin(request)
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self.is_over:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise GuestTimeoutError("the command did not end in its time", hint="give it more, or end the machine")
            yield from self.turn(left)
        return _required(self.status)

    def _read(self, ready: Iterable[int]) -> None:
        for fd in [fd for fd in ready if fd in self._reading]:
            self._drain(fd)

    def _drain(self, fd: int) -> None:
        """Hand out what is in a pipe; an endless output leaves other streams their turn."""
        for _ in range(_TURN):
            try:
                data = os.read(fd, _CHUNK)
            except BlockingIOError:
                return
            if not data:
                del self._reading[fd]
                os.close(fd)
                return
            self._outputs[self._reading[fd]](data)

    def _flush(self) -> None:
        while self._input:
            try:
                count = os.write(self._writing, self._input[0][:_CHUNK])
            except BlockingIOError:
                return
            except OSError:  # it reads no more
                self._input.clear()
                self._ends_input = True
                break
            self._input[0] = self._input[0][count:]
            if not self._input[0]:
                self._input.popleft()
        if self._ends_input and self._writing >= 0:
            os.close(self._writing)
            self._writing = -1

    def _close_theirs(self) -> None:
        while self._theirs:
            os.close(self._theirs.pop())

    def close(self) -> None:
        """Close all ends and the connection. A second call does nothing."""
        self._close_theirs()
        self.connection.close()
        for fd in self._reading:
            os.close(fd)
        self._reading.clear()
        self._input.clear()
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1

    __del__ = close  # a conversation may be let go of where it stands

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
