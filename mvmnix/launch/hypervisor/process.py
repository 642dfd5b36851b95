"""The only starter of hypervisors: a session of its own, no core dump, swept descriptors, death with its supervisor."""

import ctypes
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, Self

from mvmnix.errors import MvmnixError
from mvmnix.launch.channel.wire import printable
from mvmnix.launch.hypervisor.confinement import Cell, Layer
from mvmnix.launch.hypervisor.port import Invocation, Usage
from mvmnix.launch.proc import stat
from mvmnix.model import Digest
from mvmnix.process import spawn
from mvmnix.sandbox import trusted_executables

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_TAIL = 4096
_REAP_SECONDS = 10.0
#: Seconds that the maker of a cell may take to end after its hypervisor.
_JAILER_SECONDS = 5.0
#: Seconds until the process that makes a cell has to have become the hypervisor, and between two looks at it.
_ENTRY_SECONDS = 10.0
_LOOK = 0.001
_TRIAL_SECONDS = 60.0
#: A hypervisor needs nothing of our environment; the locale keeps its messages in one language.
_ENVIRONMENT = {"LC_ALL": "C"}


class HypervisorProcess:
    """A running hypervisor in its cell, held by a pidfd so that no other process can be mistaken for it.

    It is killed by the kernel when the *thread* that spawned it ends (prctl(2), PR_SET_PDEATHSIG): spawn it from a
    thread that lives as long as the machine does, which is the main thread.
    """

    def __init__(self, child: "_Child", pid: int, words: int, invocation: Invocation, cell: Cell) -> None:
        """Made by `spawn` only."""
        self._child = child
        #: Its own; that of our child, which made its cell, is another one.
        self.pid, self._pidfd = _identified(pid, child.pid)
        self._jailer = os.pidfd_open(child.pid)
        self.words = words
        #: What it was given in all, once it was reaped; None when somebody else reaped it.
        self.usage: Usage | None = None
        self._program = invocation.argv[0]
        self._cell = cell
        #: Its exit status, or the signal that ended it as a negative number; None like `usage`.
        self.status: int | None = None
        self._tail = b""

    @classmethod
    def spawn(cls, invocation: Invocation, descriptors: tuple[int, ...], cell: Cell) -> Self:
        """Start it in its cell, which is the process's from then on, with exactly these descriptors.

        Raises ProcessError when it can't be started; the cell is released then too.
        """
        words, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(words, False)
        try:
            child = spawn(
                cell.command(invocation.argv),
                env=_ENVIRONMENT,
                pass_fds=(*descriptors, *cell.descriptors),
                stderr=theirs,
                before_exec=_preparation(os.getpid(), cell),
            )
        except BaseException:
            os.close(words)
            cell.release()
            raise
        finally:
            os.close(theirs)
        return cls(child, cell.occupied(child.pid), words, invocation, cell)

    def fileno(self) -> int:
        """Readable once the process has ended."""
        return self._pidfd

    def listen(self) -> bool:
        """Take in what it said on its standard error; False when there will be no more. `words` became readable."""
        try:
            data = os.read(self.words, 65536)
        except BlockingIOError:
            return True
        self._tail = (self._tail + data)[-_TAIL:]
        return bool(data)

    @property
    def last_words(self) -> tuple[str, ...]:
        """The last lines of its standard error, escaped."""
        return tuple(printable(line) for line in self._tail.splitlines() if line.strip())[-10:]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What stands around it."""
        return self._cell.layers

    @property
    def ended(self) -> bool:
        """Whether the process has ended, without waiting."""
        return self._pidfd < 0 or _readable(self._pidfd, 0)

    def wait(self) -> None:
        """Wait for a program that ends by itself, a minute at most, and take in all that it says."""
        _readable(self._pidfd, _TRIAL_SECONDS)
        _readable(self._jailer, _JAILER_SECONDS)
        self.listen()

    def executable(self) -> Digest | None:
        """The digest of the program that really runs, read through the kernel; None when it has ended already."""
        try:
            return trusted_executables.digest(self._running) if self.entered() else None
        except OSError:
            return None

    def entered(self) -> bool:
        """Wait until the process has become the hypervisor: before that it is the program that makes its cell.

        False when it has ended, or hasn't become anything in time.
        """
        deadline = time.monotonic() + _ENTRY_SECONDS
        try:
            while not Path(self._running).samefile(self._program):
                if self.ended or time.monotonic() > deadline:
                    return False
                time.sleep(_LOOK)
        except OSError:
            return False
        return True

    @property
    def _running(self) -> str:
        return f"/proc/{self.pid}/exe"

    def cpu_seconds(self) -> float:
        """User and system time it was given so far; 0.0 when it has ended."""
        found = stat(self.pid)
        return 0.0 if found is None else found.cpu_ms / 1000

    def strike(self) -> None:
        """End it, without waiting for that."""
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def kill(self) -> None:
        """End it now, and wait until the kernel has freed what it held. Does nothing when it has ended.

        The hypervisor first: whoever made its cell then reaps it, and so passes on what it was given, and ends.
        """
        if self._pidfd < 0:
            return
        self._end(self._pidfd, _REAP_SECONDS)
        if not _readable(self._jailer, _JAILER_SECONDS):
            self._end(self._jailer, _REAP_SECONDS)

    def _end(self, pidfd: int, seconds: float) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if not _readable(pidfd, seconds):
            raise MvmnixError(
                f"the hypervisor (process {self.pid}) does not end after SIGKILL",
                hint=f"see what it waits for: cat /proc/{self.pid}/stack",
            )

    def close(self) -> None:
        """End and reap it, and let go of its descriptors and of its cell. A second call does nothing."""
        if self._pidfd < 0:
            return
        self.kill()
        self._count()
        self._child.poll()
        while self.words >= 0 and self.listen():
            pass
        for fd in (self.words, self._pidfd, self._jailer):
            os.close(fd)
        self._pidfd = self.words = self._jailer = -1
        self._cell.release()

    def _count(self) -> None:
        """Take its resources from the kernel, which tells them once: to whoever reaps it (wait4(2)).

        They are those of our child and of what that waited for, which is the hypervisor.
        """
        with suppress(ChildProcessError):
            pid, status, used = os.wait4(self._child.pid, os.WNOHANG)
            if pid == self._child.pid:
                self.status = os.waitstatus_to_exitcode(status)
                self.usage = Usage(int(used.ru_utime * 1000), int(used.ru_stime * 1000), used.ru_maxrss)


class _Child(Protocol):
    """What `process.spawn` returns, as far as it is used here."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...


def _identified(pid: int, child: int) -> tuple[int, int]:
    """The process and a descriptor for it; those of our child where the process has ended already.

    The number could have gone to another process by then: its parent tells them apart.
    """
    with suppress(OSError, ValueError):
        pidfd = os.pidfd_open(pid)
        found = stat(pid)
        if found is not None and child in {pid, found.parent}:
            return pid, pidfd
        os.close(pidfd)
    return child, os.pidfd_open(child)


def _readable(fd: int, seconds: float) -> bool:
    """Whether it becomes readable in time; poll(2), for select(2) knows no descriptor above 1,023."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _preparation(parent: int, cell: Cell) -> Callable[[], None]:
    """What the child does between fork and exec; everything it needs is looked up before the fork."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def prepare() -> None:
        # Nothing may be left of a secret in a core file, and a hypervisor that asserts would write one.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        cell.enter()  # before prctl: a change of uid takes PR_SET_PDEATHSIG back (prctl(2))
        if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            os._exit(126)
        # The parent may have died before prctl: then nobody will signal us.
        if os.getppid() != parent:
            os._exit(126)

    return prepare
