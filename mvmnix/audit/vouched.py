"""A record of the log by itself, signed by the log's key, to be kept beside what it is about; pure.

It is a signed note, and no checkpoint: a reader of checkpoints of each older state beside the log would need no
key to cut the log off there (docs/adr/0016-seals-lie-inside-the-segment.md). So its text begins with a line that no
checkpoint begins with, and says nothing of the log's size or root.
"""

from typing import Final

from mvmnix.audit.note import NoteError, NoteKey, Signer
from mvmnix.audit.record import Record

#: The first line of the text; the record's line follows.
MAGIC: Final = b"urn:mvmnix:logged-record:1"


def vouch(record: Record, signer: Signer) -> bytes:
    """The note that says that the log has this record."""
    return signer.note(MAGIC + b"\n" + record.line + b"\n")


def vouched_record(note: bytes, key: NoteKey) -> Record:
    """The record in a note of the log whose key this is. Raises ValueError: NoteError, MalformedError."""
    magic, _, line = key.verified(note).partition(b"\n")
    if magic != MAGIC:
        raise NoteError("it is not a record of a log")
    return Record.parse(line.removesuffix(b"\n"))
