"""Takes, lists and removes snapshots, starts machines that go on from them, and admits them in the launcher's fork."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from mvmnix.api.admission import open_snapshots, submit_for
from mvmnix.api.calls import connect
from mvmnix.api.context import Context
from mvmnix.api.launch import StartOptions, start_machine
from mvmnix.digest import Digest
from mvmnix.errors import RefusedError
from mvmnix.keys import Role
from mvmnix.launch import backends
from mvmnix.launch.control.calls import take_snapshot
from mvmnix.launch.control.drivers import run
from mvmnix.launch.control.messages import SnapshotKept
from mvmnix.launch.gate.admission import admit_snapshot
from mvmnix.launch.gate.clock import HostClock
from mvmnix.launch.gate.snapshot import SnapshotSubmission, VerifiedSnapshot
from mvmnix.launch.runtime.snapshot_facts import host_facts
from mvmnix.launch.snapshots.statement import SnapshotClaim, from_statement
from mvmnix.launch.snapshots.store import KeptSnapshot
from mvmnix.plan.backend import Backend
from mvmnix.provenance.bundle import envelope, statement
from mvmnix.vmm.tsc import TscClock


def create_snapshot(context: Context, machine: str, *, ends: bool = False) -> SnapshotKept:
    """Take a snapshot of the running machine with this id or name; with `ends` the machine ends with it.

    Raises UsageError for a machine that doesn't run, RefusedError [verb-not-granted, snapshot-forbidden], MvmnixError
    where its guest can't be saved now.
    """
    with connect(context.machines, machine) as connection:
        return run(take_snapshot(connection, ends=ends))


def list_snapshots(context: Context) -> tuple[SnapshotClaim, ...]:
    """Return what the kept snapshots say, the newest first: nothing of it is verified. What can't be read is left out.

    What killed processes left is removed.
    """
    snapshots = open_snapshots(context)
    snapshots.sweep()
    found = (_claim(kept.bundle) for kept in snapshots.list())
    return tuple(sorted((claim for claim in found if claim is not None), key=lambda claim: claim.created, reverse=True))


def _claim(bundle: bytes) -> SnapshotClaim | None:
    try:
        return from_statement(statement.parse(envelope.parse_bundle(bundle).payload))
    except (RefusedError, ValueError):
        return None


def remove_snapshots(context: Context, names: tuple[str, ...]) -> Iterator[str]:
    """Remove each snapshot, its key first; yield its id. Raises UsageError where there is none."""
    snapshots = open_snapshots(context)
    for name in names:
        snapshots.open(name).close()
        snapshots.remove(name)
        yield name


def restore_snapshot(context: Context, snapshot: str, options: StartOptions) -> str:
    """Start a machine that goes on from a snapshot, without this process; return its id.

    Raises UsageError where there is none, RefusedError, which is in the log; MvmnixError.
    """
    with open_snapshots(context).open(snapshot) as kept:
        return run(start_machine(context, kept.plan, replace(options, snapshot=snapshot))).id


@contextmanager
def admit_restored(context: Context, plan: bytes, snapshot: str) -> Iterator[tuple[VerifiedSnapshot, KeptSnapshot]]:
    """The snapshot of this id, and its plan, verified and logged; all that was opened is closed at the end.

    Raises RefusedError, once it is in the log; UsageError where there is no such snapshot.
    """
    tsc, key = TscClock.start(), context.key(Role.HOST).public
    with open_snapshots(context).open(snapshot) as kept:
        with context.recorded(plan=Digest.of(plan)):
            facts = host_facts(backends.find(Backend.QEMU), key, tsc)
            moment = HostClock(context.nonces, context.frontend.notice).now()
            context.read_policy_again()
        with submit_for(context, plan) as submission:
            handed = SnapshotSubmission(kept.bundle, submission)
            policy, journal = context.policy, context.journal
            verified = admit_snapshot(handed, policy=policy, journal=journal, clock=lambda: moment, host=facts)
        with verified:
            yield verified, kept
