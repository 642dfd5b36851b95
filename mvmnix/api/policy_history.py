"""Compares the trust policy in force with the last one in the audit log, if there is a log; makes none."""

from pathlib import Path

from mvmnix.api import audit
from mvmnix.api.context import Context
from mvmnix.audit.reading import records_backwards
from mvmnix.audit.record import Serials
from mvmnix.audit.tail import is_begun
from mvmnix.errors import MvmnixError, Reason, RefusedError, UnreadableError
from mvmnix.provenance.policy.policy import TrustPolicy

_HINT = (
    "`mvm audit verify` says what is wrong with the log; --policy FILE takes a policy by itself, which starts nothing"
)


def latest_serials(context: Context) -> Serials | MvmnixError | None:
    """The serials of the policy that the audit log saw last, None where there is no log; or why they can't be told."""
    try:
        hold_log(context)
        if not is_begun(context.audit):
            return None
        found = (listed.record.serials for listed in records_backwards(context.audit, context.log_key))
        return next((serials for serials in found if serials is not None), None)
    except MvmnixError as error:
        return error


def hold_log(context: Context) -> None:
    """Compare the log with what its anchors keep, as a start does. Raises RefusedError."""
    audit.check_anchors(lambda: context.journal, context.config.anchors)


def rolled_back(context: Context, policy: TrustPolicy) -> tuple[Reason, ...]:
    """Why the policy is older than the last one: then nothing starts. Raises MvmnixError where that can't be told."""
    if not (Path(context.roots.paths["state"]) / "audit").is_dir():
        return ()
    latest = latest_serials(context)
    if isinstance(latest, MvmnixError):
        raise latest
    return tuple(policy.rolled_back(latest))


def not_older(context: Context, policy: TrustPolicy) -> tuple[Reason, ...]:
    """The same for a verdict on something. Raises UnreadableError where it can't be told: then there is none."""
    try:
        return rolled_back(context, policy)
    except MvmnixError as error:
        raise UnreadableError(f"the policy was not compared with the audit log: {why(error)}", hint=_HINT) from error


def why(error: MvmnixError) -> str:
    """What is wrong, without what to do about it."""
    reasons = error.reasons if isinstance(error, RefusedError) else ()
    return "; ".join(reason.why for reason in reasons) or error.message
