"""What the application asks of the frontend above it: to show a line, and to ask the user for a secret."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

if TYPE_CHECKING:
    from mvmnix.system.loop import Loop


class Frontend(Protocol):
    """Callbacks of what uses the application. All are called in the thread that works with the context."""

    def notice(self, text: str) -> None:
        """Show the user one line of prose; it may hold strings from a guest or a server, unescaped."""

    def can_ask(self) -> bool:
        """Whether a person is there who can be asked, at this moment."""

    def ask(self, what: str) -> str:
        """The secret that the user enters when asked for `what`. Called only where `can_ask` was true."""

    def interruptible(self, loop: "Loop") -> AbstractContextManager[None]:
        """While the context lasts, have what interrupts the operation be raised where the loop waits."""


class Silent:
    """A frontend without a user."""

    def notice(self, text: str) -> None:
        """Show nothing."""

    def can_ask(self) -> bool:
        """Say that there is no person to ask."""
        return False

    def ask(self, what: str) -> str:
        """Not called: `can_ask` is false. Raises RuntimeError."""
        raise RuntimeError(f"no person to ask for {what}")

    def interruptible(self, loop: "Loop") -> AbstractContextManager[None]:  # noqa: ARG002 - of the protocol
        """Change nothing: signals are the program's own matter."""
        return nullcontext()


#: The frontend of a context that is given none: notices are dropped, and no secret is asked for.
SILENT: Final = Silent()


#: Bytes of a builder's output that are kept.
MOST_LOGGED: Final = 64 * 1024 * 1024


class Progress(Protocol):
    """Callbacks of a build. Names, addresses and logged bytes come from builders and servers: escape them."""

    def step(self, name: str) -> None:
        """A step has begun; the one before is done."""

    def log(self, data: bytes) -> None:
        """A builder has written `data` to its log."""

    def total(self, files: int) -> None:
        """The step will fetch this number of files."""

    def advance(self, name: str, size: int) -> None:
        """A file of `size` bytes has arrived."""

    def received(self, url: str, size: int, total: int | None) -> None:
        """`size` bytes of a large file have arrived, of `total` where that is known."""

    def notice(self, text: str) -> None:
        """Something the user should read, though the operation goes on."""


class SilentProgress:
    """Progress that is not shown."""

    def step(self, name: str) -> None:
        """Show nothing."""

    def log(self, data: bytes) -> None:
        """Show nothing."""

    def total(self, files: int) -> None:
        """Show nothing."""

    def advance(self, name: str, size: int) -> None:
        """Show nothing."""

    def received(self, url: str, size: int, total: int | None) -> None:
        """Show nothing."""

    def notice(self, text: str) -> None:
        """Show nothing."""


#: The progress of a build that is given none: nothing is shown.
SILENT_PROGRESS: Final = SilentProgress()


class LoggedProgress:
    """Hands everything on to another progress, and writes what builders say to a file of bounded size."""

    def __init__(self, shown: Progress, log: BinaryIO) -> None:
        self.step = shown.step
        self.total, self.advance, self.received = shown.total, shown.advance, shown.received
        self.notice = shown.notice
        self._shown = shown
        self._log = log
        self._logged = 0

    def log(self, data: bytes) -> None:
        """Write it to the log, which ends at MOST_LOGGED bytes: a build that floods it fills no disk."""
        self._shown.log(data)
        room = MOST_LOGGED - self._logged
        if room <= 0:
            return
        self._logged += len(data)
        self._log.write(data[:room])
        if self._logged >= MOST_LOGGED:
            self._log.write(f"\nmvm: the log ends here, after {MOST_LOGGED} bytes\n".encode())
        self._log.flush()
