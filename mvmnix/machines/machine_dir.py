"""The only module that lays out a machine's directory: its status, lock, logs and receipt, under `machines/<id>`.

Whether a machine lives is the kernel's word: its supervisor holds the record lock on `lock`, and the kernel drops that
when the supervisor dies, however it dies. The status file says how far a machine came, never whether it runs.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from mvmnix.errors import MvmnixError, UsageError
from mvmnix.formats.escaping import shell_command
from mvmnix.machines import control_socket
from mvmnix.machines.ending import EndReason
from mvmnix.machines.status import MachineState, MachineStatus, is_id
from mvmnix.system import log
from mvmnix.system.file_lock import Lock
from mvmnix.system.private_dirs import Directory

if TYPE_CHECKING:
    from mvmnix.machines.console_log import BoundedLog
    from mvmnix.machines.network_log import NetworkLog
    from mvmnix.machines.output_log import OutputLog

STATUS: Final = "machine.json"
LOCK: Final = "lock"
CONSOLE: Final = "console.log"
RECEIPT: Final = "receipt.sigstore.json"
#: What it was started from: `mvm run` keeps its plan nowhere else.
PLAN: Final = "plan.sigstore.json"
#: The log's record of its end, signed by the log's key (mvmnix/audit/vouched.py).
END: Final = "end.note"
#: The id of the machine that went on from the snapshot with which this one ended; a start writes it, unsigned.
SUCCESSOR: Final = "successor"
#: Held while a directory is made or tidied away: a name is given once, and nothing half-made is taken for a leftover.
REGISTER: Final = "register.lock"
#: What may lie in a directory before its status does.
_HALF_MADE: Final = frozenset({LOCK, PLAN})
#: States that no machine is in after the host's crash, whichever of them its file has then.
_OF_A_RUNNING_SYSTEM: Final = frozenset({MachineState.RUNNING, MachineState.PAUSED, MachineState.STOPPING})
_KIB: Final = 1024
_STATUS_LIMIT: Final = 65536
_BUNDLE_LIMIT: Final = 16 * 1024 * 1024


class MachineHome:
    """One machine's directory, held by its supervisor together with its lock; a context manager."""

    def __init__(self, directory: Directory, lock: Lock, status: MachineStatus) -> None:
        """Made by `create` only."""
        self._directory = directory
        self._lock = lock
        self.status = status

    @classmethod
    def create(cls, machines: Directory, status: MachineStatus, bundle: bytes | None = None) -> Self:
        """Make the directory of a new machine and take its lock; `bundle` is the plan's, to be kept there.

        Without a name it gets one that no other machine has. With an `origin` it stays when its lock is let go of,
        until it is started. Raises UsageError when a living machine has that name, or one that waits for its start.
        """
        return cls(*_registered(machines, status, bundle))

    @classmethod
    def take(cls, machines: Directory, machine: str) -> Self:
        """The directory of a machine that waits for its start, with its lock. Raises UsageError when it doesn't."""
        with registration_lock(machines), ExitStack() as stack:
            try:
                directory = stack.enter_context(machines.existing(machine))
            except FileNotFoundError as error:
                raise _no_start(machine, "gone") from error
            lock = directory.try_lock(LOCK)
            if lock is None:
                raise _no_start(machine, "being started already")
            stack.enter_context(lock)
            status = read_status(directory, machine)
            if status is None or not status.waits:
                raise _no_start(machine, "gone" if status is None else status.state)
            stack.pop_all()
        return cls(directory, lock, status)

    @property
    def where(self) -> str:
        """The directory's path, for messages."""
        return self._directory.path

    def advance(
        self,
        state: MachineState,
        *,
        acceleration: str | None = None,
        reason: EndReason | None = None,
        exit_code: int | None = None,
        started: datetime | None = None,
    ) -> None:
        """Write down, atomically, that the machine came so far. A step backwards is a mistake of ours: ValueError."""
        if not self.status.state.may_become(state):
            raise ValueError(f"a machine that is {self.status.state} can't become {state}")
        acceleration = self.status.acceleration if acceleration is None else acceleration
        self.status = replace(
            self.status,
            state=state,
            acceleration=acceleration,
            reason=reason,
            exit_code=exit_code,
            started=started or self.status.started,
        )
        self._directory.write_atomic(STATUS, self.status.to_bytes(), durable=state not in _OF_A_RUNNING_SYSTEM)
        log.info("machine", "%s is %s", self.status.machine, state)

    def console(self, kib: int | None) -> "BoundedLog":
        """The log of the guest's console, new and empty; None: as much as mvm keeps of any."""
        from mvmnix.machines.console_log import CONSOLE_LIMIT, BoundedLog  # noqa: PLC0415 - callers don't pay for it

        limit = CONSOLE_LIMIT if kib is None else kib * _KIB
        return BoundedLog(self._directory.create_file(CONSOLE), limit=limit)

    def output(self, kib: int | None) -> "OutputLog":
        """The log of what its command prints, new and empty; None as for the console, 0: nothing is kept."""
        from mvmnix.machines.output_log import OUTPUT_LIMIT, OutputLog  # noqa: PLC0415 - as above

        return OutputLog(self._directory, OUTPUT_LIMIT if kib is None else kib * _KIB)

    def network_log(self) -> "NetworkLog":
        """The log of what its guest asked of the network, new and empty."""
        from mvmnix.machines.network_log import NetworkLog  # noqa: PLC0415 - as above

        return NetworkLog(self._directory)

    def listen(self) -> socket.socket:
        """The listening socket for clients of the machine; it is gone with the lock."""
        return control_socket.listen(self._directory)

    def keep_diagnosis(self, name: str, data: bytes) -> None:
        """Keep what is known of a boot that made no progress."""
        self._directory.write_atomic(name, data)

    def keep_receipt(self, bundle: bytes) -> str:
        """Keep the signed receipt; returns its path."""
        self._directory.write_atomic(RECEIPT, bundle)
        return self._directory.where(RECEIPT)

    def keep_end(self, note: bytes) -> None:
        """Keep the signed record of the end."""
        self._directory.write_atomic(END, note)

    def discard(self, machines: Directory) -> None:
        """Undo what was begun for a start that was never recorded: its directory is removed, or waits for another."""
        if self.status.origin is None:
            self.remove(machines)
            return
        if not self.status.waits:
            self.status = replace(self.status, started=None)
            self.advance(MachineState.CREATED, acceleration="")
        self.close()

    def remove(self, machines: Directory) -> None:
        """Remove the directory, and let go of the lock."""
        with registration_lock(machines):
            machines.remove_tree(self.status.machine)
        self.close()

    def close(self) -> None:
        """Let go of the lock: from now on the machine has no supervisor."""
        if self._directory.fd >= 0:
            self._directory.remove(control_socket.NAME, durable=False)
        self._lock.release()
        self._directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _registered(
    machines: Directory, status: MachineStatus, bundle: bytes | None
) -> tuple[Directory, Lock, MachineStatus]:
    """A new directory with its lock, and what lies in it from the start. Raises UsageError for a name that is taken."""
    from mvmnix.machines.names import new_name  # noqa: PLC0415 - as above

    name = status.name
    with registration_lock(machines):
        known = tuple(_known(machines))
        if not name:
            others = {other.name for other, _ in known}
            status = replace(status, name=new_name(others, machine=status.machine))
        elif any(other.name == name for other, is_taken in known if is_taken):
            hint = f"end it with `{shell_command('mvm', 'rm', '--force', name)}`, or choose another name"
            raise UsageError(f"a machine named {name!r} is there already", hint=hint)
        directory = machines.child(status.machine)
        try:
            lock = directory.lock(LOCK)
            if bundle is not None:
                directory.write_atomic(PLAN, bundle)
            directory.write_atomic(STATUS, status.to_bytes())
        except BaseException:
            directory.close()
            raise
    return directory, lock, status


def created_again(status: MachineStatus) -> MachineStatus:
    """The status of a machine of `mvm create` whose start came to nothing: as it was before."""
    return replace(status, state=MachineState.CREATED, acceleration="", started=None)


def _no_start(machine: str, state: str) -> UsageError:
    hint = "mvm start takes what `mvm create` made, once; mvm launch makes another machine from the same plan"
    return UsageError(f"the machine {machine} can't be started: it is {state}", hint=hint)


def _known(machines: Directory) -> Iterator[tuple[MachineStatus, bool]]:
    """All machines, and whether they keep their names for themselves."""
    for machine in machine_ids(machines):
        try:
            with machines.existing(machine) as directory:
                alive, status = directory.holder(LOCK) is not None, read_status(directory, machine)
        except (MvmnixError, OSError):
            continue  # it is broken, and every command leaves it out
        if status is not None:
            yield status, alive or status.waits


@contextmanager
def registration_lock(machines: Directory) -> Iterator[None]:
    """Hold the lock under which machine directories are made and removed."""
    with machines.lock(REGISTER):
        yield


def machine_ids(machines: Directory) -> tuple[str, ...]:
    """The ids of all machine directories."""
    return tuple(name for name in machines.names() if is_id(name))


def read_status(directory: Directory, machine: str) -> MachineStatus | None:
    """The status in a machine's directory; None when its supervisor died before it wrote one.

    Raises MvmnixError for what is no machine's: a status that is missing beside other files, is not what mvm writes, or
    is another machine's.
    """
    try:
        data = directory.read(STATUS, _STATUS_LIMIT)
    except FileNotFoundError:
        if set(directory.names()) <= _HALF_MADE:
            return None
        raise _broken(directory, "is missing") from None
    try:
        status = MachineStatus.parse(data)
    except ValueError as error:
        raise _broken(directory, f"is not what mvm writes: {error}") from error
    if status.machine != machine:
        raise _broken(directory, f"is of the machine {status.machine}")
    return status


def _broken(directory: Directory, why: str) -> MvmnixError:
    return MvmnixError(f"{directory.where(STATUS)} {why}", hint=f"look at {directory.path}, and move it away")


def read_kept(machines: Directory, machine: str, name: str) -> bytes | None:
    """The bytes of a machine's plan or receipt (`PLAN`, `RECEIPT`), unverified; None when there is none."""
    with machines.existing(machine) as directory:
        return directory.read(name, _BUNDLE_LIMIT) if directory.exists(name) else None
