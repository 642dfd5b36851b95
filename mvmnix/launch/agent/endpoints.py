"""Where a command's output goes and its input comes from: callables, byte strings and pipes, none of which blocks.

A pipe's file status flags belong to all who have it open, so O_NONBLOCK is never set on one that a caller handed over:
bytes go through a pipe of this process's own, from which and to which the kernel moves them by splice(2), where
SPLICE_F_NONBLOCK holds for the call alone.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from mvmnix.machines.output_log import Keep
from mvmnix.system.loop import Loop

#: Bytes that are moved at once: what a new pipe holds (pipe(7)).
_PORTION: Final = 65536


class TransferPipe:
    """A pipe of this process's own, by which bytes go to another pipe or come from one, as far as that is ready.

    It is made when it is first used, and again after `close`.
    """

    def __init__(self) -> None:
        self._reading = self._writing = -1
        #: Bytes in it.
        self.held = 0

    def put(self, data: memoryview) -> int:
        """Put bytes in, at most `_PORTION` and only while it is empty; return how many. Raises OSError."""
        self._open()
        self.held = os.write(self._writing, data[:_PORTION])
        return self.held

    def move_to(self, fd: int) -> int:
        """Move what is in it to a pipe; return how many bytes. Raises BlockingIOError, BrokenPipeError, OSError."""
        moved = os.splice(self._reading, fd, self.held, flags=os.SPLICE_F_NONBLOCK)
        self.held -= moved
        return moved

    def take_from(self, fd: int, most: int) -> bytes:
        """Take at most `most` bytes from a pipe, b"" at its end. Raises BlockingIOError, OSError."""
        self._open()
        moved = os.splice(fd, self._writing, min(most, _PORTION), flags=os.SPLICE_F_NONBLOCK)
        return os.read(self._reading, moved) if moved else b""

    def _open(self) -> None:
        if self._reading < 0:
            self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self) -> None:
        """Close both ends, discarding what is in it. A second call does nothing."""
        self.held = 0
        if self._reading >= 0:
            os.close(self._reading)
            os.close(self._writing)
            self._reading = self._writing = -1


class PipeSink:
    """Writes a command's output to a pipe as fast as that takes it; holds at most a window."""

    def __init__(self, loop: Loop, fd: int) -> None:
        """The descriptor stays the caller's."""
        self._loop = loop
        self._fd = fd
        self._buffer = bytearray()
        self._transfer = TransferPipe()
        self._released: Callable[[int], None] = lambda _count: None
        self._broken: Callable[[], None] | None = None
        self._keep: Keep | None = None

    @property
    def pending(self) -> int:
        """Bytes that the pipe has not taken yet."""
        return len(self._buffer) + self._transfer.held

    def bind(self, *, released: Callable[[int], None], broken: Callable[[], None]) -> None:
        """Set what is called with a number of bytes that have left, and when the reader went away."""
        self._released = released
        self._broken = broken

    def keep_by(self, keep: Keep) -> None:
        """Give this all that comes, too; also what comes when the reader has left."""
        self._keep = keep

    def __call__(self, data: bytes) -> None:
        """Take bytes; `released` is called as they go."""
        if self._keep is not None:
            self._keep(data)
        if self._broken is None:
            self._released(len(data))
            return
        was_idle = not self.pending
        self._buffer += data
        if was_idle:
            self._write()

    def drop(self) -> None:
        """Discard what is pending, and forget the pipe."""
        self._buffer.clear()
        self._transfer.close()
        if self._fd >= 0:
            self._loop.forget(self._fd)
        self._fd = -1

    def leave(self) -> None:
        """Discard what is pending and what is still to come, as if the reader had left."""
        if self._broken is not None:
            self._give_up()

    def _write(self) -> None:
        gone = 0
        try:
            while self.pending:
                if not self._transfer.held:
                    with memoryview(self._buffer) as view:
                        count = self._transfer.put(view)
                    del self._buffer[:count]
                gone += self._transfer.move_to(self._fd)
            self._transfer.close()
            self._loop.forget(self._fd)
        except BlockingIOError:
            self._loop.watch(self._fd, write=self._write)
        except OSError:  # its reader is gone
            self._give_up()
        if gone:
            self._released(gone)

    def _give_up(self) -> None:
        broken, lost = self._broken, self.pending
        self._broken = None
        self.drop()
        self._released(lost)
        if broken is not None:
            broken()


type Sink = Callable[[bytes], None] | PipeSink


def discard_output(_data: bytes) -> None:
    """Take output that goes nowhere."""


def kept_sink(sink: Sink, keep: Keep) -> Sink:
    """The same sink, and `keep` is given all that comes, first."""
    if isinstance(sink, PipeSink):
        sink.keep_by(keep)
        return sink

    def both(data: bytes) -> None:
        keep(data)
        sink(data)

    return both


#: Bytes, or the descriptor of a pipe.
type Stdin = bytes | Iterable[bytes] | int | None


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


class PipeSource:
    """Bytes from a pipe; read only when asked for, and only when it has some."""

    def __init__(self, loop: Loop, fd: int, wake: Callable[[], None]) -> None:
        """The descriptor stays the caller's; `wake` is called when there is something to pull."""
        self._loop = loop
        self._fd = fd
        self._wake = wake
        self._transfer = TransferPipe()
        self._is_open = True

    def pull(self, limit: int) -> bytes | None:
        """Return what is there, or none, and then `wake` is called as soon as there is something; None at the end."""
        if not self._is_open:
            return None
        try:
            data = self._transfer.take_from(self._fd, limit)
        except BlockingIOError:
            self._loop.watch(self._fd, read=self._readable)
            return b""
        except OSError:
            data = b""
        if not data:
            self.close()
            return None
        return data

    def close(self) -> None:
        """Forget the pipe, which stays open. A second call does nothing."""
        if self._is_open:
            self._is_open = False
            self._transfer.close()
            self._loop.forget(self._fd)

    def _readable(self) -> None:
        self._loop.forget(self._fd)
        self._wake()


def open_source(stdin: Stdin, loop: Loop, wake: Callable[[], None]) -> Source:
    """The source that stands for what a caller handed in."""
    if stdin is None:
        return ChunkSource(())
    if isinstance(stdin, int):
        return PipeSource(loop, stdin, wake)
    if isinstance(stdin, bytes):
        return ChunkSource((stdin,))
    return ChunkSource(stdin)
