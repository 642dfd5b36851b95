"""The only starter of programs in a machine's sandboxes: the hypervisor, its guest's servers, crun, mkfs.erofs.

Each has a session of its own, no core dump and no descriptor but those it is given, and dies with its supervisor.
"""

import ctypes
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError
from mvmnix.formats.escaping import escape_bytes
from mvmnix.sandbox import trusted_executables
from mvmnix.system.child_causes import NO_HINTS, Cause
from mvmnix.system.loop import Loop
from mvmnix.system.process import BoundedOutput, Child, Completed, ProcessError, is_readable, spawn
from mvmnix.system.procfs import children, stat
from mvmnix.vmm.confinement import IsolationLayer, ProcessSandbox
from mvmnix.vmm.port import Invocation, Usage

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
_REAP_SECONDS = 10.0
#: Characters of each line that it said, as it is shown.
_LINE = 500
#: Seconds that the maker of a sandbox may take to end after its program.
_MAKER_SECONDS = 5.0
#: Seconds until the process that makes a sandbox has to have become its program, and between two looks at it.
_ENTRY_SECONDS = 10.0
_LOOK = 0.001
_TRIAL_SECONDS = 60.0
#: Such a program needs nothing of our environment; the locale keeps its messages in one language.
_ENVIRONMENT = {"LC_ALL": "C"}


class JailedProcess:
    """A running program in its sandbox, held by pidfds so that no other process can be mistaken for it.

    There are three processes: our child, which makes the sandbox and waits outside of it; the first process of its PID
    namespace, which waits for the program; and the program. Without a namespace they are one.

    It is killed by the kernel when the *thread* that spawned it ends (prctl(2), PR_SET_PDEATHSIG): spawn it from a
    thread that lives as long as the machine does, which is the main thread.
    """

    def __init__(self, child: Child, first: int, words: int, invocation: Invocation, sandbox: ProcessSandbox) -> None:
        """Made by `spawn` only."""
        self._child = child
        #: The first process of the sandbox: what is in there has ended when it has.
        self._first, self._pidfd = _identified(first, child.pid)
        self._maker = os.pidfd_open(child.pid)
        #: The program's process, once it is found, with a pidfd.
        self._own: tuple[int, int] | None = None
        self.words = words
        #: What it was given in all, once it was reaped; None when another process reaped it.
        self.usage: Usage | None = None
        self._argv = tuple(invocation.argv)
        self._program = invocation.argv[0]
        self._sandbox = sandbox
        #: Its exit status, or the signal that ended it as a negative number; None when our child was not reaped.
        self.status: int | None = None
        self._said = BoundedOutput()

    @classmethod
    def spawn(cls, invocation: Invocation, descriptors: tuple[int, ...], sandbox: ProcessSandbox) -> Self:
        """Start it in its sandbox, which is the process's from then on, with exactly these descriptors.

        Raises ProcessError when it can't be started; the sandbox is released then too.
        """
        words, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(words, False)
        try:
            child = spawn(
                sandbox.command(invocation.argv),
                env=_ENVIRONMENT,
                pass_fds=(*descriptors, *sandbox.descriptors),
                stderr=theirs,
                before_exec=_preparation(os.getpid(), sandbox),
            )
        except BaseException:
            os.close(words)
            sandbox.release()
            raise
        finally:
            os.close(theirs)
        return cls(child, sandbox.first_process(child.pid), words, invocation, sandbox)

    def fileno(self) -> int:
        """Readable once the process has ended, and the first one of its sandbox after it."""
        return self._pidfd

    def listen(self) -> bool:
        """Take in what it said on its standard error; False when there will be no more. `words` became readable."""
        try:
            data = os.read(self.words, 65536)
        except BlockingIOError:
            return True
        self._said.add(data)
        return bool(data)

    def watch(self, loop: Loop, ended: Callable[[], None]) -> None:
        """Have its last words taken in, and `ended` called when it has ended."""

        def heard() -> None:
            if not self.listen():
                loop.forget(self.words)

        def gone() -> None:
            loop.forget(self.fileno())
            ended()

        loop.watch(self.words, read=heard)
        loop.watch(self.fileno(), read=gone)

    def forget(self, loop: Loop) -> None:
        """Have it no longer watched. Does nothing once it was closed."""
        if self.words >= 0:
            loop.forget(self.words)
            loop.forget(self.fileno())

    @property
    def last_words(self) -> tuple[str, ...]:
        """The last lines of its standard error, escaped."""
        return tuple(escape_bytes(line)[:_LINE] for line in self._said.kept.splitlines() if line.strip())[-10:]

    def failure(self, *, hint: str = "", hints: Mapping[Cause, str] = NO_HINTS) -> ProcessError:
        """That it failed, with all that it said: what another error is raised from."""
        status = 1 if self.status is None else self.status
        return ProcessError(Completed(self._argv, status, b"", self._said.kept), hint=hint, hints=hints)

    @property
    def layers(self) -> tuple[IsolationLayer, ...]:
        """What stands around it."""
        return self._sandbox.layers

    @property
    def ended(self) -> bool:
        """Whether the process has ended, without waiting; the first process of its sandbox may be about to."""
        if self._pidfd < 0 or is_readable(self._pidfd, 0):
            return True
        return self._own is not None and is_readable(self._own[1], 0)

    def wait(self) -> None:
        """Wait for a program that ends by itself, a minute at most, and take in all that it says."""
        deadline = time.monotonic() + _TRIAL_SECONDS
        poll = select.poll()
        for fd in (self._pidfd, self.words):
            poll.register(fd, select.POLLIN)
        # a full pipe would have it wait for us
        while (left := deadline - time.monotonic()) > 0:
            ready = {fd for fd, _ in poll.poll(left * 1000)}
            if self.words in ready and not self.listen():
                poll.unregister(self.words)
            if self._pidfd in ready:
                break
        is_readable(self._maker, _MAKER_SECONDS)
        self.listen()

    @property
    def pid(self) -> int:
        """Its process id; until it is there, that of the process which will start it."""
        return self._first if (found := self._found()) is None else found[0]

    def _found(self) -> tuple[int, int] | None:
        """The program's process, with a pidfd; None before it was started. What is found is kept."""
        if self._own is None and self._first == self._child.pid:
            self._own = (self._first, os.dup(self._pidfd))
        for pid in () if self._own is not None else children(self._first):
            with suppress(OSError):
                pidfd = os.pidfd_open(pid)
                found = stat(pid)
                # Only now is it certain that the number has not gone to another process.
                if found is not None and found.parent == self._first and not self.ended:
                    self._own = (pid, pidfd)
                    break
                os.close(pidfd)
        return self._own

    def executable(self) -> Digest | None:
        """The digest of the program that really runs, read through the kernel; None when it has ended already."""
        try:
            return trusted_executables.digest(f"/proc/{self.pid}/exe") if self.entered() else None
        except OSError:
            return None

    def entered(self) -> bool:
        """Wait until the process has become the program: before that it is the one that makes its sandbox.

        False when it has ended, or hasn't become anything in time.
        """
        deadline = time.monotonic() + _ENTRY_SECONDS
        try:
            while (found := self._found()) is None or not Path(f"/proc/{found[0]}/exe").samefile(self._program):
                if self.ended or time.monotonic() > deadline:
                    return False
                time.sleep(_LOOK)
        except OSError:
            return False
        self._stop_maker()
        return True

    def _stop_maker(self) -> None:
        """Have what made the sandbox stand still, so that the first process is left to be reaped by us.

        bubblewrap hears from the first process how the program ended, and leaves at once, without reaping it
        (monitor_child in its source): what the kernel tells of the resources of both would be lost. Standing still, it
        is killed when we end all the same, and the first process with it.
        """
        if self._first != self._child.pid:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._maker, signal.SIGSTOP)

    def cpu_seconds(self) -> float:
        """User and system time it was given so far; 0.0 when it has ended."""
        found = None if self.ended else stat(self.pid)  # its number may be another process's by then
        return 0.0 if found is None else found.cpu_ms / 1000

    def kill_soon(self) -> None:
        """End it, without waiting for that."""
        if self._pidfd >= 0:
            found = self._found()
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd if found is None else found[1], signal.SIGKILL)

    def kill(self) -> None:
        """End it now, and wait until the kernel has freed what it held. Does nothing when it has ended.

        The program first: the first process of its sandbox then reaps it, ends, and is reaped by us with what both
        were given. One that does not end by itself is ended; a first process takes all others along.
        """
        if self._pidfd < 0:
            return
        self.kill_soon()
        if not is_readable(self._pidfd, _REAP_SECONDS):
            self._end(self._pidfd, _REAP_SECONDS)
        with _adopting():
            self._end(self._maker, _REAP_SECONDS)

    def _end(self, pidfd: int, seconds: float) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if not is_readable(pidfd, seconds):
            raise MvmnixError(
                f"the hypervisor (process {self.pid}) does not end after SIGKILL",
                hint=f"see what it waits for: cat /proc/{self.pid}/stack",
            )

    def close(self) -> None:
        """End and reap it, and let go of its descriptors and of its sandbox. A second call does nothing."""
        if self._pidfd < 0:
            return
        self.kill()
        self._count()
        self._child.poll()
        while self.words >= 0 and self.listen():
            pass
        for fd in (self.words, self._pidfd, self._maker, *(() if self._own is None else self._own[1:])):
            os.close(fd)
        self._pidfd = self.words = self._maker = -1
        self._sandbox.release()

    def _count(self) -> None:
        """Take its resources from the kernel, which tells them once: to the process that reaps it (wait4(2)).

        They are those of what we reap and of what that waited for, which is the program.
        """
        for pid in dict.fromkeys((self._child.pid, self._first)):
            with suppress(ChildProcessError):
                reaped, status, used = os.wait4(pid, os.WNOHANG)
                if reaped != pid:
                    continue
                self.status = os.waitstatus_to_exitcode(status)
                if pid == self._first:
                    self.usage = Usage(int(used.ru_utime * 1000), int(used.ru_stime * 1000), used.ru_maxrss)


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


@contextmanager
def _adopting() -> Iterator[None]:
    """Meanwhile processes whose parents end become our children (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    prctl, before = ctypes.CDLL(None).prctl, ctypes.c_int()
    prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


def _preparation(parent: int, sandbox: ProcessSandbox) -> Callable[[], None]:
    """What the child does between fork and exec; everything it needs is looked up before the fork."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def prepare() -> None:
        # Nothing may be left of a secret in a core file, and a program that asserts would write one.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sandbox.enter()  # before prctl: a change of uid takes PR_SET_PDEATHSIG back (prctl(2))
        if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            os._exit(126)
        # The parent may have died before prctl: then no signal will come.
        if os.getppid() != parent:
            os._exit(126)

    return prepare


class ServiceProcess:
    """A server of one guest: virtiofsd, the gateway, the dialer; what makes one starts its process."""

    def __init__(self) -> None:
        """One that wasn't started yet."""
        self._process: JailedProcess | None = None

    @property
    def pid(self) -> int | None:
        """Its process id, while it runs."""
        return None if self._process is None or self._process.ended else self._process.pid

    @property
    def last_words(self) -> tuple[str, ...]:
        """The last lines that it complained with, escaped."""
        return () if self._process is None else self._process.last_words

    def failure(self) -> ProcessError | None:
        """That it failed, where it complained."""
        return None if self._process is None or not self._process.last_words else self._process.failure()

    def kill_soon(self) -> None:
        """End it, without waiting for that."""
        if self._process is not None:
            self._process.kill_soon()

    def watch(self, loop: Loop, ended: Callable[[], None]) -> None:
        """Have `ended` called when it ends by itself, and its last words taken in."""
        if self._process is not None:
            self._process.watch(loop, ended)

    def forget(self, loop: Loop) -> None:
        """Have it no longer watched."""
        if self._process is not None:
            self._process.forget(loop)
