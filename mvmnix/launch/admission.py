"""Verifies a plan and puts the verdict into the audit log; whoever starts machines comes through here."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from mvmnix.audit.record import Kind, Record
from mvmnix.errors import RefusedError
from mvmnix.launch.boot_files import OpenFiles
from mvmnix.launch.verify import VerifiedPlan, verify
from mvmnix.model import Digest
from mvmnix.provenance.policy import TrustPolicy


class Journal(Protocol):
    """Where verdicts are recorded; `AuditLog` is one."""

    def append(self, record: Record) -> object:
        """Put it there durably, or raise."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What is to be admitted: bytes of the two bundles, of manifest.json and flake.lock, and the open files.

    `parts` are the bundles of the kept parts that the provenance names.
    """

    plan: bytes
    provenance: bytes
    manifest: bytes
    lock: bytes | None
    files: OpenFiles
    parts: tuple[bytes, ...] = ()


def admit(it: Submission, *, policy: TrustPolicy, journal: Journal, clock: Callable[[], datetime]) -> VerifiedPlan:
    """Verify (launch/verify.py), and log an admission or a refusal. Raises RefusedError, once that is in the log."""
    now = clock()
    try:
        verified = verify(
            plan=it.plan,
            provenance=it.provenance,
            manifest=it.manifest,
            lock=it.lock,
            files=it.files,
            policy=policy,
            now=now,
            parts=it.parts,
        )
    except RefusedError as refused:
        journal.append(
            Record(kind=Kind.REFUSAL, time=now, plan=Digest.of(it.plan), policy=policy.digest, reasons=refused.codes)
        )
        raise
    digests = {artifact.name.partition(".")[0]: artifact.digest for artifact in verified.image.artifacts}
    digests["provenance"] = Digest.of(it.provenance)
    try:
        journal.append(
            Record(kind=Kind.ADMISSION, time=now, plan=verified.digest, policy=policy.digest, digests=digests)
        )
    except BaseException:
        verified.close()
        raise
    return verified
