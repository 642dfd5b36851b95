"""A process that serves a machine beside its hypervisor: made first, started with it, watched, and gone with it."""

from collections.abc import Callable

from mvmnix.launch.loop import Loop
from mvmnix.launch.vmm.process import HypervisorProcess
from mvmnix.process import ProcessError


class ServiceProcess:
    """What all of them have; who makes one starts its process."""

    def __init__(self) -> None:
        """One that wasn't started yet."""
        self._process: HypervisorProcess | None = None

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
        if (process := self._process) is None:
            return

        def heard() -> None:
            if not process.listen():
                loop.forget(process.words)

        def gone() -> None:
            loop.forget(process.fileno())
            ended()

        loop.watch(process.words, read=heard)
        loop.watch(process.fileno(), read=gone)

    def forget(self, loop: Loop) -> None:
        """Have it no longer watched."""
        if self._process is not None:
            for fd in (self._process.words, self._process.fileno()):
                if fd >= 0:
                    loop.forget(fd)
