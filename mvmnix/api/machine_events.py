"""Reads what happened to machines, and what happens, from the audit log."""

from collections.abc import Iterator

from mvmnix.api.context import Context
from mvmnix.audit.reading import SealedRecord
from mvmnix.launch.machines import events, registry


def read_events(context: Context, machine: str, *, last: int, follow: bool) -> Iterator[SealedRecord]:
    """What happened to machines, or to this one, by the log's verified records: the last ones, and then as they come.

    Raises UsageError for a machine that isn't there, RefusedError [log-mismatch].
    """
    wanted = registry.find_machine(context.machines, machine).status.machine if machine else None
    log, key = context.audit, context.log_key
    before = events.log_events(log, key, last=last, machine=wanted)
    since = before[-1].index + 1 if before else events.end(log, key)
    yield from before
    if follow:
        yield from events.follow(log, key, since=since, machine=wanted)
