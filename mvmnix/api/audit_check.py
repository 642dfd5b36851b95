"""Checks this host's audit log against all that is kept beside it, and begins a new one where it is lost."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from mvmnix.api.audit import ask_anchors_of
from mvmnix.api.context import Context
from mvmnix.api.policy_history import hold_log
from mvmnix.audit.note import NoteKey
from mvmnix.audit.reading import SealedRecord, matching_records
from mvmnix.audit.record import Record, RecordKind
from mvmnix.audit.tail import NoLogError, is_begun, lost_log
from mvmnix.audit.verify import LogEvidence, Visit, verify_log
from mvmnix.clock import now
from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError, UnreadableError, refuse
from mvmnix.keys import Role
from mvmnix.launch.gate.clock import HostClock, looked_at
from mvmnix.launch.gate.traces import LogTraces
from mvmnix.launch.gate.unkept_nonces import UnkeptStarts
from mvmnix.machines import events, registry
from mvmnix.machines.machine_dir import RECEIPT, read_kept
from mvmnix.machines.receipt import Receipt
from mvmnix.machines.receipt_check import check_receipt
from mvmnix.machines.registry import list_entries


def check_own_log(context: Context, key: NoteKey, note: bytes | None) -> tuple[LogEvidence, tuple[SealedRecord, ...]]:
    """Check this host's log with its key, against a checkpoint that was kept elsewhere where there is a `note`.

    1. What its anchors keep doesn't contradict it; the frontend is told what the others say. 2. A log that is gone
    left no traces. 3. Each record is sealed. 4. The nonces that were spent are those of its starts. Returns the log's
    evidence, and the starts without an end whose machines don't run. Raises RefusedError; NoLogError where there is no
    log, and was none as far as its traces tell.
    """
    against = _anchors(context, key)  # 1
    if not is_begun(context.audit) and (traces := LogTraces.of(context.roots.state).said):  # 2
        against.append(lost_log(context.audit, traces))
    starts = UnkeptStarts(context.nonces)
    evidence = _verified(context, key, note, against, starts.visit)  # 3
    if unkept := starts.reasons(_past(context)):  # 4
        raise RefusedError(*unkept)
    return evidence, _lost(context, evidence.unended)


def begin_new_log(context: Context) -> tuple[str, str]:
    """Begin a new log whose first record says so, with digests of the traces that are here of an earlier one.

    Returns the log's origin and what those traces are, "" where there are none. Raises UsageError where there is a log.
    """
    found = LogTraces.of(context.roots.state)
    record = Record(kind=RecordKind.NEW_LOG, time=now(), digests=found.digests)
    return context.journal.append(record).checkpoint.origin, found.said


def unended_starts(records: Sequence[SealedRecord]) -> tuple[SealedRecord, ...]:
    """The starts among these records that no end follows."""
    ended = {listed.record.machine for listed in records if listed.record.kind == "end"}
    return tuple(one for one in records if one.record.kind == "start" and one.record.machine not in ended)


def _anchors(context: Context, key: NoteKey) -> list[Reason]:
    """Say what this host's anchors say of its log; what contradicts it is returned."""
    against: list[Reason] = []
    try:
        rules = context.config.anchors
    except RefusedError as error:  # which is no verdict on the log
        raise UnreadableError(error.message, hint=error.hint) from error
    for each in ask_anchors_of(context.audit, key, rules):
        if each.contradicts and each.refused is not None:
            against += each.refused.reasons
        else:
            context.frontend.notice(f"the anchor {each.anchor.name} {each.said}")
    return against


def _past(context: Context) -> datetime:
    """No nonce of a plan that was valid longer was forgotten. Raises RefusedError [clock-went-back, state-mismatch]."""
    with looked_at(context.nonces):
        return HostClock(context.nonces, context.frontend.notice).look().past


def _verified(
    context: Context, key: NoteKey, note: bytes | None, against: Sequence[Reason], visit: Visit
) -> LogEvidence:
    """The whole log, unless an anchor is against it. Raises RefusedError with all reasons, NoLogError."""
    try:
        evidence = verify_log(context.audit, key, note, visit)
    except RefusedError as refused:
        found = [*refused.reasons, *(reason for reason in against if reason not in refused.reasons)]
        raise RefusedError(*found) from refused
    except NoLogError:
        if against:
            raise RefusedError(*against) from None
        raise
    if against:
        raise RefusedError(*against)
    return evidence


def _lost(context: Context, unended: Sequence[SealedRecord]) -> tuple[SealedRecord, ...]:
    """Those starts without an end whose machine doesn't live, by the kernel's word."""
    living = {entry.status.machine for entry in list_entries(context.machines) if entry.alive} if unended else set()
    return tuple(listed for listed in unended if listed.record.machine not in living)


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


def read_events(
    context: Context, machine: str, *, last: int, since: datetime | None = None, follow: bool
) -> Iterator[SealedRecord]:
    """Yield the log's verified records about machines, or about this one: the last ones, and then as they come.

    With `since` only those that were written at that time or later.

    Raises UsageError for a machine that isn't there, RefusedError [log-mismatch].
    """
    wanted = registry.find_machine(context.machines, machine).status.machine if machine else None
    log, key = context.audit, context.log_key
    before = events.log_events(log, key, last=last, since=since, machine=wanted)
    index = before[-1].index + 1 if before else events.end(log, key)
    yield from before
    if follow:
        yield from events.follow(log, key, since=index, machine=wanted)
