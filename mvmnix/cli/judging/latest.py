"""Holds the trust policy in force against the last one that the audit log saw, if there is a log; makes none."""

from pathlib import Path

from mvmnix.api.context import Context
from mvmnix.cli.showing.gather import latest_serials
from mvmnix.errors import MvmnixError, Reason, RefusedError, UnreadableError
from mvmnix.provenance.policy import TrustPolicy

_HINT = (
    "`mvm audit verify` says what is wrong with the log; --policy FILE takes a policy by itself, which starts nothing"
)


def rolled_back(rooms: Context, policy: TrustPolicy) -> tuple[Reason, ...]:
    """Why the policy is older than the last one: then nothing starts. Raises MvmnixError where that can't be told."""
    if not (Path(rooms.roots.paths["state"]) / "audit").is_dir():
        return ()
    latest = latest_serials(rooms)
    if isinstance(latest, MvmnixError):
        raise latest
    return tuple(policy.rolled_back(latest))


def not_older(rooms: Context, policy: TrustPolicy) -> tuple[Reason, ...]:
    """The same for a verdict on something. Raises UnreadableError where it can't be told: then there is none."""
    try:
        return rolled_back(rooms, policy)
    except MvmnixError as error:
        raise UnreadableError(f"the policy was not compared with the audit log: {why(error)}", hint=_HINT) from error


def why(error: MvmnixError) -> str:
    """What is wrong, without what to do about it."""
    reasons = error.reasons if isinstance(error, RefusedError) else ()
    return "; ".join(reason.why for reason in reasons) or error.message
