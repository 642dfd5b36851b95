"""Reads the receipt of a machine that has ended, verified with the host's key and against the audit log."""

from collections.abc import Iterator

from mvmnix.api.context import Context
from mvmnix.api.policy_history import hold_log
from mvmnix.audit.reading import SealedRecord, matching_records
from mvmnix.audit.record import RecordKind
from mvmnix.errors import MvmnixError, ReasonCode, refuse
from mvmnix.keys import Role
from mvmnix.machines import events, registry
from mvmnix.machines.machine_dir import RECEIPT, read_kept
from mvmnix.machines.receipt import Receipt
from mvmnix.machines.receipt_check import check_receipt


def read_receipt(context: Context, machine: str) -> Receipt:
    """The receipt of the machine with this id or name.

    It is signed by the host, and agrees with the log's records of the machine's start and end. Raises MvmnixError where
    there is no machine or no receipt yet, RefusedError for one that doesn't verify [log-mismatch, signature-…].
    """
    found = registry.find_machine(context.machines, machine).status.machine
    bundle = read_kept(context.machines, found, RECEIPT)
    if bundle is None:
        raise MvmnixError(f"the machine {found} has no receipt", hint="it gets one when it has ended")
    hold_log(context)
    records = _records(context, found)
    end = records.get(RecordKind.END)
    if end is None:
        hint = "keep both as evidence: one of them is not what the host wrote when the machine ended"
        raise refuse(ReasonCode.LOG_MISMATCH, "the receipt", "there is no record of the machine's end", hint)
    return check_receipt(bundle, context.key(Role.HOST).public, end=end, start=records.get(RecordKind.START))


def _records(context: Context, machine: str) -> dict[RecordKind, SealedRecord]:
    """The last record of each kind about a machine, back to its start. Raises RefusedError [log-mismatch]."""
    found = dict[RecordKind, SealedRecord]()
    for listed in matching_records(context.audit, context.log_key, f'"machine":"{machine}"'.encode()):
        found.setdefault(listed.record.kind, listed)
        if listed.record.kind is RecordKind.START:
            break
    return found


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
