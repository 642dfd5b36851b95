"""Takes, lists, exports and imports snapshots, starts machines from them, and admits them in the launcher's fork."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from mvmnix.api import files
from mvmnix.api.admission import submit_for
from mvmnix.api.context import Context
from mvmnix.api.kept_plans import read_kept
from mvmnix.api.snapshot_store import open_snapshots, read_claim, read_statement
from mvmnix.audit.record import Record, RecordKind
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, StepResult, UsageError, refuse
from mvmnix.formats.escaping import shell_command
from mvmnix.keys import Role
from mvmnix.launch import backends
from mvmnix.launch.gate.admission import admit_snapshot, check_snapshot
from mvmnix.launch.gate.clock import HostClock
from mvmnix.launch.gate.snapshot import (
    HostFacts,
    SnapshotSubmission,
    VerifiedSnapshot,
    verify_export,
    verify_import,
    verify_snapshot,
)
from mvmnix.launch.runtime.snapshot_facts import host_facts
from mvmnix.launch.snapshots.export import exported, open_export, parse_recipient, recipient_key, show_recipient
from mvmnix.launch.snapshots.statement import SnapshotClaim, from_statement, snapshot_statement
from mvmnix.launch.snapshots.store import KeptSnapshot
from mvmnix.launch.templates.sealing_key import read_or_make
from mvmnix.plan.backend import Backend
from mvmnix.provenance.policy.verdicts import refuse_older
from mvmnix.system.output_files import NewFile
from mvmnix.system.prctl import disable_core_dumps_and_tracing
from mvmnix.system.procfs import boot_id
from mvmnix.vmm.tsc import TscClock


@dataclass(frozen=True, slots=True)
class StaleSnapshot:
    """A snapshot from which no machine goes on any more, and why, in words for the user."""

    claim: SnapshotClaim
    why: str


def list_snapshots(context: Context) -> tuple[SnapshotClaim, ...]:
    """Return what the kept snapshots say, the newest first: nothing of it is verified.

    Which one can't be read is told. What killed processes left is removed.
    """
    snapshots, found = open_snapshots(context), list[SnapshotClaim]()
    snapshots.sweep()
    for kept in snapshots.list():
        if (claim := read_claim(kept)) is not None:
            found.append(claim)
        else:
            command = shell_command("mvm", "snapshot", "rm", kept.id)
            context.frontend.notice(f"what the snapshot {kept.id} says can't be read; remove it: {command}")
    return tuple(sorted(found, key=lambda claim: claim.created, reverse=True))


def find_snapshot(context: Context, snapshot: str) -> SnapshotClaim:
    """Return what a kept snapshot says; nothing of it is verified. Raises as `inspect_snapshot` does."""
    with open_snapshots(context).open(snapshot) as kept:
        return from_statement(read_statement(kept.bundle))


def inspect_snapshot(context: Context, snapshot: str) -> Mapping[str, object]:
    """Return the predicate of a kept snapshot's statement (docs/reference/snapshots.md); nothing of it is verified.

    Raises UsageError where there is none, RefusedError [snapshot-damaged, statement-malformed].
    """
    with open_snapshots(context).open(snapshot) as kept:
        found = read_statement(kept.bundle)
    from_statement(found)
    return found.predicate


def verify_kept_snapshot(context: Context, snapshot: str) -> tuple[StepResult, ...]:
    """Verify a kept snapshot and its plan as for a restore, and read its sealed file; return the gate's steps.

    Nothing is started, and no nonce is spent. Raises UsageError where there is none, RefusedError.
    """
    disable_core_dumps_and_tracing()  # keys and what a guest had in memory pass through
    tsc, snapshots = TscClock.start(), open_snapshots(context)
    with snapshots.open(snapshot) as kept, submit_for(context, kept.plan) as submission:
        facts, moment = _host_and_time(context, tsc)
        refuse_older(context.policy, context.journal)
        handed = SnapshotSubmission(kept.bundle, submission, kept.imported)
        with verify_snapshot(handed, policy=context.policy, now=moment, host=facts) as verified:
            snapshots.checked_key(kept, verified.claim)
            return verified.steps


def snapshot_recipient(context: Context) -> str:
    """Return the public key to which others export snapshots for this host, as one line. Raises RefusedError."""
    return show_recipient(recipient_key(read_or_make(context.keys)).public_key())


def export_snapshot(context: Context, snapshot: str, recipient: str, out: NewFile) -> None:
    """Write a kept snapshot, verified as for a restore, to a new file that the recipient's host alone can open.

    That it was exported, and to whom, is in the log. Raises UsageError for a recipient that is none, or a file that is
    there; RefusedError, also for a snapshot whose plan is for once.
    """
    disable_core_dumps_and_tracing()  # keys and what a guest had in memory pass through
    try:
        to = parse_recipient(recipient)
    except ValueError as error:
        raise UsageError(f"--to: {error}", hint="take what `mvm snapshot recipient` prints there") from error
    tsc, snapshots, check = TscClock.start(), open_snapshots(context), partial(check_snapshot, verify_export)
    with (
        snapshots.open(snapshot) as kept,
        _admission(context, kept.plan, (kept.bundle, kept.imported), tsc, check) as verified,
    ):
        with context.recorded(plan=verified.plan.digest):
            key = snapshots.checked_key(kept, verified.claim)
        with out.open() as file:
            file.writelines(exported(kept, key, to))
            _log(context, verified.claim, {"snapshot": verified.digest, "recipient": Digest.of(recipient.encode())})


def import_snapshot(context: Context, file: str) -> str:
    """Keep a snapshot that another host exported to this one; return its id, which is the same here.

    This host signs a statement of its own about it, which names the other one. Raises UsageError for what is no regular
    file, or a snapshot that is kept here; RefusedError, which is logged.
    """
    disable_core_dumps_and_tracing()  # keys and what a guest had in memory pass through
    tsc, snapshots = TscClock.start(), open_snapshots(context)
    with files.regular(file, "name a file that is there") as fd, os.fdopen(fd, "rb", closefd=False) as source:
        with _unless_damaged(context, file):
            read = open_export(source, recipient_key(read_or_make(context.keys)))
        check = partial(check_snapshot, verify_import)
        found = _admission(context, read.plan, (read.bundle, b""), tsc, check)
        if snapshots.has(found.claim.id):
            raise _there_is_one(found.claim.id)
        with snapshots.begin(found.claim.id) as writer:
            with _unless_damaged(context, file, plan=found.claim.plan):
                writer.adopt(read.key, read.sealed, found.claim)
            claim = replace(found.claim, policy=found.policy, imported=found.digest, key=writer.key)
            bundle = context.sign(Role.HOST, snapshot_statement(claim).to_bytes())
            _log(context, claim, {"snapshot": Digest.of(bundle), "imported": found.digest})
            try:
                writer.keep(bundle, read.plan, read.bundle)
            except FileExistsError:  # another process has imported it meanwhile
                raise _there_is_one(claim.id) from None
    return claim.id


def _there_is_one(snapshot: str) -> UsageError:
    return UsageError(f"there is a snapshot {snapshot}", hint=shell_command("mvm", "snapshot", "rm", snapshot))


@contextmanager
def _unless_damaged(context: Context, file: str, *, plan: Digest | None = None) -> Iterator[None]:
    with context.recorded(plan=plan):
        try:
            yield
        except ValueError as error:
            hint = "have it exported again, to what `mvm snapshot recipient` prints here"
            raise refuse(ReasonCode.SNAPSHOT_DAMAGED, file, str(error), hint) from error


def _admission[T](
    context: Context, plan: bytes, bundles: tuple[bytes, bytes], tsc: TscClock, admit: Callable[..., T]
) -> T:
    """The verdict on a snapshot: its bundle and its exporter's, and its plan. Raises RefusedError, which is logged."""
    with context.recorded(plan=Digest.of(plan)):
        facts, moment = _host_and_time(context, tsc)
        context.read_policy_again()
    bundle, imported = bundles
    with submit_for(context, plan) as submission:
        handed = SnapshotSubmission(bundle, submission, imported)
        return admit(handed, policy=context.policy, journal=context.journal, clock=lambda: moment, host=facts)


def _log(context: Context, claim: SnapshotClaim, digests: Mapping[str, Digest]) -> None:
    record = Record(
        kind=RecordKind.SNAPSHOT,
        time=now(),
        machine=claim.machine,
        plan=claim.plan,
        policy=context.policy.digest,
        serials=context.policy.serials,
        digests=digests,
    )
    context.journal.append(record)


def remove_snapshots(context: Context, names: tuple[str, ...]) -> Iterator[str]:
    """Remove each snapshot, its key first; yield its id. Raises UsageError where there is none."""
    snapshots = open_snapshots(context)
    for name in names:
        snapshots.remove(name)
        yield name


def prune_snapshots(context: Context, *, remove: bool) -> tuple[StaleSnapshot, ...]:
    """Remove the snapshots from which no machine goes on any more, or only say which; the newest first.

    Those of another boot of the host or another policy, or older than it takes, and those whose plan has expired, by
    what they say. What can't be read is left: a person looks at that.
    """
    snapshots, found = open_snapshots(context), list[StaleSnapshot]()
    for kept in snapshots.list():
        claim = read_claim(kept)
        if claim is None or not (why := _stale(context, claim, kept.plan)):
            continue
        found.append(StaleSnapshot(claim, why))
        if remove:
            with suppress(UsageError):  # another process has removed it
                snapshots.remove(kept.id)
    return tuple(sorted(found, key=lambda it: it.claim.created, reverse=True))


def _stale(context: Context, claim: SnapshotClaim, plan: bytes) -> str:
    """Why no machine goes on from it, "" where one may; its plan is read where nothing else says so."""
    since = context.policy.freshness.snapshots_not_before
    if claim.boot != boot_id():
        return "the host has booted since"
    if claim.policy != context.policy.digest:
        return "the policy is another one"
    if since is not None and claim.created < since:
        return "the policy takes none from before"
    return "its plan has expired" if read_kept(context, claim.plan, plan).has_expired else ""


@contextmanager
def admit_restored(context: Context, plan: bytes, snapshot: str) -> Iterator[tuple[VerifiedSnapshot, KeptSnapshot]]:
    """The snapshot of this id, and its plan, verified and logged; all that was opened is closed at the end.

    Raises RefusedError, once it is in the log; UsageError where there is no such snapshot.
    """
    tsc = TscClock.start()
    with (
        open_snapshots(context).open(snapshot) as kept,
        _admission(context, plan, (kept.bundle, kept.imported), tsc, admit_snapshot) as verified,
    ):
        yield verified, kept


def _host_and_time(context: Context, tsc: TscClock) -> tuple[HostFacts, datetime]:
    """Return what a snapshot is held against: this host, and the time."""
    facts = host_facts(backends.find(Backend.QEMU), context.key(Role.HOST).public, tsc)
    return facts, HostClock(context.nonces, context.frontend.notice).now()
