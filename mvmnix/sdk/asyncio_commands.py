"""The asyncio face's commands that go on while a program does: streams of events, and processes with pipes."""

from typing import Self

from mvmnix.launch.control.drivers import Steps
from mvmnix.sdk import commands
from mvmnix.sdk.arguments import check_methods
from mvmnix.sdk.asyncio_drive import run
from mvmnix.sdk.results import StreamEvent


@check_methods
class Stream:
    """The events of a command, in the order in which they came; an asynchronous iterator and context manager.

    Leaving it, or `close`, ends the command. Read to its end it ends by itself.
    """

    def __init__(self, stream: commands.CommandStream) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        if (event := await run(self._stream.next_event())) is None:
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        """End the command, if it still runs. A second call does nothing."""
        self._stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


@check_methods
class Reader:
    """What a command prints on one stream; an asynchronous iterator of lines. One task reads at a time."""

    def __init__(self, pipe: commands.PipeReader) -> None:
        self._pipe = pipe

    async def read(self, size: int = -1) -> bytes:
        """Return what is there, at most `size` bytes, waiting for the first one; all up to the end for -1."""
        return await run(self._pipe.read(size))

    async def readline(self) -> bytes:
        """Return the next line with its line break; b"" at the end."""
        return await run(self._pipe.readline())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if line := await self.readline():
            return line
        raise StopAsyncIteration

    def close(self) -> None:
        """Read no more. A second call does nothing."""
        self._pipe.close()


@check_methods
class Writer:
    """Standard input of a command. One task writes at a time."""

    def __init__(self, pipe: commands.PipeWriter) -> None:
        self._pipe = pipe

    async def write(self, data: bytes) -> None:
        """Write all of it, waiting while the command doesn't read. Raises BrokenPipeError where it reads no more."""
        await run(self._pipe.write(data))

    def close(self) -> None:
        """End standard input. A second call does nothing."""
        self._pipe.close()


@check_methods
class Process:
    """A command that runs in a machine; an asynchronous context manager, which ends it if it is left before."""

    def __init__(self, process: commands.GuestProcess) -> None:
        """Made by `Sandbox.popen` and `Sandbox.terminal` only."""
        self._process = process
        self.stdin = Writer(process.stdin)
        self.stdout = Reader(process.stdout)
        self.stderr = Reader(process.stderr)

    @property
    def exit_code(self) -> int | None:
        """Its exit code, once `wait` returned it."""
        return self._process.exit_code

    async def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, at most so many seconds, and return its exit code. Raises TimedOut.

        What it prints has to be read meanwhile: a command whose pipe is full waits, too.
        """
        return await run(self._process.wait(timeout))

    def signal(self, number: int) -> None:
        """Send it a Linux signal; without effect once it has ended."""
        self._process.signal(number)

    def kill(self) -> None:
        """End it at once; `wait` returns then."""
        self._process.kill()

    def resize(self, rows: int, columns: int) -> None:
        """Tell the size of its terminal; without effect where it has none."""
        self._process.resize(rows, columns)

    def close(self) -> None:
        """Close its pipes, and end it if it still runs. A second call does nothing."""
        self._process.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


async def begin_process(steps: Steps[commands.GuestProcess]) -> Process:
    """Begin a command."""
    return Process(await run(steps))
