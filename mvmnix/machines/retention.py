"""Removes machines that have ended: the oldest of those that were marked for it, and those that were not to be kept.

What goes is what `mvm rm` takes: plan, receipt and logs. The audit log keeps start and end, with their digests.
"""

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Final

from mvmnix.errors import MvmnixError, UsageError
from mvmnix.formats.escaping import shell_command
from mvmnix.machines import registry
from mvmnix.machines.machine_dir import (
    STATUS,
    registration_lock,
)
from mvmnix.machines.registry import MachineEntry
from mvmnix.system.private_dirs import Directory

#: The file in a machine's directory that says so, and of which kind it is.
MARK: Final = "auto-remove"
_LONGEST: Final = 64

#: Returns the ids of those of these machines that may go on from a snapshot, and aren't removed unasked.
type Spared = Callable[[Sequence[MachineEntry]], Collection[str]]


class MachineKind(StrEnum):
    """What a machine was started for. Each kind is counted by itself, so that one doesn't drive out another."""

    RUN = "run"
    BUILD = "build"
    POOL = "pool"


#: So many of each kind that have ended are kept, the youngest ones.
KEPT: Final = {MachineKind.RUN: 50, MachineKind.BUILD: 10, MachineKind.POOL: 10}


class Retention(StrEnum):
    """How long a machine of `mvm run` or `mvm launch` is kept after its end."""

    ALWAYS = "always"
    """Until `mvm rm`."""
    LAST = "last"
    """While it is among the last of its kind."""
    NEVER = "never"
    """Until its end; one that failed, as LAST: what is said of that names files of its directory."""


def mark(machines: Directory, machine: str, kind: MachineKind) -> None:
    """Have a machine removed once it has ended and so many younger ones of its kind have, too."""
    with suppress(FileNotFoundError), machines.existing(machine) as directory:  # it may be removed already
        directory.write_atomic(MARK, kind.encode(), durable=False)


def prune(machines: Directory, kind: MachineKind, spared: Spared, notice: Callable[[str], None]) -> None:
    """Remove the marked machines of a kind that have ended, but for those that were marked last, and the spared ones.

    What can't be removed is told to `notice`: it is no reason for what runs now to fail.
    """
    try:
        with registration_lock(machines):
            ended = [entry for entry in registry.list_entries(machines) if entry.has_ended]
            times = ((_when(machines, entry.status.machine, kind), entry) for entry in ended)
            marked = {entry.status.machine: (when, entry) for when, entry in times if when}
            if len(marked) <= KEPT[kind]:
                return
            for machine in spared([entry for _, entry in marked.values()]):
                del marked[machine]
            for _, machine in sorted((when, machine) for machine, (when, _) in marked.items())[: -KEPT[kind]]:
                _remove(machines, machine)
    except (MvmnixError, OSError) as error:
        notice(f"an ended machine can't be removed: {error}")


def discard(machines: Directory, machine: str, spared: Spared, notice: Callable[[str], None]) -> None:
    """Remove a machine that has ended, unless it is spared or gone already. What prevents it is told to `notice`."""
    try:
        with suppress(FileNotFoundError, UsageError), registration_lock(machines):
            if not spared([registry.find_machine(machines, machine)]):
                _remove(machines, machine)
    except (MvmnixError, OSError) as error:
        notice(f"the machine {machine} can't be removed: {error}. Next: {shell_command('mvm', 'rm', machine)}")


def _remove(machines: Directory, machine: str) -> None:
    """Remove its directory. Killed meanwhile, mvm leaves an ended machine or what `clean_up` removes.

    Its mark goes late, so that the next time it is removed to the end, and its status last of all.
    """
    with machines.existing(machine) as directory:
        for name in directory.names():
            if name not in {MARK, STATUS}:
                directory.remove(name, durable=False)
        directory.sync()
        for name in (MARK, STATUS):
            directory.remove(name)
    machines.remove_tree(machine)


def _when(machines: Directory, machine: str, kind: MachineKind) -> int:
    """When it was marked as one of this kind, in nanoseconds; 0 for never. What can't be read marks nothing."""
    try:
        with machines.existing(machine) as directory:
            if directory.read(MARK, _LONGEST) == kind.encode():
                return os.stat(MARK, dir_fd=directory.fd, follow_symlinks=False).st_mtime_ns
    except (MvmnixError, OSError):
        return 0
    return 0
