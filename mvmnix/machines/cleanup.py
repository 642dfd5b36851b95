"""Puts in order what killed supervisors left in the machines' directories, and says what lies there and is no machine.

What is no machine's is never changed or removed: it may be evidence, and it may be a user's file.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from mvmnix.errors import MvmnixError
from mvmnix.machines import control_socket
from mvmnix.machines.ending import EndReason, end_reason
from mvmnix.machines.machine_dir import (
    END,
    LOCK,
    RECEIPT,
    REGISTER,
    STATUS,
    created_again,
    machine_ids,
    read_status,
    registration_lock,
)
from mvmnix.machines.status import MachineState, MachineStatus
from mvmnix.system.private_dirs import Directory

if TYPE_CHECKING:
    from mvmnix.audit.record import Journal


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a look at the machines' directories found.

    `is_tidy`: `clean_up` would find nothing to do; a machine that is being made just now may look so. `broken`
    are messages about entries that every command leaves out.
    """

    is_tidy: bool
    broken: tuple[str, ...]


def scan_machines(machines: Directory) -> ScanResult:
    """Look at all entries, and again with the lock if one is broken: so looks what is being removed just now."""
    found = _look(machines)
    if not found.broken:
        return found
    with registration_lock(machines):
        return _look(machines)


def _look(machines: Directory) -> ScanResult:
    ids = machine_ids(machines)
    strangers = [name for name in machines.names() if name not in {*ids, REGISTER}]
    broken, tidy_ones = [f"{machines.where(name)} is not a machine's directory" for name in strangers], []
    for machine in ids:
        try:
            tidy_ones.append(_is_tidy(machines, machine))
        except FileNotFoundError:
            continue  # it was removed meanwhile
        except MvmnixError as error:
            broken.append(f"{error}{_living(machines, machine)}")
        except OSError as error:
            where = f"{machines.where(machine)}/{error.filename or ''}"  # which was looked for by its name alone
            broken.append(f"{where}: {error.strerror}{_living(machines, machine)}")
    return ScanResult(all(tidy_ones), tuple(f"left out: {each}" for each in broken))


def clean_up(
    machines: Directory,
    journal: "Journal | None",
    clock: Callable[[], datetime],
    notice: Callable[[str], None],
) -> tuple[MachineStatus, ...]:
    """Write down the end of machines whose supervisors were lost, and remove what they left half made.

    Each such end gets its record in the log, if the log has the machine's start or creation: otherwise a made-up
    directory would have the host's key sign that a machine ended. `journal` is None where there is no host key.
    A directory whose end can't be recorded is told to `notice` and left as it is, as is what is broken.
    Returns the machines that were found dead.
    """
    dead = []
    with registration_lock(machines):
        for machine in machine_ids(machines):
            if not _is_legible(machines, machine):
                continue
            with machines.existing(machine) as directory:
                lock = directory.try_lock(LOCK)
                if lock is None:
                    continue
                with lock:
                    status = read_status(directory, machine)
                    if status is not None and status.state is not MachineState.ENDED and not status.waits:
                        try:
                            status = _settled(directory, status, journal, clock())
                        except _UnrecordedError as error:
                            notice(f"left as it is: {machines.where(machine)}: {error}")
                            continue
                        dead.extend([status] if status is not None and not status.waits else [])
                    directory.remove(control_socket.NAME)
                    directory.sweep()
            if status is None:
                machines.remove_tree(machine)
    return tuple(dead)


def _is_tidy(machines: Directory, machine: str) -> bool:
    with machines.existing(machine) as directory:
        alive, status = directory.holder(LOCK) is not None, read_status(directory, machine)
        rests = status is not None and (status.waits or status.state is MachineState.ENDED)
        return alive or (rests and not directory.exists(control_socket.NAME) and not directory.sweep(remove=False))


def _is_legible(machines: Directory, machine: str) -> bool:
    try:
        with machines.existing(machine) as directory:
            read_status(directory, machine)
    except (MvmnixError, OSError):
        return False
    return True


def _living(machines: Directory, machine: str) -> str:
    """That a machine runs whose directory can't be read: no command would name it."""
    try:
        with machines.existing(machine) as directory:
            supervisor = directory.holder(LOCK)
    except (MvmnixError, OSError):
        return ""
    return f". It runs: its supervisor is process {supervisor}, which a SIGTERM stops" if supervisor else ""


class _UnrecordedError(Exception):
    """The end of a machine can't be recorded; says why."""


def _settled(
    directory: Directory, status: MachineStatus, journal: "Journal | None", now: datetime
) -> MachineStatus | None:
    """The status of a machine without a supervisor, by what the log knows; None when it never started and won't.

    Its supervisor may have died between two writes: before the start was in the log, or after its end was. Raises
    _UnrecordedError for one that ran by its directory alone: that is made up, or its log was replaced.
    """
    from mvmnix.audit.record import Record, RecordKind  # noqa: PLC0415 - callers find machines in order, nearly always

    if journal is None:
        raise _UnrecordedError("its end can't be recorded: there is no host key. Next: mvm key create host")
    known = {record.kind: record for record in journal.about(status.machine)}
    ran = status.state not in {MachineState.CREATED, MachineState.STARTING} or directory.exists(RECEIPT)
    if RecordKind.START not in known and not ran:
        if status.origin is None:
            return None
        directory.write_atomic(STATUS, created_again(status).to_bytes())
        return created_again(status)
    if not known.keys() & {RecordKind.START, RecordKind.CREATION}:
        why = "it says that its machine ran, and the log has no record of its start or creation"
        raise _UnrecordedError(f"{why}. Next: look at it; mvm rm {status.machine} removes it")
    if (end := known.get(RecordKind.END)) is None:
        lost = (EndReason.SUPERVISOR_DIED,)
        of = known.get(RecordKind.START, status)  # the status is not signed
        end = Record(
            kind=RecordKind.END, time=now, machine=status.machine, plan=of.plan, policy=of.policy, reasons=lost
        )
        journal.append(end)
    directory.write_atomic(END, journal.vouch(end))
    ended = replace(status, state=MachineState.ENDED, reason=EndReason(end_reason(end)), exit_code=end.exit_code)
    directory.write_atomic(STATUS, ended.to_bytes())
    return ended
