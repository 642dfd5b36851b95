"""The end of a log, read and checked: its checkpoint and last segment; what every start and append stands on.

Nothing unsigned is believed. The checkpoint is signed; the last segment's header and records are folded into a root
that must be the signed one; what lies beyond the signed size is not part of the log and is handed out as bytes only.
"""

import os
import shlex
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from mvmnix.audit.merkle import CompactRange
from mvmnix.audit.note import MAX_NOTE, Checkpoint, NoteError, NoteKey
from mvmnix.audit.segment import CAPACITY, MAX_SEGMENT, Segment, first_of, segment_name
from mvmnix.errors import Reason, ReasonCode, RefusedError, UnreadableError
from mvmnix.file_lock import Lock
from mvmnix.state import Directory
from mvmnix.strict import MalformedError

CHECKPOINT: Final = "checkpoint"
LOCK: Final = "lock"
#: Bytes that were taken off the log's end, until the record that says so is sealed.
PENDING: Final = "tail-pending"
#: What is said of a tail that no killed writer leaves.
TOO_MUCH: Final = "more than one record stands beyond the checkpoint, so it is not the latest one"


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a log that verified: its checkpoint, the tree of its records, the segment where it ends.

    `segment` is None for a log without records; `tail` is what lies beyond the checkpoint, at most one record.
    """

    checkpoint: Checkpoint
    tree: CompactRange
    segment: Segment | None
    tail: bytes


def mismatch(directory: Directory, why: str) -> Reason:
    """A reason to say that this log is not what its key signed."""
    where = shlex.quote(directory.path)
    hint = f"find out who changed it, and keep it as evidence: mv {where} {where}.bad; until then nothing starts"
    return Reason(ReasonCode.LOG_MISMATCH, directory.path, why, hint)


def quiet(directory: Directory) -> AbstractContextManager[Lock | None]:
    """Keep writers out for a moment: by the lock, or because nobody like us can write there (an exported copy)."""
    if directory.exists(LOCK) and os.access(".", os.W_OK, dir_fd=directory.fd, effective_ids=True):
        return directory.lock(LOCK)
    return nullcontext()


def is_begun(directory: Directory) -> bool:
    """Whether there is anything of a log. False also when all of it was removed: only a pinned checkpoint tells."""
    return directory.exists(CHECKPOINT) or bool(segment_indices(directory))


def absent(directory: Directory) -> UnreadableError:
    """An error to say that there is no log."""
    hint = "it begins with the first launch; if there was one before, compare with a checkpoint kept elsewhere"
    return UnreadableError(f"{directory.path} holds no audit log", hint=hint)


def segment_indices(directory: Directory) -> tuple[int, ...]:
    """The first indices of all segments, as their names say, in order."""
    return tuple(first for name in directory.names() if (first := first_of(name)) is not None)


def read_checkpoint(directory: Directory, key: NoteKey) -> Checkpoint:
    """The log's own checkpoint. Raises RefusedError [log-mismatch] when it is missing or not signed by the key."""
    try:
        checkpoint = Checkpoint.verified(directory.read(CHECKPOINT, MAX_NOTE), key)
    except FileNotFoundError as error:
        raise RefusedError(mismatch(directory, "there are records, but no checkpoint")) from error
    except OSError as error:
        raise _unreadable(directory, error) from error
    except (NoteError, UnreadableError) as error:
        raise RefusedError(mismatch(directory, f"the checkpoint does not verify: {error}")) from error
    if checkpoint.note.count(b"\n") != 5:
        raise RefusedError(mismatch(directory, "more than one signature stands under the log's own checkpoint"))
    return checkpoint


def read_segment(directory: Directory, first: int) -> Segment:
    """One segment, parsed but not verified. Raises RefusedError [log-mismatch]."""
    name = segment_name(first)
    try:
        return Segment.parse(name, directory.read(name, MAX_SEGMENT))
    except FileNotFoundError as error:
        raise RefusedError(mismatch(directory, f"{name} is missing")) from error
    except OSError as error:
        raise _unreadable(directory, error) from error
    except (MalformedError, UnreadableError) as error:
        raise RefusedError(mismatch(directory, f"{name} does not parse: {error}")) from error


def read_head(directory: Directory, key: NoteKey) -> Head:
    """Read and check the end of a log; the caller holds its lock. Raises RefusedError [log-mismatch].

    1. The checkpoint is signed by the key. 2. The segment that holds the signed size is there, and none after it.
    3. Its header and records give the signed root. 4. Beyond them stands at most one record, whole or torn: what a
    writer that was killed can leave. More means that an older checkpoint was put back.
    """
    checkpoint = read_checkpoint(directory, key)  # 1
    first = checkpoint.size - checkpoint.size % CAPACITY
    if first == checkpoint.size and not directory.exists(segment_name(first)):
        if first == 0:
            return Head(checkpoint, _rooted(directory, checkpoint, CompactRange()), None, b"")
        first -= CAPACITY  # the last segment is full, and the next record begins another
    if directory.exists(segment_name(first + CAPACITY)):  # 2
        why = f"a segment begins at record {first + CAPACITY}, but the checkpoint knows {checkpoint.size} records"
        raise RefusedError(mismatch(directory, why))
    segment = read_segment(directory, first)
    try:
        tree = segment.after(checkpoint.size)
    except ValueError as error:
        last = segment.first + len(segment.lines)
        why = f"the checkpoint knows {checkpoint.size} records, but only {last} are there"
        raise RefusedError(mismatch(directory, why)) from error
    tail = segment.beyond(checkpoint.size)
    if b"\n" in tail[:-1]:  # 4
        raise RefusedError(mismatch(directory, TOO_MUCH))
    return Head(checkpoint, _rooted(directory, checkpoint, tree), segment, tail)


def _unreadable(directory: Directory, error: OSError) -> UnreadableError:
    return UnreadableError(f"{directory.path} cannot be read: {error}", hint="repair the disk, or read it as its owner")


def _rooted(directory: Directory, checkpoint: Checkpoint, tree: CompactRange) -> CompactRange:
    """The tree, once its root is the signed one."""
    if tree.root() != checkpoint.root.raw:  # 3
        why = f"the last segment's records do not give the root that the checkpoint signs for {checkpoint.size} records"
        raise RefusedError(mismatch(directory, why))
    return tree
