"""Runs one command after another in the builder VM, and keeps what each says, within bounds; starts no machine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from mvmnix.errors import MvmnixError, ReasonCode, refuse
from mvmnix.model import StorePath
from mvmnix.system.process import one_line

#: How much of a program's output is kept to be shown or read, in bytes.
KEPT_OUTPUT: Final = 64 * 1024
_ENVIRONMENT: Final = {
    "HOME": "/build",
    "PATH": "/usr/bin:/usr/sbin",
    "LANG": "C.UTF-8",
    "USER": "mvm",
    "TMPDIR": "/build",
}


class Ended(Protocol):
    """How a command in the guest ended."""

    @property
    def exit_code(self) -> int:
        """As a shell would see it."""


class BuilderMachine(Protocol):
    """What a build needs of a running machine: one call. The port that launch's Machine satisfies."""

    def exec(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        stdout: Callable[[bytes], None],
        stderr: Callable[[bytes], None],
        timeout: float | None,
        directory: str,
    ) -> Ended:
        """Run a command in the guest to its end, at most `timeout` seconds. Raises when the machine ends."""


class Progress(Protocol):
    """Who wants to know how a build goes."""

    def step(self, name: str) -> None:
        """A new step has begun."""

    def log(self, data: bytes) -> None:
        """The builder said something; bytes from the guest, not to be shown unescaped."""


class Tail:
    """Keeps the last bytes of a stream, and hands all of them on."""

    def __init__(self, also: Callable[[bytes], None]) -> None:
        self.data = bytearray()
        self._also = also

    def __call__(self, data: bytes) -> None:
        """Take more bytes."""
        self.data += data
        del self.data[:-KEPT_OUTPUT]
        self._also(data)

    @property
    def text(self) -> str:
        """What was kept, as text."""
        return self.data.decode(errors="replace").strip()


class Head:
    """Keeps a whole output, up to a bound."""

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self._limit = limit

    def __call__(self, data: bytes) -> None:
        """Take more bytes. Raises RefusedError OUTPUT_MALFORMED beyond the bound."""
        self.data += data
        if len(self.data) > self._limit:
            raise refuse(
                ReasonCode.OUTPUT_MALFORMED,
                "builder VM",
                f"it printed more than {self._limit} bytes where a line was expected",
                "look at the build log; the flake's evaluation prints too much",
            )


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command said: its exit status, its whole output up to a bound, and the end of its log."""

    status: int
    output: bytes
    log: str
    argv: Sequence[str]

    def failed_as(self, error: MvmnixError) -> MvmnixError:
        """The error that the command's end becomes, with the command in one line."""
        error.command = f"in the builder VM: {one_line(self.argv)} (status {self.status})"
        return error


def run_command(
    machine: BuilderMachine, argv: Sequence[str], progress: Progress, *, limit: int = KEPT_OUTPUT
) -> CommandResult:
    """Run a command to its end, whatever its status; its stderr goes to the log as it comes."""
    head, log = Head(limit), Tail(progress.log)
    status = stream_command(machine, argv, head, log)
    return CommandResult(status, bytes(head.data), log.text, argv)


def stream_command(
    machine: BuilderMachine, argv: Sequence[str], stdout: Callable[[bytes], None], stderr: Callable[[bytes], None]
) -> int:
    """Run a command to its end; returns its exit status."""
    ended = machine.exec(argv, environment=_ENVIRONMENT, stdout=stdout, stderr=stderr, timeout=None, directory="/build")
    return ended.exit_code


def one_path(said: bytes) -> StorePath:
    """The one store path that a command printed. Raises RefusedError OUTPUT_MALFORMED."""
    try:
        return StorePath.parse(said.decode().strip())
    except ValueError as error:
        hint = "look at the build log; the builder VM is not trusted"
        raise refuse(ReasonCode.OUTPUT_MALFORMED, "builder VM", f"expected one store path: {error}", hint) from error
