"""Verifies a plan and puts the verdict into the audit log; every start of a machine goes through here.

The policy comes first: one with a file that is older than the one that the log saw last decides nothing. All verdicts
have the policy's serials but this one, or it would be the one that was seen last; nor have the records of start and
end, which come later, when another process may have seen a newer policy. That may be so when a verification is over,
too: then the admission would put the older policy back in force, and it is looked at once more.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from mvmnix.audit.record import Record, RecordKind
from mvmnix.errors import RefusedError
from mvmnix.launch.gate.verify import Submission, VerifiedPlan, verify_plan
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.policy.verdicts import VerdictLog, as_verdict, refuse_older
from mvmnix.provenance.verify.summary import VerifiedSummary


def admit(it: Submission, *, policy: TrustPolicy, journal: VerdictLog, clock: Callable[[], datetime]) -> VerifiedPlan:
    """Verify (verify.py), and log an admission or a refusal. Raises RefusedError, once that is in the log."""
    now, plan = clock(), it.digest
    try:
        refuse_older(policy, journal)
        verified = _verified(it, policy, journal, now)
    except RefusedError as refused:
        refusal = Record(kind=RecordKind.REFUSAL, time=now, plan=plan, reasons=refused.codes)
        journal.append(as_verdict(refusal, policy, journal))
        raise
    digests = {artifact.name.partition(".")[0]: artifact.digest for artifact in verified.image.artifacts}
    digests["provenance"] = verified.provenance.bundle
    if isinstance(verified.provenance, VerifiedSummary):
        digests["summary"] = verified.provenance.summary
    try:
        admission = Record(kind=RecordKind.ADMISSION, time=now, plan=plan, policy=policy.digest, digests=digests)
        journal.append(replace(admission, serials=policy.serials))
    except BaseException:
        verified.close()
        raise
    return verified


def _verified(it: Submission, policy: TrustPolicy, journal: VerdictLog, now: datetime) -> VerifiedPlan:
    """Verify, under a policy that is still none of the older ones when that is over. Raises RefusedError."""
    verified = verify_plan(it, policy=policy, now=now)
    try:
        refuse_older(policy, journal)
    except BaseException:
        verified.close()
        raise
    return verified
