"""The one rule by which a running machine grants a verb to a client, from its verified plan alone; no I/O."""

from typing import assert_never

from mvmnix.errors import ReasonCode, refuse
from mvmnix.launch.plan import Plan
from mvmnix.model import Posture, Verb


def require_verb(plan: Plan, verb: Verb) -> None:
    """Return if the plan grants the verb. Raises RefusedError [verb-not-granted] otherwise."""
    match plan.posture:
        case Posture.SEALED:
            why, hint = "the machine is sealed: it runs its command and takes no verb", "run an image of posture dev"
        case Posture.DEV if verb in plan.verbs:
            return
        case Posture.DEV:
            why, hint = "the plan doesn't grant this verb", f"make a plan with `mvm plan create --verb {verb}`"
        case _:
            assert_never(plan.posture)
    raise refuse(ReasonCode.VERB_NOT_GRANTED, verb, why, hint)
