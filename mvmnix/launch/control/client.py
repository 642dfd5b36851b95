"""The caller's end of a machine's control socket: asks its supervisor for something, and waits for the answer."""

import socket
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from mvmnix.errors import MvmnixError, UsageError
from mvmnix.launch.control import messages
from mvmnix.launch.control.messages import (
    LIMIT,
    Answer,
    Asked,
    Done,
    Exited,
    PacketError,
    Pause,
    Resize,
    Resume,
    Signal,
    Start,
    encode,
    parse_answer,
)
from mvmnix.launch.control.start_notification import Failure
from mvmnix.machines import control_socket, registry
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.system.private_dirs import Directory

_LOST: Final = "mvm ps --all says what became of the machine"


class Call:
    """A command in a running machine, asked for by another process than its supervisor; a context manager.

    Leaving it before its end has the command killed.
    """

    def __init__(self, connection: socket.socket) -> None:
        """Made by `call` only."""
        self._connection = connection

    def signal(self, number: int) -> None:
        """Send the command a Linux signal; without effect when it has ended."""
        with suppress(OSError):
            messages.send(self._connection, encode(Signal(number)))

    def resize(self, rows: int, columns: int) -> None:
        """Tell a command in a terminal the terminal's size; without effect when it has ended."""
        with suppress(OSError):
            messages.send(self._connection, encode(Resize(rows, columns)))

    def fileno(self) -> int:
        """The descriptor that can be read once `wait` would return."""
        return self._connection.fileno()

    def hang_up(self) -> None:
        """Have the command ended; `wait` returns with an error. Another thread may call this."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def wait(self) -> ExitStatus:
        """How the command ended. Raises what the supervisor answered, MvmnixError when it answered nothing."""
        match _read_answer(self._connection):
            case Exited(status):
                return status
            case Done():
                raise MvmnixError("the machine's supervisor answered another question", hint=_LOST)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()


def call(machines: Directory, text: str, asked: Start, descriptors: tuple[int, ...]) -> Call:
    """Ask the machine with this name or id to run a command, with a descriptor for each of its streams.

    The descriptors stay the caller's. Raises UsageError when there is no such machine, or it doesn't run.
    """
    return Call(_asked(machines, text, asked, descriptors))


def change(machines: Directory, text: str, asked: Pause | Resume) -> None:
    """Have the machine with this name or id stand still, or go on; returns once it does.

    Raises UsageError when it does already, or there is no such machine, or it doesn't run; MvmnixError.
    """
    with _asked(machines, text, asked, ()) as connection:
        _read_answer(connection)


def _received(connection: socket.socket) -> tuple[bytes, tuple[int, ...]]:
    try:
        return messages.receive(connection)
    except ConnectionResetError:  # it hung up without having read all that we said, but may have answered before
        return messages.receive(connection)


def _read_answer(connection: socket.socket) -> Exited | Done:
    """The answer. Raises what the supervisor answered, MvmnixError when it answered nothing."""
    try:
        data, descriptors = _received(connection)
    except (OSError, PacketError) as error:
        raise MvmnixError(f"cannot read from the machine's supervisor: {error}", hint=_LOST) from error
    messages.close(descriptors)
    if not data:
        raise MvmnixError("the machine's supervisor ended without an answer", hint=_LOST)
    answer: Answer = parse_answer(data)
    if isinstance(answer, Failure):
        raise answer.to_error()
    return answer


def _asked(machines: Directory, text: str, asked: Asked, descriptors: tuple[int, ...]) -> socket.socket:
    """A connection to a machine's supervisor, over which this was asked."""
    entry = registry.find_machine(machines, text)
    if entry.supervisor is None:
        raise UsageError(f"the machine {text!r} isn't running", hint="mvm ps lists the running ones")
    try:
        data = encode(asked)
    except ValueError as error:
        raise UsageError(f"this can't be run: {error}", hint=f"{LIMIT} bytes are the limit") from error
    with machines.existing(entry.status.machine) as directory:
        connection = control_socket.connect(directory, entry.supervisor)
    try:
        messages.send(connection, data, descriptors)
    except OSError as error:
        connection.close()
        raise MvmnixError(f"cannot write to the machine's supervisor: {error.strerror}", hint=_LOST) from error
    return connection
