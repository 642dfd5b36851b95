"""Carries bytes between a caller's standard streams and a container's pipes, at the pace of the slower side."""

import os
from typing import Final

from mvmnix.launch.agent.endpoints import FdSink, Sink, Stdin, open_source
from mvmnix.launch.loop import Loop

_CHUNK: Final = 65_536
#: Bytes that wait for the caller's side before the container's pipe is read no more.
_WINDOW: Final = 262_144


class Feed:
    """The caller's input, into a pipe. Takes over `fd`, the writing end."""

    def __init__(self, loop: Loop, stdin: Stdin, fd: int) -> None:
        os.set_blocking(fd, False)
        self._loop = loop
        self._fd = fd
        self._source = open_source(stdin, loop, self._pull)
        self._rest = b""
        self._pull()

    def _pull(self) -> None:
        if self._fd < 0:
            return
        data = self._source.pull(_CHUNK)
        if data is None:
            self.close()
        elif data:
            self._rest = data
            self._loop.watch(self._fd, write=self._write)

    def _write(self) -> None:
        try:
            self._rest = self._rest[os.write(self._fd, self._rest) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it reads no more
            self.close()
            return
        if not self._rest:
            self._loop.forget(self._fd)
            self._pull()

    def close(self) -> None:
        """The end of input. A second call does nothing."""
        if self._fd >= 0:
            self._source.close()
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1


class Drain:
    """A container's output, from a pipe to the caller. Takes over `fd`, the reading end."""

    def __init__(self, loop: Loop, fd: int, sink: Sink) -> None:
        os.set_blocking(fd, False)
        self._loop = loop
        self._fd = fd
        self._sink = sink
        self._deaf = False
        if isinstance(sink, FdSink):
            sink.bind(released=self._resume, broken=self._hang_up)
        loop.watch(fd, read=self._read)

    @property
    def done(self) -> bool:
        """Whether all that came is out, and nothing more will come."""
        pending = self._sink.pending if isinstance(self._sink, FdSink) else 0
        return self._fd < 0 and not pending

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        if not self._deaf:
            self._sink(data)
        if self._fd >= 0 and isinstance(self._sink, FdSink) and self._sink.pending > _WINDOW:
            self._loop.forget(self._fd)

    def _resume(self, _count: int) -> None:
        if self._fd >= 0:
            self._loop.watch(self._fd, read=self._read)

    def _hang_up(self) -> None:
        """The caller reads no more, and what comes is thrown away, as a guest's output is."""
        self._deaf = True

    def close(self) -> None:
        """Read no more. A second call does nothing."""
        if self._fd >= 0:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1
