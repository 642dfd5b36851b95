"""Which machines there are and which of them live, by the kernel's word; stops them, reads their logs, tidies up.

A status file may say `running` about a machine whose supervisor was killed: only a held lock proves a supervisor. With
the supervisor the kernel ends its hypervisor, so a machine without a holder of its lock is dead, whatever is written.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from mvmnix.audit.record import Kind, Record
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.launch.admission import Journal
from mvmnix.launch.ending import EndReason
from mvmnix.launch.home import CONSOLE, LOCK, STATUS, STDERR, STDOUT, machine_ids, read_status, register
from mvmnix.launch.status import MachineState, MachineStatus
from mvmnix.state import Directory

_CHUNK: Final = 65536
#: Seconds between two looks at a machine that is being stopped.
_LOOK: Final = 0.02


class Log(StrEnum):
    """What of a machine can be read back: its console, and the output of a detached machine's command."""

    CONSOLE = CONSOLE
    STDOUT = STDOUT
    STDERR = STDERR


@dataclass(frozen=True, slots=True)
class Entry:
    """A machine: what its status file says, and the process that supervises it.

    `supervisor` is None when there is none, 0 when it lives in a PID namespace that can't be seen from here.
    """

    status: MachineStatus
    supervisor: int | None

    @property
    def alive(self) -> bool:
        """Whether the machine has a supervisor."""
        return self.supervisor is not None

    @property
    def state(self) -> str:
        """How it is doing, in a word: its state if it lives, `ended`, or `dead` when its supervisor was lost."""
        return self.status.state if self.alive or self.status.state is MachineState.ENDED else "dead"


def entries(machines: Directory) -> tuple[Entry, ...]:
    """All machines, the oldest first. Those that are being made or removed at this moment are left out."""
    found = (_entry(machines, machine) for machine in machine_ids(machines))
    return tuple(sorted((entry for entry in found if entry is not None), key=_age))


def find(machines: Directory, text: str) -> Entry:
    """The machine with this name, id or beginning of an id; a living one goes before a dead one of the same name.

    Raises UsageError when there is none, or more than one.
    """
    known = entries(machines)
    if named := [entry for entry in known if entry.status.name == text and text]:
        return max(named, key=lambda entry: (entry.alive, _age(entry)))
    matching = [entry for entry in known if entry.status.machine.startswith(text) and text]
    if len(matching) != 1:
        what = "no machine" if not matching else f"{len(matching)} machines"
        raise UsageError(f"{what} with the name or id {text!r}", hint="mvm ps --all lists them")
    return matching[0]


def stop(machines: Directory, text: str, *, patience: float) -> Entry:
    """Ask a machine's supervisor to stop it, and kill the supervisor after `patience` seconds if it doesn't.

    Returns what is known afterwards. The hypervisor of a killed supervisor is killed by the kernel. Raises UsageError.
    """
    entry = find(machines, text)
    machine = entry.status.machine
    if entry.supervisor is None:
        raise UsageError(f"the machine {text!r} isn't running", hint="mvm ps lists the running ones")
    if entry.supervisor == 0:
        why = f"the supervisor of {text!r} lives in another PID namespace"
        raise MvmnixError(why, hint="stop it from where it was started")
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        if _signal_and_wait(machines, machine, entry.supervisor, number, seconds):
            return find(machines, machine)
    raise MvmnixError(f"the supervisor of {text!r} (process {entry.supervisor}) doesn't end", hint="see dmesg")


def read_log(machines: Directory, text: str, log: Log) -> Iterator[bytes]:
    """A machine's log as it is now, in chunks of raw bytes: whoever shows them escapes them. Raises UsageError."""
    machine = find(machines, text).status.machine
    with machines.existing(machine) as directory:
        try:
            fd = directory.open_file(log)
        except FileNotFoundError as error:
            raise UsageError(f"the machine {text!r} has no {log}", hint=f"it has: {_logs(directory)}") from error
    with os.fdopen(fd, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def tidy(machines: Directory, journal: Journal, clock: Callable[[], datetime]) -> tuple[MachineStatus, ...]:
    """Write down the end of machines whose supervisors were lost, and remove directories that were never filled.

    Each such end gets its record in the log. Returns the machines that were found dead.
    """
    dead = []
    with register(machines):
        for machine in machine_ids(machines):
            with machines.existing(machine) as directory:
                lock = directory.try_lock(LOCK)
                if lock is None:
                    continue
                with lock:
                    status = read_status(directory)
                    if status is not None and status.state is not MachineState.ENDED:
                        dead.append(_ended(directory, status, journal, clock()))
            if status is None:
                machines.remove_tree(machine)
    return tuple(dead)


def remove(machines: Directory, text: str) -> MachineStatus:
    """Remove the directory of a machine that has ended, its receipt with it. Raises UsageError for a living one."""
    with register(machines):
        entry = find(machines, text)
        if entry.alive:
            raise UsageError(f"the machine {text!r} is running", hint=f"mvm stop {text}")
        machines.remove_tree(entry.status.machine)
    return entry.status


def _entry(machines: Directory, machine: str) -> Entry | None:
    try:
        with machines.existing(machine) as directory:
            # in this order: a machine whose lock is seen held, and whose status is read then, was alive in between
            supervisor, status = directory.holder(LOCK), read_status(directory)
    except FileNotFoundError:
        return None
    return None if status is None else Entry(status, supervisor)


def _age(entry: Entry) -> tuple[datetime, str]:
    return entry.status.created, entry.status.machine


def _logs(directory: Directory) -> str:
    return ", ".join(log for log in Log if directory.exists(log)) or "none"


def _ended(directory: Directory, status: MachineStatus, journal: Journal, now: datetime) -> MachineStatus:
    reason = EndReason.SUPERVISOR_DIED
    journal.append(
        Record(
            kind=Kind.END,
            time=now,
            machine=status.machine,
            plan=status.plan,
            policy=status.policy,
            reasons=(reason,),
        )
    )
    ended = replace(status, state=MachineState.ENDED, reason=reason)
    directory.write_atomic(STATUS, ended.to_bytes())
    return ended


def _signal_and_wait(machines: Directory, machine: str, pid: int, number: int, seconds: float) -> bool:
    """Signal the process that holds a machine's lock, and wait until it lets go of it."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        # only now is it certain that the number hadn't gone to another process before it was opened
        if _holder(machines, machine) != pid:
            return True
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        deadline = time.monotonic() + seconds
        while _holder(machines, machine) == pid and time.monotonic() < deadline:
            poll.poll(_LOOK * 1000)
    finally:
        os.close(pidfd)
    return _holder(machines, machine) != pid


def _holder(machines: Directory, machine: str) -> int | None:
    try:
        with machines.existing(machine) as directory:
            return directory.holder(LOCK)
    except FileNotFoundError:
        return None
