"""Calls running machines by their control sockets: commands with the caller's own pipes, snapshots, pauses, ends."""

from types import TracebackType
from typing import Final, Self

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.formats.escaping import shell_command
from mvmnix.launch.control import calls
from mvmnix.launch.control.codec import LIMIT
from mvmnix.launch.control.connection import Connection
from mvmnix.launch.control.drivers import run
from mvmnix.launch.control.messages import GuestCall, Request, Resize, Signal, SnapshotKept
from mvmnix.machines import control_socket, registry
from mvmnix.machines.ending import EndReason
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.system.private_dirs import Directory

#: Seconds in which a machine ends once its snapshot is kept: its hypervisor is killed, and its receipt signed.
END_PATIENCE: Final = 30.0


def connect(machines: Directory, text: str) -> Connection:
    """Connect to the supervisor of the machine with this id or name.

    Raises UsageError when there is no such machine, or it doesn't run, or waits in a pool.
    """
    entry = registry.find_machine(machines, text)
    if entry.supervisor is None:
        is_cooled = entry.status.reason is EndReason.COOLED
        hint = shell_command("mvm", "thaw", text) if is_cooled else "mvm ps lists the running ones"
        raise UsageError(f"the machine {text!r} isn't running", hint=hint)
    registry.refuse_pooled(entry)
    with machines.existing(entry.status.machine) as directory:
        return Connection(control_socket.connect(directory, entry.supervisor))


class Call:
    """A command in a running machine; a context manager. Leaving it before its end has the command killed."""

    def __init__(self, connection: Connection) -> None:
        """Made by `call` only."""
        self._connection = connection

    def signal(self, number: int) -> None:
        """Send the command a Linux signal; without effect when it has ended."""
        self._connection.tell(Signal(number))

    def resize(self, rows: int, columns: int) -> None:
        """Tell a command in a terminal the terminal's size; without effect when it has ended."""
        self._connection.tell(Resize(rows, columns))

    def fileno(self) -> int:
        """Return the descriptor that can be read once `wait` would return."""
        return self._connection.fileno()

    def hang_up(self) -> None:
        """Have the command ended; `wait` returns with an error. Another thread may call this."""
        self._connection.shut_down()

    def wait(self) -> ExitStatus:
        """Return how the command ended. Raises what the supervisor answered, MvmnixError when it answered nothing."""
        return run(calls.wait_for_exit(self._connection))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()


def call(machines: Directory, text: str, request: GuestCall, descriptors: tuple[int, ...]) -> Call:
    """Ask the machine with this name or id to run a command, with a pipe for each of its streams.

    The descriptors stay the caller's. Raises UsageError when there is no such machine, or it doesn't run.
    """
    connection = connect(machines, text)
    try:
        run(connection.send(request, descriptors))
    except ValueError as error:
        connection.close()
        raise UsageError(f"this can't be run: {error}", hint=f"{LIMIT} bytes are the limit") from error
    except BaseException:
        connection.close()
        raise
    return Call(connection)


def change(machines: Directory, text: str, request: Request, *, seconds: float | None = None) -> None:
    """Have the machine with this name or id paused, resumed or ended; return once that is so, in so many seconds.

    Raises UsageError when it is so already, or there is no such machine, or it doesn't run; MvmnixError.
    """
    with connect(machines, text) as connection:
        run(calls.call(connection, request, seconds=seconds))


def create_snapshot(machines: Directory, machine: str) -> SnapshotKept:
    """Take a snapshot of the running machine with this id or name, which goes on.

    Raises UsageError for a machine that doesn't run, RefusedError [verb-not-granted, snapshot-forbidden], MvmnixError
    where its guest can't be saved now.
    """
    with connect(machines, machine) as connection:
        return run(calls.take_snapshot(connection, ends=False))


def cool_machine(machines: Directory, machine: str, policy: Digest) -> SnapshotKept:
    """Take a snapshot of the running machine with this id or name, and return once it has ended with that.

    `policy` is the one in force: a machine of another one is not ended, for none could go on from it. From the end on
    its name and its ports are free. Raises as `create_snapshot` does; MvmnixError where it doesn't end.
    """
    status = registry.find_machine(machines, machine).status
    found = status.machine
    if status.policy != policy:
        why = f"the machine {machine!r} was started under another trust policy, and none would go on from its snapshot"
        raise UsageError(why, hint="start a machine anew; this one can be stopped: mvm stop")
    with connect(machines, found) as connection:
        kept = run(calls.take_snapshot(connection, ends=True))
    if not registry.await_end(machines, found, patience=END_PATIENCE):
        why = f"the snapshot {kept.id} is kept, and its machine {found} doesn't end"
        raise MvmnixError(why, hint=shell_command("mvm", "kill", found))
    return kept
