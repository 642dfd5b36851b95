"""The only module that lays out a machine's directory: its status, lock, logs and receipt, under `machines/<id>`.

Whether a machine lives is the kernel's word: its supervisor holds the record lock on `lock`, and the kernel drops that
when the supervisor dies, however it dies. The status file says how far a machine came, never whether it runs.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from mvmnix.errors import MvmnixError, UsageError
from mvmnix.file_lock import Lock
from mvmnix.launch.console import CONSOLE_LIMIT, OUTPUT_LIMIT, BoundedLog
from mvmnix.launch.ending import EndReason
from mvmnix.launch.status import MachineState, MachineStatus, is_id
from mvmnix.model import Digest
from mvmnix.state import Directory

STATUS: Final = "machine.json"
LOCK: Final = "lock"
CONSOLE: Final = "console.log"
STDOUT: Final = "stdout.log"
STDERR: Final = "stderr.log"
RECEIPT: Final = "receipt.sigstore.json"
#: Held while a directory is made or tidied away: a name is given once, and nothing half-made is taken for a leftover.
_REGISTER: Final = "register.lock"
_STATUS_LIMIT: Final = 65536


class MachineHome:
    """One machine's directory, held by its supervisor together with its lock; a context manager."""

    def __init__(self, directory: Directory, lock: Lock, status: MachineStatus) -> None:
        """Made by `create` only."""
        self._directory = directory
        self._lock = lock
        self.status = status

    @classmethod
    def create(
        cls,
        machines: Directory,
        *,
        name: str,
        image: str,
        plan: Digest,
        policy: Digest,
        now: datetime,
        manifest: Digest | None = None,
        provenance: Digest | None = None,
    ) -> Self:
        """Make a directory with a new id and take its lock. Raises UsageError when a living machine has that name."""
        machine = secrets.token_hex(6)
        try:
            status = MachineStatus(
                machine,
                name,
                image,
                plan,
                policy,
                MachineState.CREATED,
                now,
                manifest=manifest,
                provenance=provenance,
            )
        except ValueError as error:
            raise UsageError(str(error), hint="choose another name") from error
        with register(machines):
            if name and any(other.name == name for other, _ in living(machines)):
                hint = f"mvm stop {name}, or choose another name"
                raise UsageError(f"a machine named {name!r} is running", hint=hint)
            directory = machines.child(machine)
            try:
                lock = directory.lock(LOCK)
                directory.write_atomic(STATUS, status.to_bytes())
            except BaseException:
                directory.close()
                raise
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
    ) -> None:
        """Write down, atomically, that the machine came so far. A step backwards is a mistake of ours: ValueError."""
        if not self.status.state.may_become(state):
            raise ValueError(f"a machine that is {self.status.state} can't become {state}")
        acceleration = self.status.acceleration if acceleration is None else acceleration
        self.status = replace(self.status, state=state, acceleration=acceleration, reason=reason, exit_code=exit_code)
        self._directory.write_atomic(STATUS, self.status.to_bytes())

    def console(self) -> BoundedLog:
        """The log of the guest's console, new and empty."""
        return BoundedLog(self._directory.create_file(CONSOLE), limit=CONSOLE_LIMIT)

    def outputs(self) -> tuple[BoundedLog, BoundedLog]:
        """The logs of a detached machine's command: standard output and standard error."""
        stdout, stderr = (self._directory.create_file(name) for name in (STDOUT, STDERR))
        return BoundedLog(stdout, limit=OUTPUT_LIMIT), BoundedLog(stderr, limit=OUTPUT_LIMIT)

    def keep_receipt(self, bundle: bytes) -> str:
        """Keep the signed receipt; returns its path."""
        self._directory.write_atomic(RECEIPT, bundle)
        return self._directory.where(RECEIPT)

    def discard(self, machines: Directory) -> None:
        """Remove the directory of a machine that was never recorded as started."""
        with register(machines):
            machines.remove_tree(self.status.machine)
        self.close()

    def close(self) -> None:
        """Let go of the lock: from now on the machine has no supervisor."""
        self._lock.release()
        self._directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def register(machines: Directory) -> Iterator[None]:
    """Hold the lock under which machine directories are made and removed."""
    with machines.lock(_REGISTER):
        yield


def machine_ids(machines: Directory) -> tuple[str, ...]:
    """The ids of all machine directories."""
    return tuple(name for name in machines.names() if is_id(name))


def read_status(directory: Directory) -> MachineStatus | None:
    """The status in a machine's directory; None when its supervisor died before it wrote one."""
    try:
        data = directory.read(STATUS, _STATUS_LIMIT)
    except FileNotFoundError:
        return None
    try:
        return MachineStatus.parse(data)
    except ValueError as error:
        where = directory.where(STATUS)
        raise MvmnixError(f"{where} is not what mvm writes: {error}", hint=f"remove {directory.path}") from error


def living(machines: Directory) -> Iterator[tuple[MachineStatus, int]]:
    """The machines that have a supervisor, each with its process id (0: not visible from this PID namespace)."""
    for machine in machine_ids(machines):
        with machines.existing(machine) as directory:
            holder = directory.holder(LOCK)
            status = read_status(directory) if holder is not None else None
            if holder is not None and status is not None:
                yield status, holder
