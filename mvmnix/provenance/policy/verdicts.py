"""Holds a policy against the one that the audit log saw last, and says in a record which policy decided."""

from dataclasses import replace
from typing import Protocol

from mvmnix.audit.record import Record, Serials
from mvmnix.errors import RefusedError
from mvmnix.provenance.policy.policy import TrustPolicy


class VerdictLog(Protocol):
    """Where verdicts are recorded; `AuditLog` is one."""

    def append(self, record: Record) -> object:
        """Put it there durably, or raise."""

    def latest_serials(self) -> Serials | None:
        """The policy's serials of the last verdict, from verified bytes; None where there is none. Or raise."""


def refuse_older(policy: TrustPolicy, journal: VerdictLog) -> None:
    """Raise RefusedError [policy-rollback] for a policy with a file that is older than the one of the last verdict."""
    rolled_back = tuple(policy.rolled_back(journal.latest_serials()))
    if rolled_back:
        raise RefusedError(*rolled_back)


def as_verdict(record: Record, policy: TrustPolicy, journal: VerdictLog) -> Record:
    """The record with the policy that decided it, and with its serials unless they are older than the last ones."""
    older = any(policy.rolled_back(journal.latest_serials()))
    return replace(record, policy=policy.digest, serials=None if older else policy.serials)
