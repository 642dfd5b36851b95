"""Reads who signed a plan: one bundle, or several joined by newlines, each another signature on the same bytes; pure.

A bundle in canonical JSON has no line break, so that there is one way to take such a file apart.
"""

from typing import Final

from mvmnix.errors import Reason, ReasonCode, RefusedError, StepResult, refuse
from mvmnix.formats import strict
from mvmnix.keys import Role
from mvmnix.plan.plan import PREDICATE_TYPE
from mvmnix.provenance.bundle import envelope, statement
from mvmnix.provenance.identity.trust import Trust
from mvmnix.provenance.policy.trust_text import MOST_VOICES
from mvmnix.provenance.verify.authentication import Authentic, authenticate

#: How each bundle begins that mvm writes: keys are sorted.
BEGIN: Final = b'{"dsseEnvelope":'
_WHAT: Final = "the plan"


def split(data: bytes) -> tuple[bytes, ...]:
    """The bundles of a plan: one, whatever it looks like, or several as mvm writes them, without a line more.

    Raises RefusedError for more than `MOST_VOICES`, and UNSIGNED for the statement of a plan alone.
    """
    bundles = tuple(data.split(b"\n"))
    if not all(bundle.startswith(BEGIN) for bundle in bundles):
        refuse_unsigned(data)
        return (data,)
    if len(bundles) > MOST_VOICES:
        why = f"it has more than {MOST_VOICES} signatures"
        raise refuse(ReasonCode.BUNDLE_MALFORMED, _WHAT, why, "hand in as many bundles as the policy asks for")
    return bundles


def refuse_unsigned(data: bytes) -> None:
    """Refuse an unsigned plan, in any formatting; everything else is left to the reader of bundles."""
    if _kind(data) == PREDICATE_TYPE:
        raise refuse(ReasonCode.UNSIGNED, _WHAT, "this plan isn't signed", "sign it: `mvm plan sign FILE`")


def is_statement(data: bytes) -> bool:
    """Whether this is JSON that says of itself to be an in-toto statement, and no bundle of one."""
    try:
        value = strict.parse_json(data, limit=statement.STATEMENT_LIMIT)
    except strict.MalformedError:
        return False
    return isinstance(value, dict) and value.get("_type") == statement.STATEMENT_TYPE


def _kind(data: bytes) -> str:
    try:
        return statement.parse(data).predicate_type
    except RefusedError:
        return ""


def gather(data: bytes, trust: Trust) -> tuple[Authentic, ...]:
    """Take each bundle of a plan through steps 1 to 5, for itself. Raises RefusedError with what any of them lacks."""
    found: list[Authentic] = []
    reasons: list[Reason] = []
    steps: list[StepResult] = []
    bundles = split(data)
    for number, bundle in enumerate(bundles, 1):
        what = _WHAT if len(bundles) == 1 else f"bundle {number} of {_WHAT}"
        try:
            found.append(authenticate(bundle, trust=trust, role=Role.PLANNER, what=what))
        except RefusedError as error:
            reasons.extend(error.reasons)
            steps.extend(error.steps)
    if reasons:
        raise RefusedError(*reasons, steps=(*(step for each in found for step in each.steps), *steps))
    return tuple(found)


def payload(data: bytes) -> bytes:
    """The statement that a plan's bundles are about, not verified. Raises RefusedError when they differ."""
    payloads = {envelope.parse_bundle(bundle).payload for bundle in split(data)}
    if len(payloads) != 1:
        why = f"its bundles are about {len(payloads)} different statements"
        raise refuse(ReasonCode.PLAN_THRESHOLD, _WHAT, why, "join bundles of one plan")
    return payloads.pop()
