"""The end of a log, read and checked: its last segment and the seal in it; what every start and append stands on.

Nothing unsigned is trusted. The last segment's header and records are folded into a root for which the seal must be
the key's signature; what lies beyond the sealed size is not part of the log and is handed out as bytes only.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from mvmnix.audit.merkle import CompactRange
from mvmnix.audit.note import MAX_NOTE, Checkpoint, NoteError, NoteKey
from mvmnix.audit.segment import BLANK, CAPACITY, MAX_SEGMENT, PLACES, Segment, SegmentSeal, first_of, segment_name
from mvmnix.errors import Reason, ReasonCode, RefusedError, UnreadableError
from mvmnix.formats.escaping import shell_command
from mvmnix.formats.strict import MalformedError
from mvmnix.plural import counted
from mvmnix.system.file_lock import Lock
from mvmnix.system.private_dirs import Directory

LOCK: Final = "lock"
#: The key with which the log's checkpoints can be checked, in C2SP's form, for others: mvm doesn't trust it. It is
#: made after the log's first record, so that where it is without a log there had been one.
VERIFIER_KEY: Final = "verifier-key"
#: Bytes that were taken off the log's end, until the record that says so is sealed.
PENDING: Final = "tail-pending"
#: What is said of a tail that no killed writer leaves.
TOO_MUCH: Final = "more than one record stands beyond the seal, so it is not the latest one"


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a log that verified: its checkpoint, the tree of its records, the segment where it ends.

    What a writer that was killed left: `tail`, bytes beyond the sealed records, of one record at most; `torn`, what it
    left at the place of its seal.
    """

    checkpoint: Checkpoint
    tree: CompactRange
    segment: Segment
    tail: bytes = b""
    torn: bytes = b""

    @property
    def unsealed(self) -> bytes:
        """All bytes that no seal covers and that should not be there."""
        return self.torn + self.tail

    @property
    def whole(self) -> Segment:
        """The last segment without what lies beyond its sealed records."""
        lines = self.segment.lines[: self.checkpoint.size - self.segment.first]
        return Segment(self.segment.before, lines, places=self.segment.places)


def put_away(directory: Directory) -> str:
    """Return a command for the shell that keeps a log as evidence."""
    return shell_command("mv", directory.path, f"{directory.path}.bad")


def log_mismatch(directory: Directory, why: str, *, is_end: bool = True) -> Reason:
    """A reason to say that this log is not what its key signed; `is_end`: at its end, on which all starts stand."""
    then = "nothing starts until it is repaired, or a new one is begun"
    if not is_end:
        then = "its end verifies, so machines start and are recorded all the same; to begin a new one, once it is moved"
    hint = f"find out who changed it, and keep it as evidence: {put_away(directory)}; {then}: mvm audit new-log"
    return Reason(ReasonCode.LOG_MISMATCH, directory.path, why, hint)


def _foreign_seal(directory: Directory, segment: Segment, key: NoteKey) -> Reason | None:
    """A reason to say that another key sealed the log; None where its last seal claims to be this key's."""
    claimed = next((seal.key_id for seal in segment.seals), key.identity)
    if claimed == key.identity:
        return None
    other = _published_key(directory)
    name = other.name if other is not None and other.identity == claimed else f"a key with the ID {claimed.hex()}"
    why = f"it is sealed by another host key: by {name}, and the key here is {key.name}"
    hint = (
        "either the host key was lost or replaced: put the old host.pem back, or keep the log as evidence and begin a "
        f"new one: {put_away(directory)}; mvm audit new-log. Or this is another host's log: find out who put it "
        "there, and put this host's own back. Nothing starts until then"
    )
    return Reason(ReasonCode.LOG_MISMATCH, directory.path, why, hint)


def _published_key(directory: Directory) -> NoteKey | None:
    """Return the key that lies beside the log, which proves nothing; None without a readable one."""
    try:
        return NoteKey.parse(directory.read(VERIFIER_KEY, MAX_NOTE).decode().removesuffix("\n"))
    except (OSError, ValueError, UnreadableError):
        return None


def rolled_back(seen: int, left: int) -> str:
    """What is said of a log that has fewer records than were seen elsewhere."""
    many = counted(seen, "record was", "records were")
    return f"it was rolled back: {many} seen elsewhere, {counted(left, 'is', 'are')} left"


def other_root(seen: int) -> str:
    """What is said of records, as many as were seen elsewhere, that aren't those."""
    many = counted(seen, "record does", "records do")
    return f"first {many} not give the root of the checkpoint kept elsewhere"


def lost_log(directory: Directory, traces: str) -> Reason:
    """A reason to say that there is no log, although what one had recorded is there."""
    why = f"the log is gone: {traces} are there, which it had recorded"
    hint = "find out who moved it, and put it back; to begin a new log, which will say so: mvm audit new-log"
    return Reason(ReasonCode.LOG_MISMATCH, directory.path, why, hint)


def foreign_checkpoint(directory: Directory, error: NoteError) -> Reason:
    """A reason to say that what was kept elsewhere is no checkpoint of this log, against which that says nothing."""
    why = f"the checkpoint kept elsewhere is not one of this log: {error}"
    hint = "take the one of this log; after a change of the host's key, move the old checkpoint away"
    return Reason(ReasonCode.LOG_MISMATCH, directory.path, why, hint)


def hold_writers(directory: Directory) -> AbstractContextManager[Lock | None]:
    """Keep writers out for a moment: by the lock; none is needed where we can't write (an exported copy)."""
    if directory.exists(LOCK) and os.access(".", os.W_OK, dir_fd=directory.fd, effective_ids=True):
        return directory.lock(LOCK)
    return nullcontext()


def is_begun(directory: Directory) -> bool:
    """Whether there is anything of a log. False also when all of it was removed: only a pinned checkpoint tells."""
    return directory.exists(VERIFIER_KEY) or bool(segment_indices(directory))


class NoLogError(UnreadableError):
    """There is no log, and nothing says that there was one."""


def no_log(directory: Directory) -> NoLogError:
    """An error to say that there is no log."""
    hint = "it begins with the first launch; if there was one before, compare with a checkpoint kept elsewhere"
    return NoLogError(f"{directory.path} holds no audit log", hint=hint)


def segment_indices(directory: Directory) -> tuple[int, ...]:
    """The first indices of all segments, as their names say, in order."""
    return tuple(first for name in directory.names() if (first := first_of(name)) is not None)


def read_segment(directory: Directory, first: int, *, is_end: bool = True) -> Segment:
    """One segment, parsed but not verified; `is_end`: it is the last one. Raises RefusedError [log-mismatch]."""
    name = segment_name(first)
    try:
        return Segment.parse(name, directory.read(name, MAX_SEGMENT))
    except FileNotFoundError as error:
        raise RefusedError(log_mismatch(directory, f"{name} is missing", is_end=is_end)) from error
    except OSError as error:
        raise _unreadable(directory, error) from error
    except (MalformedError, UnreadableError) as error:
        raise RefusedError(log_mismatch(directory, f"{name} does not parse: {error}", is_end=is_end)) from error


def read_head(directory: Directory, key: NoteKey) -> Head:
    """Read and check the end of a log that is begun; the caller holds its lock. Raises RefusedError [log-mismatch].

    1. The last segment is found by name, and parses. 2. A seal at its head is the key's signature over the tree that
    its header and records make; if both are, the one of more records. 3. Beyond the sealed records stands at most one
    record, whole or torn: what a writer that was killed can leave. 4. Where the other seal had been is nothing, the
    seal of one record less, or what the same writer left.
    """
    segment = read_segment(directory, _last_first(directory))  # 1
    for seal in segment.seals:
        if (sealed := _sealed(segment, seal, key)) is not None:  # 2
            tail = segment.beyond(seal.size)
            if b"\n" in tail[:-1]:  # 3
                raise RefusedError(log_mismatch(directory, TOO_MUCH))
            return Head(*sealed, segment, tail, _torn(segment, seal, key))
    raise RefusedError(_foreign_seal(directory, segment, key) or log_mismatch(directory, _no_seal(segment)))


def _last_first(directory: Directory) -> int:
    """The index where the last segment begins: segments follow each other without a gap, so few names are asked for."""
    low, high = 0, 1
    while directory.exists(segment_name(high * CAPACITY)):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if directory.exists(segment_name(middle * CAPACITY)) else (low, middle)
    return low * CAPACITY


def _sealed(segment: Segment, seal: SegmentSeal, key: NoteKey) -> tuple[Checkpoint, CompactRange] | None:
    """What a seal says, and the tree for which it does; None when it is not the key's for these records."""
    try:
        tree = segment.after(seal.size)
        return seal.checkpoint(tree.root(), key), tree
    except ValueError:
        return None


def _torn(segment: Segment, latest: SegmentSeal, key: NoteKey) -> bytes:
    """What stands at the other place and has no business there."""
    line = segment.places[(latest.place + 1) % PLACES]
    others = (seal for seal in segment.seals if seal.size == latest.size - 1)
    if line == BLANK or any(_sealed(segment, seal, key) for seal in others):  # 4
        return b""
    return line


def _no_seal(segment: Segment) -> str:
    last, name = segment.first + len(segment.lines), segment_name(segment.first)
    for seal in segment.seals:
        if seal.size > last:
            return f"a seal knows {counted(seal.size, 'record')}, but only {counted(last, 'is', 'are')} there"
    return f"the records up to {last} do not give the root that a seal in {name} signs"


def _unreadable(directory: Directory, error: OSError) -> UnreadableError:
    return UnreadableError(f"{directory.path} cannot be read: {error}", hint="repair the disk, or read it as its owner")
