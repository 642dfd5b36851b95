"""What happened to machines, as the audit log has it, one after the other; and what happens from now on."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from mvmnix.audit.note import NoteKey
from mvmnix.audit.reading import SealedRecord, records_backwards
from mvmnix.audit.tail import is_begun
from mvmnix.system.private_dirs import Directory

#: Seconds between two looks at a log that is followed.
_LOOK: Final = 0.2


def log_events(
    log: Directory, key: NoteKey, *, last: int | None, since: datetime | None = None, machine: str | None = None
) -> list[SealedRecord]:
    """Return the last so many verified records about machines, or about this one, the oldest first; None is all.

    With `since` those behind the last record that is older: the log's order counts, if the clock was set back.

    Raises RefusedError [log-mismatch].
    """
    found = list[SealedRecord]()
    for listed in records_backwards(log, key) if is_begun(log) and last != 0 else ():
        if since is not None and listed.record.time < since:
            break
        if _concerns(listed, machine):
            found.append(listed)
            if len(found) == last:
                break
    return found[::-1]


def end(log: Directory, key: NoteKey) -> int:
    """The index that the next record will have."""
    return next((listed.index + 1 for listed in records_backwards(log, key)), 0) if is_begun(log) else 0


def follow(log: Directory, key: NoteKey, *, since: int, machine: str | None = None) -> Iterator[SealedRecord]:
    """The records about machines, or about this one, from index `since` on, as they come; without an end.

    Each is verified. Raises RefusedError [log-mismatch].
    """
    while True:
        fresh = list[SealedRecord]()
        for listed in records_backwards(log, key) if is_begun(log) else ():
            if listed.index < since:
                break
            fresh.append(listed)
        since = max(since, fresh[0].index + 1 if fresh else 0)
        yield from (listed for listed in reversed(fresh) if _concerns(listed, machine))
        time.sleep(_LOOK)


def _concerns(listed: SealedRecord, machine: str | None) -> bool:
    about = listed.record.machine
    return about is not None and machine in {None, about}
