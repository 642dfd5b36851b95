"""Reads how machines ended out of their directories: by the log's record of the end, with the proof that it is one.

The status file says it too, and is not asked: it is signed by nobody. The proof beside it (mvmnix/audit/proof.py) leads
from the record to a checkpoint that the host's key signed, so that a machine's end costs the same to read however long
the log is.
"""

from collections.abc import Iterable
from dataclasses import replace

from mvmnix.audit.note import NoteKey
from mvmnix.audit.proof import MAX_PROOF, InclusionProof
from mvmnix.audit.record import Kind, Record
from mvmnix.errors import MvmnixError
from mvmnix.launch.records.home import END
from mvmnix.launch.records.registry import Entry
from mvmnix.state import Directory


def with_ends(machines: Directory, entries: Iterable[Entry], key: NoteKey) -> tuple[Entry, ...]:
    """The same machines, those that have ended with the record of their end, where that is proven by the log's key."""
    return tuple(_with_end(machines, entry, key) for entry in entries)


def _with_end(machines: Directory, entry: Entry, key: NoteKey) -> Entry:
    if not entry.has_ended:
        return entry
    try:
        with machines.existing(entry.status.machine) as directory:
            proof = directory.read(END, MAX_PROOF)
        return replace(entry, end=_proven(proof, entry.status.machine, key))
    except (MvmnixError, OSError):
        return entry


def _proven(proof: bytes, machine: str, key: NoteKey) -> Record | None:
    """The record, if it is of this machine's end. Raises RefusedError when the proof doesn't hold."""
    record = InclusionProof.parse(proof).verified(key).listed.record
    return record if (record.kind, record.machine) == (Kind.END, machine) else None
