"""The blocking face's commands that go on while a program does: streams of events, and processes with pipes."""

from typing import Self

from mvmnix.sdk import commands
from mvmnix.sdk.arguments import check_methods
from mvmnix.sdk.drive import run
from mvmnix.sdk.results import StreamEvent


@check_methods
class Stream:
    """The events of a command, in the order in which they came; an iterator, and a context manager.

    Leaving it, or `close`, ends the command. Read to its end it ends by itself.
    """

    def __init__(self, stream: commands.CommandStream) -> None:
        self._stream = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamEvent:
        if (event := run(self._stream.next_event())) is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """End the command, if it still runs. A second call does nothing."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@check_methods
class Reader:
    """What a command prints on one stream; an iterator of lines. One thread reads at a time."""

    def __init__(self, pipe: commands.PipeReader) -> None:
        self._pipe = pipe

    def read(self, size: int = -1) -> bytes:
        """Return what is there, at most `size` bytes, waiting for the first one; all up to the end for -1."""
        return run(self._pipe.read(size))

    def readline(self) -> bytes:
        """Return the next line with its line break; b"" at the end."""
        return run(self._pipe.readline())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if line := self.readline():
            return line
        raise StopIteration

    def close(self) -> None:
        """Read no more. A second call does nothing."""
        self._pipe.close()


@check_methods
class Writer:
    """Standard input of a command. One thread writes at a time."""

    def __init__(self, pipe: commands.PipeWriter) -> None:
        self._pipe = pipe

    def write(self, data: bytes) -> None:
        """Write all of it, waiting while the command doesn't read. Raises BrokenPipeError where it reads no more."""
        run(self._pipe.write(data))

    def close(self) -> None:
        """End standard input. A second call does nothing."""
        self._pipe.close()


@check_methods
class Process:
    """A command that runs in a machine; a context manager, which ends it when it is left before its end."""

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

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, at most so many seconds, and return its exit code. Raises TimedOut.

        What it prints has to be read meanwhile: a command whose pipe is full waits, too.
        """
        return run(self._process.wait(timeout))

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
