"""Checks a log against a checkpoint that an anchor keeps: cheap where the anchor has the log's last records."""

from mvmnix.audit.note import Checkpoint, NoteError, NoteKey
from mvmnix.audit.reading import tree_at
from mvmnix.audit.tail import foreign_checkpoint, hold_writers, is_begun, mismatch, other_root, read_head, rolled_back
from mvmnix.errors import RefusedError
from mvmnix.private_dirs import Directory


class ContradictedError(RefusedError):
    """What an anchor keeps and the log don't go together; a log that does not verify by itself is another matter."""


def check_against_anchor(directory: Directory, key: NoteKey, note: bytes) -> Checkpoint:
    """The log's own checkpoint, once the log is known to go on from the one in `note`, which was kept elsewhere.

    1. The note is a checkpoint of this log. 2. The end of the log verifies. 3. It has at least as many records as the
    anchor saw. 4. The first of them, as many as those, give the root that the anchor saw.

    Reads the segments from the last back to the one where the anchor's checkpoint ends, no others. Raises
    ContradictedError [log-mismatch] when the log is older than the anchor, forked from it or gone, or the note is no
    checkpoint of it, another RefusedError [log-mismatch] when the log doesn't verify.
    """
    try:
        seen = Checkpoint.verified(note, key)  # 1
    except NoteError as error:
        raise ContradictedError(foreign_checkpoint(directory, error)) from error
    if not is_begun(directory):
        raise ContradictedError(mismatch(directory, "the log is gone, of which a checkpoint was kept elsewhere"))
    with hold_writers(directory):
        head = read_head(directory, key)  # 2
    ours = head.checkpoint
    if seen.size > ours.size:  # 3
        raise ContradictedError(mismatch(directory, rolled_back(seen.size, ours.size)))
    if tree_at(directory, head, seen.size).root() != seen.root.raw:  # 4
        raise ContradictedError(mismatch(directory, f"it was forked: its {other_root(seen.size)}"))
    return ours
