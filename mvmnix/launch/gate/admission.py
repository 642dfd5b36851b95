"""Verifies a plan or a snapshot, and puts the verdict into the audit log; every start of a machine goes through here.

The policy comes first: one with a file that is older than the one that the log saw last decides nothing. All verdicts
have the policy's serials but this one, or it would be the one that was seen last; nor have the records of start and
end, which come later, when another process may have seen a newer policy. That may be so when a verification is over,
too: then the admission would put the older policy back in force, and it is looked at once more.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial

from mvmnix.audit.record import Record, RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import RefusedError
from mvmnix.launch.gate.snapshot import (
    HostFacts,
    SnapshotSubmission,
    VerifiedImport,
    VerifiedSnapshot,
    verify_snapshot,
)
from mvmnix.launch.gate.verify import Submission, VerifiedPlan, verify_plan
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.policy.verdicts import VerdictLog, as_verdict, refuse_older
from mvmnix.provenance.verify.summary import VerifiedSummary


def admit(it: Submission, *, policy: TrustPolicy, journal: VerdictLog, clock: Callable[[], datetime]) -> VerifiedPlan:
    """Verify (verify.py), and log an admission or a refusal. Raises RefusedError, once that is in the log."""
    now = clock()
    verified = _verified(it.digest, partial(verify_plan, it, policy=policy, now=now), policy, journal, now)
    with _closed_on_failure(verified):
        journal.append(replace(_admission(verified, now, {}), serials=policy.serials))
    return verified


def admit_snapshot(
    it: SnapshotSubmission,
    *,
    policy: TrustPolicy,
    journal: VerdictLog,
    clock: Callable[[], datetime],
    host: HostFacts,
) -> VerifiedSnapshot:
    """Verify a snapshot and its plan (snapshot.py), and log an admission or a refusal. Raises as `admit` does."""
    now = clock()
    verified = check_snapshot(verify_snapshot, it, policy=policy, journal=journal, clock=lambda: now, host=host)
    with _closed_on_failure(verified):
        admission = _admission(verified.plan, now, {"snapshot": verified.digest})
        journal.append(replace(admission, serials=policy.serials))
    return verified


def check_snapshot[T: VerifiedSnapshot | VerifiedImport](
    verify: Callable[..., T],
    it: SnapshotSubmission,
    *,
    policy: TrustPolicy,
    journal: VerdictLog,
    clock: Callable[[], datetime],
    host: HostFacts,
) -> T:
    """Verify a snapshot by one of snapshot.py's functions, and log a refusal; an admission is the caller's to log.

    Raises as `admit` does.
    """
    now = clock()
    return _verified(it.plan.digest, partial(verify, it, policy=policy, now=now, host=host), policy, journal, now)


def _verified[T: VerifiedPlan | VerifiedSnapshot | VerifiedImport](
    plan: Digest, verify: Callable[[], T], policy: TrustPolicy, journal: VerdictLog, now: datetime
) -> T:
    """Verify, under a policy that is none of the older ones, and still isn't when that is over. Raises RefusedError."""
    try:
        refuse_older(policy, journal)
        verified = verify()
        with _closed_on_failure(verified):
            refuse_older(policy, journal)
    except RefusedError as refused:
        refusal = Record(kind=RecordKind.REFUSAL, time=now, plan=plan, reasons=refused.codes)
        journal.append(as_verdict(refusal, policy, journal))
        raise
    return verified


@contextmanager
def _closed_on_failure(verified: VerifiedPlan | VerifiedSnapshot | VerifiedImport) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if not isinstance(verified, VerifiedImport):  # which holds nothing open
            verified.close()
        raise


def _admission(plan: VerifiedPlan, now: datetime, more: Mapping[str, Digest]) -> Record:
    digests = {artifact.name.partition(".")[0]: artifact.digest for artifact in plan.image.artifacts}
    digests["provenance"] = plan.provenance.bundle
    if isinstance(plan.provenance, VerifiedSummary):
        digests["summary"] = plan.provenance.summary
    kind = RecordKind.ADMISSION
    return Record(kind=kind, time=now, plan=plan.digest, policy=plan.policy, digests={**digests, **more})
