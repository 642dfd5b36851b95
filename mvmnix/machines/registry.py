"""Which machines there are and which of them live, by the kernel's word; ends them, removes them.

A status file may say `running` about a machine whose supervisor was killed: only a held lock proves a supervisor. With
the supervisor the kernel ends its hypervisor, so a machine without a holder of its lock is dead, whatever is written.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from mvmnix.errors import MvmnixError, UsageError
from mvmnix.formats.escaping import shell_command
from mvmnix.machines.ending import end_reason
from mvmnix.machines.machine_dir import LOCK, SUCCESSOR, machine_ids, read_status, registration_lock
from mvmnix.machines.status import MachineSource, MachineState, MachineStatus, is_id
from mvmnix.suggestion import did_you_mean
from mvmnix.system.private_dirs import Directory

if TYPE_CHECKING:
    from mvmnix.audit.record import Record

#: What is said of an end that no record of the log proves.
UNVERIFIED: Final = "unverified"
#: The state of a machine that has ended with a snapshot from which it may go on, and holds no memory meanwhile.
COLD: Final = "cold"
#: Seconds between two looks at a machine that is being stopped.
_LOOK: Final = 0.02
#: Seconds between two looks at a machine that is waited for.
_WAIT: Final = 0.1


@dataclass(frozen=True, slots=True)
class MachineEntry:
    """A machine: what its status file says, and the process that supervises it.

    `supervisor` is None when there is none, 0 when it lives in a PID namespace that can't be seen from here. `end` is
    the log's record of its end, once that was read and verified (machines/recorded_ends.py): what the status
    file says about it is not signed. `snapshot` is the id of the kept snapshot with which it ended and from which none
    has gone on yet, once that was looked for (api/cold_machines.py).
    """

    status: MachineStatus
    supervisor: int | None
    end: "Record | None" = None
    snapshot: str = ""

    @property
    def alive(self) -> bool:
        """Whether the machine has a supervisor."""
        return self.supervisor is not None

    @property
    def state(self) -> str:
        """How it is doing, in a word: its state, but `dead` when its supervisor was lost, and COLD."""
        if self.is_cold:
            return COLD
        return self.status.state if self.alive or self.status.waits or self.has_ended else "dead"

    @property
    def is_pooled(self) -> bool:
        """Whether it waits in a pool, for a start to take its guest."""
        return self.alive and self.status.state is MachineState.WAITING

    @property
    def has_ended(self) -> bool:
        """Whether it has no supervisor any more, and its end was written down."""
        return not self.alive and self.status.state is MachineState.ENDED

    @property
    def is_cold(self) -> bool:
        """Whether it has ended with a snapshot from which it may go on; the log's record proves the end alone."""
        return self.has_ended and self.end is not None and bool(self.snapshot)

    @property
    def ended(self) -> str:
        """Why it ended, by the log's record; UNVERIFIED where nothing proves that; empty for one that hasn't."""
        if not self.has_ended:
            return ""
        return UNVERIFIED if self.end is None else end_reason(self.end)

    @property
    def exit_code(self) -> int | None:
        """Its command's, as the guest reported it, by the log's record."""
        return None if self.end is None else self.end.exit_code


def list_entries(machines: Directory) -> tuple[MachineEntry, ...]:
    """All machines, the oldest first.

    Those that are being made or removed at this moment are left out, and what is broken (`cleanup.scan_machines`).
    """
    found = (_legible(machines, machine) for machine in machine_ids(machines))
    return tuple(sorted((entry for entry in found if entry is not None), key=_age))


def find_machine(machines: Directory, text: str) -> MachineEntry:
    """The machine with this name, id or beginning of an id; of one name a living one first, then one that waits.

    Raises UsageError when there is none, or more than one, MvmnixError when only something broken has that id.
    """
    if is_id(text) and (entry := _entry(machines, text)) is not None:  # which no name looks like
        return entry
    known = list_entries(machines)
    if named := [entry for entry in known if entry.status.name == text and text]:
        return max(named, key=lambda entry: (entry.alive, entry.status.waits, _age(entry)))
    matching = [entry for entry in known if entry.status.machine.startswith(text) and text]
    if not matching and text:
        for machine in machine_ids(machines):
            if machine.startswith(text):
                _entry(machines, machine)  # which says what is broken about it
    if len(matching) != 1:
        what = "no machine" if not matching else f"{len(matching)} machines"
        near = did_you_mean(text, (name for entry in known for name in (entry.status.name, entry.status.machine)))
        raise UsageError(f"{what} with the name or id {text!r}", hint=f"{near}mvm ps --all lists them")
    return matching[0]


def waiting_machine(machines: Directory, text: str) -> tuple[MachineStatus, MachineSource]:
    """Return the status of a machine that wasn't started yet, and where its image is. Raises UsageError."""
    entry = find_machine(machines, text)
    origin = entry.status.origin
    if origin is None or not entry.status.waits or entry.alive:
        hint = "mvm start takes what `mvm create` made, once; mvm launch makes another machine from the same plan"
        raise UsageError(f"the machine {text!r} can't be started: it is {entry.state}", hint=hint)
    return entry.status, origin


def refuse_pooled(entry: MachineEntry) -> None:
    """Raise UsageError for a machine that waits in a pool."""
    if entry.is_pooled:
        hint = f"{pool_removal(entry.status.image)} ends those that wait there; mvm run takes one of them"
        raise UsageError(f"the machine {entry.status.machine!r} waits in a pool", hint=hint)


def pool_removal(image: str) -> str:
    """Return the command that removes the pools of an image."""
    return shell_command("mvm", "pool", "rm", image)


def stop(machines: Directory, text: str, *, patience: float) -> MachineEntry:
    """Ask a machine's supervisor to stop it, and kill the supervisor after `patience` seconds if it doesn't.

    Returns what is known afterwards. The hypervisor of a killed supervisor is killed by the kernel. Raises UsageError.
    """
    return _ended_by(machines, text, (signal.SIGTERM,), patience)


def kill(machines: Directory, text: str, *, patience: float = 5.0) -> MachineEntry:
    """End a machine without asking its guest; as `stop` otherwise. Two signals say so to a supervisor.

    Its supervisor writes the receipt, and is killed only if it takes more than `patience` seconds.
    """
    return _ended_by(machines, text, (signal.SIGTERM, signal.SIGINT), patience)


def wait_for_end(machines: Directory, text: str) -> MachineEntry:
    """Wait until a machine has no supervisor any more; returns what is known then. Raises UsageError."""
    entry = find_machine(machines, text)
    if entry.status.waits and not entry.alive:
        raise UsageError(f"the machine {text!r} wasn't started yet", hint=shell_command("mvm", "start", text))
    while _holder(machines, entry.status.machine) is not None:
        time.sleep(_WAIT)
    return _after(machines, entry)


def await_end(machines: Directory, machine: str, *, patience: float) -> bool:
    """Wait until the machine with this id has no supervisor any more, at most `patience` seconds; return whether so."""
    deadline = time.monotonic() + patience
    while (is_alive := _holder(machines, machine) is not None) and time.monotonic() < deadline:
        time.sleep(_LOOK)
    return not is_alive


def keep_successor(machines: Directory, machine: str, successor: str) -> None:
    """Write down that a machine has gone on from the snapshot with which this one ended, if its directory is here."""
    with suppress(FileNotFoundError), machines.existing(machine) as directory:
        directory.write_atomic(SUCCESSOR, successor.encode(), durable=False)


def has_successor(machines: Directory, machine: str) -> bool:
    """Whether one has gone on from the snapshot with which this machine ended; also True for one that was removed."""
    try:
        with machines.existing(machine) as directory:
            return directory.exists(SUCCESSOR)
    except (MvmnixError, OSError):
        return True


def _after(machines: Directory, entry: MachineEntry) -> MachineEntry:
    """What is known of a machine whose supervisor is gone; one that was removed meanwhile has ended."""
    ended = replace(entry, status=replace(entry.status, state=MachineState.ENDED), supervisor=None)
    return _entry(machines, entry.status.machine) or ended


def machine_files(machines: Directory, machine: str) -> dict[str, int]:
    """What lies in a machine's directory, by the kernel's list: names and sizes in bytes."""
    with machines.existing(machine) as directory:
        return {name: os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_size for name in directory.names()}


def remove(machines: Directory, text: str) -> MachineStatus:
    """Remove the directory of a machine that has ended, its receipt with it. Raises UsageError for a living one."""
    with registration_lock(machines):
        entry = find_machine(machines, text)
        refuse_pooled(entry)
        if entry.alive:
            raise UsageError(f"the machine {text!r} is running", hint=shell_command("mvm", "stop", text))
        machines.remove_tree(entry.status.machine)
    return entry.status


def _legible(machines: Directory, machine: str) -> MachineEntry | None:
    try:
        return _entry(machines, machine)
    except (MvmnixError, OSError):
        return None


def _entry(machines: Directory, machine: str) -> MachineEntry | None:
    try:
        with machines.existing(machine) as directory:
            # in this order: a machine whose lock is seen held, and whose status is read then, was alive in between
            supervisor, status = directory.holder(LOCK), read_status(directory, machine)
    except FileNotFoundError:
        return None
    return None if status is None else MachineEntry(status, supervisor)


def _age(entry: MachineEntry) -> tuple[datetime, str]:
    return entry.status.created, entry.status.machine


def _ended_by(machines: Directory, text: str, numbers: tuple[int, ...], patience: float) -> MachineEntry:
    entry = find_machine(machines, text)
    machine = entry.status.machine
    if entry.supervisor is None:
        raise UsageError(f"the machine {text!r} isn't running", hint="mvm ps lists the running ones")
    if entry.supervisor == 0:
        why = f"the supervisor of {text!r} lives in another PID namespace"
        raise MvmnixError(why, hint="stop it from where it was started")
    for signals, seconds in ((numbers, patience), ((signal.SIGKILL,), 10.0)):
        if _signal_and_wait(machines, machine, entry.supervisor, signals, seconds):
            return _after(machines, entry)
    raise MvmnixError(f"the supervisor of {text!r} (process {entry.supervisor}) doesn't end", hint="see dmesg")


def _signal_and_wait(machines: Directory, machine: str, pid: int, numbers: tuple[int, ...], seconds: float) -> bool:
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
            for number in numbers:
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


def _has_label(entry: MachineEntry, text: str) -> bool:
    """`name=value` as it stands there, or `name` whatever its value."""
    name, equals, value = text.partition("=")
    labels = entry.status.labels
    return name in labels and (not equals or labels[name] == value)


#: What stands before the first equals sign, and how it is held against a machine.
_KEYS: Final[Mapping[str, Callable[[MachineEntry, str], bool]]] = {
    "id": lambda entry, value: entry.status.machine.startswith(value),
    "name": lambda entry, value: entry.status.name == value,
    "image": lambda entry, value: entry.status.image == value,
    "state": lambda entry, value: entry.state == value,
    "ended": lambda entry, value: entry.ended == value,
    "label": _has_label,
}
_STATES: Final = (*MachineState, "dead", COLD)


@dataclass(frozen=True, slots=True)
class Filter:
    """Machines whose `key` is `value`. Of several filters with one key any may hold, but all for labels."""

    key: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Filter":
        """A filter as a user types it. Raises ValueError.

        >>> Filter.parse("label=tier=web")
        Filter(key='label', value='tier=web')
        """
        key, equals, value = text.partition("=")
        if key not in _KEYS or not equals or not value:
            raise ValueError(f"{text!r} is not a filter: one of {', '.join(_KEYS)}, an equals sign, and a value")
        if key == "state" and value not in _STATES:
            raise ValueError(f"{value!r} is not a state: {', '.join(_STATES)}")
        return cls(key, value)

    def holds(self, entry: MachineEntry) -> bool:
        """Whether this machine is meant."""
        return _KEYS[self.key](entry, self.value)


def filter_machines(entries: Iterable[MachineEntry], filters: Iterable[Filter]) -> list[MachineEntry]:
    """The machines that are meant by all of these."""
    wanted = tuple(filters)
    groups = [[it for it in wanted if it.key == key] for key in _KEYS if key != "label"]
    groups += [[it] for it in wanted if it.key == "label"]
    return [entry for entry in entries if all(any(it.holds(entry) for it in group) for group in groups if group)]
