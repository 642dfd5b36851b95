"""Where a command's output goes and its input comes from: callables, byte strings and descriptors, never blocking."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from mvmnix.errors import MvmnixError
from mvmnix.machines.output_log import Keep
from mvmnix.system.loop import Loop

#: A pipe that polls writable takes this much without blocking (pipe(7)); the user's descriptors stay in blocking mode,
#: because their mode is shared with other processes.
_PIPE_BUF = 4096
_READ_SIZE = 65536


class FdSink:
    """Writes a command's output to a pipe, terminal or file as fast as that takes it; holds at most a window.

    `shape` says what is written for bytes that came, if not the same: the window is free again when all is out.
    """

    def __init__(self, loop: Loop, fd: int, shape: Callable[[bytes], bytes] | None = None) -> None:
        self._loop = loop
        self._fd = fd
        self._shape = shape
        self._owed = 0
        self._buffer = bytearray()
        self._released: Callable[[int], None] = lambda _count: None
        self._broken: Callable[[], None] | None = None
        self._keep: Keep | None = None
        self._portion = _PIPE_BUF if os.get_blocking(fd) else _READ_SIZE

    @property
    def pending(self) -> int:
        """Bytes that the descriptor has not taken yet."""
        return len(self._buffer)

    def bind(self, *, released: Callable[[int], None], broken: Callable[[], None]) -> None:
        """Whom to tell that bytes have left, and that the reader went away."""
        self._released = released
        self._broken = broken

    def keep_by(self, keep: Keep) -> None:
        """Give this all that comes, too, as it came; also what comes when the reader has left."""
        self._keep = keep

    def __call__(self, data: bytes) -> None:
        """Take bytes; `released` hears when they are gone."""
        if self._keep is not None:
            self._keep(data)
        if self._broken is None:
            self._released(len(data))
            return
        self._owed += len(data)
        self._buffer += data if self._shape is None else self._shape(data)
        if not self._buffer:
            self._release(0)
            return
        try:
            self._loop.watch(self._fd, write=self._write)
        except PermissionError:  # a regular file is always ready
            while self._buffer:
                self._write()

    def drop(self) -> None:
        """Throw away what is pending and let go of the descriptor."""
        self._buffer.clear()
        if self._fd >= 0:
            self._loop.forget(self._fd)

    def leave(self) -> None:
        """Throw away what is pending and what is still to come, as if the reader had left."""
        if self._broken is not None:
            self._give_up()

    def _write(self) -> None:
        try:
            count = os.write(self._fd, memoryview(self._buffer)[: self._portion])
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._give_up()
            return
        except OSError as error:
            self._failed(error)
            return
        del self._buffer[:count]
        if not self._buffer:
            self._loop.forget(self._fd)
        self._release(count)

    def _release(self, written: int) -> None:
        """Say how many bytes of what came are gone."""
        gone = self._owed if not self._buffer else written if self._shape is None else 0
        self._owed -= gone
        self._released(gone)

    def _failed(self, error: OSError) -> None:
        """What is to happen when it can't be written for another reason than that its reader left."""
        self.drop()
        hint = "check the place that the output was sent to"
        raise MvmnixError(f"the command's output can't be written: {error.strerror}", hint=hint) from error

    def _give_up(self) -> None:
        """Its reader is gone."""
        broken = self._broken
        self._broken = None
        self.drop()
        self._fd = -1  # its owner may close it now, and its number be given to another
        self._release(0)
        if broken is not None:
            broken()


@dataclass(frozen=True, slots=True)
class TypedInput:
    """A terminal's descriptor, and who is shown what is typed there, before the guest gets it."""

    fd: int
    seen: Callable[[bytes], None]


type Sink = Callable[[bytes], None] | FdSink


def kept_sink(sink: Sink, keep: Keep) -> Sink:
    """The same sink, and `keep` is given all that comes, first."""
    if isinstance(sink, FdSink):
        sink.keep_by(keep)
        return sink

    def both(data: bytes) -> None:
        keep(data)
        sink(data)

    return both


type Stdin = bytes | Iterable[bytes] | int | TypedInput | None


class Source(Protocol):
    """Bytes on demand."""

    def pull(self, limit: int) -> bytes | None:
        """At most `limit` bytes; none when there are none now, None when there never will be."""

    def close(self) -> None:
        """No more will be pulled."""


class ChunkSource:
    """Bytes from memory or an iterable."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self._rest = memoryview(b"")

    def pull(self, limit: int) -> bytes | None:
        """At most `limit` bytes, None at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return None
            self._rest = memoryview(chunk)
        data, self._rest = bytes(self._rest[:limit]), self._rest[limit:]
        return data

    def close(self) -> None:
        """Forget what is left."""
        self._chunks, self._rest = iter(()), memoryview(b"")


def _unseen(_data: bytes) -> None:
    """For input that only the guest sees."""


class FdSource:
    """Bytes from a pipe, terminal or file; read only when asked for, and only when it has some."""

    def __init__(self, loop: Loop, fd: int, wake: Callable[[], None], seen: Callable[[bytes], None] = _unseen) -> None:
        self._loop = loop
        self._fd = fd
        self._wake = wake
        self._seen = seen
        self._buffer = b""
        self._ended = False
        self._limit = 0

    def pull(self, limit: int) -> bytes | None:
        """What was read, or none, and `wake` is called as soon as there is something; None at the end of file."""
        if not self._buffer and not self._ended:
            self._limit = limit
            try:
                self._loop.watch(self._fd, read=self._read)
            except PermissionError:  # a regular file is always ready
                self._fill()
        if not self._buffer:
            return None if self._ended else b""
        data, self._buffer = self._buffer[:limit], self._buffer[limit:]
        return data

    def close(self) -> None:
        """Let go of the descriptor, which stays open."""
        self._ended, self._buffer = True, b""
        self._loop.forget(self._fd)

    def _fill(self) -> None:
        try:
            self._buffer = os.read(self._fd, min(self._limit, _READ_SIZE))
        except BlockingIOError:
            return
        except OSError:  # a terminal that hung up; a directory
            self._buffer = b""
        self._ended = not self._buffer
        self._seen(self._buffer)

    def _read(self) -> None:
        self._loop.forget(self._fd)
        self._fill()
        self._wake()


def open_source(stdin: Stdin, loop: Loop, wake: Callable[[], None]) -> Source:
    """The source that stands for what a caller handed in."""
    if stdin is None:
        return ChunkSource(())
    if isinstance(stdin, TypedInput):
        return FdSource(loop, stdin.fd, wake, stdin.seen)
    if isinstance(stdin, int):
        return FdSource(loop, stdin, wake)
    if isinstance(stdin, bytes):
        return ChunkSource((stdin,))
    return ChunkSource(stdin)
