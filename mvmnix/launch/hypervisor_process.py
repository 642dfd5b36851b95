"""The only starter of hypervisors: a session of its own, no core dump, swept descriptors, death with its supervisor."""

import ctypes
import os
import resource
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from mvmnix.errors import MvmnixError
from mvmnix.launch import executables
from mvmnix.launch.hypervisor import Invocation
from mvmnix.launch.wire import printable
from mvmnix.model import Digest
from mvmnix.process import spawn

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_TAIL = 4096
_REAP_SECONDS = 10.0
#: A hypervisor needs nothing of our environment; the locale keeps its messages in one language.
_ENVIRONMENT = {"LC_ALL": "C"}


class HypervisorProcess:
    """A running hypervisor, held by a pidfd so that no other process can be mistaken for it; a child of this process.

    It is killed by the kernel when the *thread* that spawned it ends (prctl(2), PR_SET_PDEATHSIG): spawn it from a
    thread that lives as long as the machine does, which is the main thread.
    """

    def __init__(self, pid: int, pidfd: int, words: int, reap: Callable[[], int | None]) -> None:
        """Made by `spawn` only."""
        self.pid = pid
        self._pidfd = pidfd
        self.words = words
        self._reap = reap
        self._tail = b""

    @classmethod
    def spawn(cls, invocation: Invocation, descriptors: tuple[int, ...]) -> Self:
        """Start it with exactly these descriptors. Raises ProcessError when it can't be started."""
        words, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(words, False)
        try:
            child = spawn(
                invocation.argv,
                env=_ENVIRONMENT,
                pass_fds=descriptors,
                stderr=theirs,
                before_exec=_preparation(os.getpid()),
            )
        except BaseException:
            os.close(words)
            raise
        finally:
            os.close(theirs)
        return cls(child.pid, os.pidfd_open(child.pid), words, child.poll)

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
    def ended(self) -> bool:
        """Whether the process has ended, without waiting."""
        return self._pidfd < 0 or _readable(self._pidfd, 0)

    def executable(self) -> Digest | None:
        """The digest of the program that really runs, read through the kernel; None when it has ended already."""
        try:
            return executables.digest(f"/proc/{self.pid}/exe")
        except OSError:
            return None

    def cpu_seconds(self) -> float:
        """User and system time it was given so far; 0.0 when it has ended (proc_pid_stat(5), fields 14 and 15)."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """End it now, and wait until the kernel has freed what it held. Does nothing when it has ended."""
        if self._pidfd < 0:
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        if not _readable(self._pidfd, _REAP_SECONDS):
            raise MvmnixError(
                f"the hypervisor (process {self.pid}) does not end after SIGKILL",
                hint=f"see what it waits for: cat /proc/{self.pid}/stack",
            )

    def close(self) -> None:
        """End and reap it, and let go of its descriptors. A second call does nothing."""
        if self._pidfd < 0:
            return
        self.kill()
        self._reap()
        while self.words >= 0 and self.listen():
            pass
        os.close(self.words)
        os.close(self._pidfd)
        self._pidfd = self.words = -1


def _readable(fd: int, seconds: float) -> bool:
    """Whether it becomes readable in time; poll(2), for select(2) knows no descriptor above 1,023."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _preparation(parent: int) -> Callable[[], None]:
    """What the child does between fork and exec; everything it needs is looked up before the fork."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def prepare() -> None:
        # Nothing may be left of a secret in a core file, and a hypervisor that asserts would write one.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            os._exit(126)
        # The parent may have died before prctl: then nobody will signal us.
        if os.getppid() != parent:
            os._exit(126)

    return prepare
