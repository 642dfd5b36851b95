"""Reads how machines ended out of their directories: by the log's record of the end, signed by the log's key.

The status file says it too, and is not read for that: it is not signed. The record is kept beside it by itself
(mvmnix/audit/vouched.py), so that a machine's end costs the same to read however long the log is.
"""

from collections.abc import Iterable
from dataclasses import replace

from mvmnix.audit.note import MAX_NOTE, NoteKey
from mvmnix.audit.record import Record, RecordKind
from mvmnix.audit.vouched import vouched_record
from mvmnix.errors import MvmnixError
from mvmnix.machines.machine_dir import END
from mvmnix.machines.registry import MachineEntry
from mvmnix.system.private_dirs import Directory


def with_ends(machines: Directory, entries: Iterable[MachineEntry], key: NoteKey) -> tuple[MachineEntry, ...]:
    """The same machines, those that have ended with the record of their end, where the log's key signed that."""
    return tuple(_with_end(machines, entry, key) for entry in entries)


def _with_end(machines: Directory, entry: MachineEntry, key: NoteKey) -> MachineEntry:
    if not entry.has_ended:
        return entry
    try:
        with machines.existing(entry.status.machine) as directory:
            record = vouched_record(directory.read(END, MAX_NOTE), key)
    except (MvmnixError, OSError, ValueError):
        return entry
    return replace(entry, end=record) if _is_end(record, entry.status.machine) else entry


def _is_end(record: Record, machine: str) -> bool:
    return (record.kind, record.machine) == (RecordKind.END, machine)
