"""Writes to, reads from and ends one sandboxed child; starts none.

The child says on standard error that it is set up, and waits on standard input for a line before it becomes the program
(`GATE`). All that ends it when its parent ends is in place by then. So a parent that is killed before it answers leaves
a child that finds its input at the end, and one that is killed later a child that the kernel kills.
"""

import fcntl
import os
import select
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Self

from mvmnix.errors import MvmnixError
from mvmnix.system.control_groups import Group
from mvmnix.system.process import BoundedOutput, Child, is_readable
from mvmnix.system.procfs import children

#: A script for sh(1): say that all is set up, wait for a line, become the program that the arguments name.
GATE: Final = r"""printf '\0' >&2; read -r go || exit 125; exec "$@" """
_SET_UP, _GO = b"\0", b"go\n"
_CHUNK: Final = 1 << 16
#: Bytes that standard output holds before its reader comes.
_PIPE: Final = 1 << 20
#: Bytes of standard error that a program may write.
_STDERR: Final = 16 << 20
#: Seconds that the kernel may take to end what was killed.
_REAP: Final = 10.0


class Stop(Enum):
    """Why a child was killed: its time was over, it took or wrote too much, its caller gave up."""

    TIME = auto()
    MEMORY = auto()
    OUTPUT = auto()
    CANCELLED = auto()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: its exit status, what it wrote, why it was killed if it was.

    `clean` says that its sandbox was made, and that the kernel reported the end of all of its processes.
    """

    status: int
    stdout: bytes
    stderr: bytes
    stop: Stop | None
    clean: bool


class Pipe:
    """Both ends of a pipe; closing one a second time does nothing."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_CLOEXEC)
        self._open = {self.reading, self.writing}

    def close(self, *ends: int) -> None:
        """Close these ends, all of them where none is named."""
        for fd in set(ends or self._open) & self._open:
            self._open.remove(fd)
            os.close(fd)


class Pipes:
    """A child's pipes; a context manager.

    With `talks`, the caller writes to standard input and reads standard output itself, by descriptors of its own, once
    `let_in` is set; otherwise `ChildSupervisor` does.
    """

    def __init__(self, *, talks: bool = False) -> None:
        self.stdin, self.stdout, self.stderr = Pipe(), Pipe(), Pipe()
        self.talks = talks
        with suppress(OSError):  # a plain user's are limited in all (pipe(7)); a small one is slower
            fcntl.fcntl(self.stdout.writing, fcntl.F_SETPIPE_SZ, _PIPE)
        self.let_in = threading.Event()

    def started(self) -> None:
        """Close the ends that the child has got."""
        self.stdin.close(self.stdin.reading)
        for pipe in (self.stdout, self.stderr):
            pipe.close(pipe.writing)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self.stdin, self.stdout, self.stderr):
            pipe.close()


class ChildSupervisor:
    """One child, from its start to its end."""

    def __init__(
        self,
        child: Child,
        pipes: Pipes,
        cancelled: Sequence[int],
        *,
        input_: bytes,
        limit: int,
        group: Group | None,
    ) -> None:
        """One of `cancelled` is hung up to give up; `limit` is the most bytes that it may write to standard output.

        It becomes the program in the control group, if there is one.
        """
        self._child, self._pipes, self._cancelled, self._limit = child, pipes, cancelled, limit
        self._group = group
        self._input = memoryview(_GO + input_)
        self._stdout, self._stderr = bytearray(), BoundedOutput()
        self._outer = os.pidfd_open(child.pid)
        self._inner: list[int] | None = None  # what it started itself; the first of these has all others beneath it
        #: What it writes, by our end: where that goes.
        self._heard = {pipe.reading: pipe for pipe in (pipes.stderr, *(() if pipes.talks else (pipes.stdout,)))}
        self._poll = select.poll()
        for fd in (*self._heard, *cancelled, self._outer):
            self._poll.register(fd, select.POLLIN)

    def supervise(self, seconds: float) -> Ended:
        """Let it run to its end, or kill all of its processes after `seconds`. Raises MvmnixError when they stay."""
        stop: Stop | None = Stop.CANCELLED
        try:
            self._warm_up()
            stop = self._listen(time.monotonic() + seconds)
        finally:
            status, clean = self._end()
        if stop is None and self._wrote_too_much():
            stop = Stop.OUTPUT
        if stop is None and status != 0 and self._group is not None and self._group.ran_out_of_memory():
            stop = Stop.MEMORY
        return Ended(status, bytes(self._stdout), self._stderr.kept, stop, clean)

    def _warm_up(self) -> None:
        """Put the child in its group while it sets up: `_let_in` puts in what has begun by then.

        The first move in a while waits for a grace period of RCU, some milliseconds, and a second one after it doesn't
        (kernel: cgroup_threadgroup_rwsem).
        """
        if self._group is not None:
            with suppress(ProcessLookupError):  # it has ended already, and says why
                self._group.add(self._child.pid)

    def _listen(self, deadline: float) -> Stop | None:
        while (left := deadline - time.monotonic()) > 0:
            ready = [fd for fd, _ in self._poll.poll(left * 1000)]
            if any(fd in ready for fd in self._cancelled):
                return Stop.CANCELLED
            if self._outer in ready:
                return None
            for fd in ready:
                if fd in self._heard:
                    self._read(fd)
                else:
                    self._feed()
            if self._wrote_too_much():
                return Stop.OUTPUT
        return Stop.TIME

    def _wrote_too_much(self) -> bool:
        return len(self._stdout) > self._limit or self._stderr.size > _STDERR

    def _feed(self) -> None:
        stdin = self._pipes.stdin
        with suppress(BrokenPipeError):
            self._input = self._input[os.write(stdin.writing, self._input[:_CHUNK]) :]
            if self._input:
                return
        self._poll.unregister(stdin.writing)
        stdin.close(stdin.writing)

    def _read(self, fd: int) -> None:
        data = os.read(fd, _CHUNK)
        if not data:
            self._poll.unregister(fd)
            self._heard.pop(fd).close(fd)
        elif fd != self._pipes.stderr.reading:
            self._stdout += data
        else:
            if self._inner is None and _SET_UP in data:
                data = data.replace(_SET_UP, b"", 1)
                self._let_in()
            self._stderr.add(data)

    def _let_in(self) -> None:
        """It waits for its line, so it and all processes above it run, and their numbers are their own."""
        self._inner = [os.pidfd_open(pid) for pid in children(self._child.pid)]
        if self._group is not None:
            for pid in _lowest(self._child.pid):
                self._group.add(pid)
        stdin = self._pipes.stdin
        if self._pipes.talks:
            with suppress(BrokenPipeError):
                os.write(stdin.writing, _GO)
            stdin.close(stdin.writing)
        else:
            os.set_blocking(stdin.writing, False)
            self._poll.register(stdin.writing, select.POLLOUT)
        self._pipes.let_in.set()

    def _end(self) -> tuple[int, bool]:
        """Kill what is left, wait for that, and read the rest; the status, and whether the end of all was reported."""
        held = [self._outer, *(self._inner or ())]
        for pidfd in held:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        ended = [is_readable(pidfd, _REAP) for pidfd in held]
        for pidfd in held:
            os.close(pidfd)
        if not all(ended):
            raise MvmnixError("a sandboxed program does not end after SIGKILL", hint="look at it: ps -ef")
        status = self._child.wait()
        for fd in tuple(self._heard):
            self._read_rest(fd)
        return status, self._inner is not None

    def _read_rest(self, fd: int) -> None:
        """What is still in the pipe of a child that has ended."""
        os.set_blocking(fd, False)
        with suppress(BlockingIOError):
            while fd in self._heard and not self._wrote_too_much():
                self._read(fd)


def _lowest(process: int) -> Iterator[int]:
    """The processes beneath this one that have none beneath them, or itself."""
    below = tuple(children(process))
    if not below:
        yield process
    for child in below:
        yield from _lowest(child)
