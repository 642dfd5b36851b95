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


class Following:
    """Reads the records about machines, or about this one, from index `since` on, as they come.

    Each is verified. `look` raises RefusedError [log-mismatch].
    """

    def __init__(self, log: Directory, key: NoteKey, *, since: int = 0, machine: str | None = None) -> None:
        self._log = log
        self._key = key
        self._since = since
        self._machine = machine

    def look(self) -> list[SealedRecord]:
        """Return those that were added since the last look, the oldest first."""
        fresh = list[SealedRecord]()
        for listed in records_backwards(self._log, self._key) if is_begun(self._log) else ():
            if listed.index < self._since:
                break
            fresh.append(listed)
        self._since = max(self._since, fresh[0].index + 1 if fresh else 0)
        return [listed for listed in reversed(fresh) if _concerns(listed, self._machine)]


def follow(log: Directory, key: NoteKey, *, since: int, machine: str | None = None) -> Iterator[SealedRecord]:
    """Yield what `Following` finds, without an end. Raises as it does."""
    following = Following(log, key, since=since, machine=machine)
    while True:
        yield from following.look()
        time.sleep(_LOOK)


def _concerns(listed: SealedRecord, machine: str | None) -> bool:
    about = listed.record.machine
    return about is not None and machine in {None, about}
