"""Finds snapshots with which machines ended that may go on from them: cold machines (docs/reference/snapshots.md).

What a snapshot says is not verified, as in `mvm snapshot ls`. That its machine has ended is what the log's record
proves (machine_store.py), which is asked for where a state is shown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mvmnix.api.snapshot_store import read_ends
from mvmnix.launch.snapshots.store import Snapshots
from mvmnix.machines import registry
from mvmnix.machines.registry import MachineEntry
from mvmnix.system.private_dirs import Directory
from mvmnix.system.procfs import boot_id


def add_snapshots(
    machines: Directory, entries: Iterable[MachineEntry], snapshots: Snapshots
) -> tuple[MachineEntry, ...]:
    """The same machines, those that have ended with the snapshot from which they may go on with its id.

    Left out are snapshots that another host exported, those of another boot of this host, and those from which a
    machine has gone on. Raises OSError.
    """
    boot = boot_id()
    found = {machine: claim.id for machine, claim in read_ends(snapshots).items() if claim.boot == boot}
    return tuple(_with_snapshot(machines, entry, found.get(entry.status.machine, "")) for entry in entries)


def _with_snapshot(machines: Directory, entry: MachineEntry, snapshot: str) -> MachineEntry:
    if not snapshot or not entry.has_ended or registry.has_successor(machines, entry.status.machine):
        return entry
    return replace(entry, snapshot=snapshot)


def find_spared(machines: Directory, entries: Sequence[MachineEntry], snapshots: Snapshots) -> frozenset[str]:
    """Return the ids of the machines that may go on from a snapshot: they aren't removed unasked. Raises OSError."""
    return frozenset(entry.status.machine for entry in add_snapshots(machines, entries, snapshots) if entry.snapshot)


def from_directory(directory: Directory) -> Snapshots:
    """The snapshots in a directory, to be listed alone."""
    return Snapshots(directory, _no_key)


def _no_key() -> bytes:
    raise ValueError("a listing opens no snapshot")
