"""Checks this host's audit log against all that is kept beside it, and begins a new one where it is lost."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from mvmnix.api.audit import ask_anchors_of, log_traces
from mvmnix.api.context import Context
from mvmnix.api.policy_history import hold_log
from mvmnix.audit.note import NoteKey
from mvmnix.audit.reading import SealedRecord, matching_records
from mvmnix.audit.record import Record, RecordKind
from mvmnix.audit.tail import NoLogError, is_begun, lost_log
from mvmnix.audit.verify import LogEvidence, Visit, verify_log
from mvmnix.clock import now
from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError, UnreadableError, refuse
from mvmnix.keys import PublicKey, Role
from mvmnix.launch.gate.clock import HostClock, looked_at
from mvmnix.launch.gate.traces import LogTraces
from mvmnix.launch.gate.unkept_nonces import UnkeptStarts
from mvmnix.machines import events, registry
from mvmnix.machines.machine_dir import RECEIPT, machine_ids, read_kept
from mvmnix.machines.receipt import Receipt
from mvmnix.machines.receipt_check import check_receipt, compare_files, kept_files
from mvmnix.machines.registry import list_entries


@dataclass(frozen=True, slots=True)
class OwnLog:
    """This host's log, verified, beside what is kept of the machines in it.

    `lost` are starts without an end whose machines don't run. `receipts` agree with the log and with the files that
    they name; of `removed` machines nothing is kept; `missing` says what isn't kept of the others.
    """

    evidence: LogEvidence
    lost: tuple[SealedRecord, ...]
    receipts: int
    removed: int
    missing: tuple[str, ...]


def check_own_log(context: Context, key: NoteKey, note: bytes | None) -> OwnLog:
    """Check this host's log with its key, against a checkpoint that was kept elsewhere where there is a `note`.

    1. What its anchors keep doesn't contradict it; the frontend is told what the others say. 2. A log that is gone
    left no traces. 3. Each record is sealed. 4. The nonces that were spent are those of its starts. 5. The receipts of
    machines that are kept agree with the log, and the files that they name with them. Raises RefusedError; NoLogError
    where there is no log, and was none as far as its traces tell.
    """
    against = _anchors(context, key)  # 1
    if not is_begun(context.audit) and (traces := log_traces(context.roots.state)):  # 2
        against.append(lost_log(context.audit, traces))
    starts, ends = UnkeptStarts(context.nonces), _Ends(machine_ids(context.machines))

    def visit(index: int, record: re.Match[str]) -> None:
        starts.visit(index, record)
        ends.visit(index, record)

    evidence = _verified(context, key, note, against, visit)  # 3
    if unkept := starts.reasons(_past(context)):  # 4
        raise RefusedError(*unkept)
    reasons, missing = list[Reason](), list[str]()
    for machine in ends.ends:  # 5
        found, absent = _compare(context, PublicKey.from_raw(key.public_key), ends, machine)
        reasons += found
        missing += absent
    if reasons:
        raise RefusedError(*reasons)
    lost = _lost(context, evidence.unended)
    return OwnLog(evidence, lost, len(ends.ends) - len(missing), ends.removed, tuple(missing))


class _Ends:
    """The starts and the ends with a receipt of machines that are kept, as a check of the whole log visits them."""

    def __init__(self, kept: Collection[str]) -> None:
        self._kept = frozenset(kept)
        self.starts: dict[str, SealedRecord] = {}
        self.ends: dict[str, SealedRecord] = {}
        self.removed = 0

    def visit(self, index: int, record: re.Match[str]) -> None:
        """Take note of a record; of a machine's ends the one with its receipt."""
        machine, has_receipt = record["machine"], '"receipt":' in (record["digests"] or "")
        kind = self.starts if record["kind"] == RecordKind.START else self.ends if has_receipt else None
        if kind is None:
            return
        if machine in self._kept:
            kind[machine] = SealedRecord(index, Record.parse(record[0].encode()))
        else:
            self.removed += has_receipt


def _compare(context: Context, key: PublicKey, ends: _Ends, machine: str) -> tuple[Sequence[Reason], Sequence[str]]:
    """Return how the receipt of a machine, and what is kept with it, differs from the log; and what isn't kept."""
    with suppress(FileNotFoundError):  # it is removed at this moment
        bundle = read_kept(context.machines, machine, RECEIPT)
        if bundle is not None:
            return _compare_bundle(context, bundle, key, ends, machine)
    return (), (f"the receipt of the machine {machine}",)


def _compare_bundle(
    context: Context, bundle: bytes, key: PublicKey, ends: _Ends, machine: str
) -> tuple[Sequence[Reason], Sequence[str]]:
    try:
        receipt = check_receipt(bundle, key, end=ends.ends[machine], start=ends.starts.get(machine))
    except RefusedError as error:
        return [replace(reason, what=f"{reason.what} of the machine {machine}") for reason in error.reasons], ()
    with context.machines.existing(machine) as directory:
        compared = compare_files(receipt, kept_files(directory))
    missing = [", ".join(compared.missing)] if compared.missing else []
    return compared.reasons, [f"the {names} of the machine {machine}" for names in missing]


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


def compare_kept(context: Context, machine: str) -> tuple[str, ...] | None:
    """Compare what is kept of a machine that has ended with its receipt.

    Returns what its receipt names and isn't kept any more; None where there is no receipt. Raises RefusedError
    [receipt-mismatch], and as `read_receipt`.
    """
    found = registry.find_machine(context.machines, machine).status.machine
    if read_kept(context.machines, found, RECEIPT) is None:
        return None
    receipt = read_receipt(context, found)
    with context.machines.existing(found) as directory:
        compared = compare_files(receipt, kept_files(directory))
    if compared.reasons:
        raise RefusedError(*compared.reasons)
    return compared.missing


def _records(context: Context, machine: str) -> dict[RecordKind, SealedRecord]:
    """The last record of each kind about a machine, back to its start. Raises RefusedError [log-mismatch]."""
    found = dict[RecordKind, SealedRecord]()
    for listed in matching_records(context.audit, context.log_key, f'"machine":"{machine}"'.encode()):
        found.setdefault(listed.record.kind, listed)
        if listed.record.kind is RecordKind.START:
            break
    return found


def read_events(
    context: Context, machine: str, *, last: int | None, since: datetime | None = None, follow: bool
) -> Iterator[SealedRecord]:
    """Yield the log's verified records about machines, or about this one: the last ones, and then as they come.

    With `since` only those that were written at that time or later; without `last` all of them.

    Raises UsageError for a machine that isn't there, RefusedError [log-mismatch].
    """
    wanted = registry.find_machine(context.machines, machine).status.machine if machine else None
    log, key = context.audit, context.log_key
    before = events.log_events(log, key, last=last, since=since, machine=wanted)
    index = before[-1].index + 1 if before else events.end(log, key)
    yield from before
    if follow:
        yield from events.follow(log, key, since=index, machine=wanted)
