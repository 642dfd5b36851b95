"""Takes a signed plan through those steps of the gate that start nothing, and draws it with what it rests on; pure."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.evidence.build import Judge
from mvmnix.evidence.graph import Draft, Kind, Meaning, Node, Verdict, refused, unverified, verdict_of, verified
from mvmnix.evidence.trust import POLICY, signing
from mvmnix.launch import signatures
from mvmnix.launch.plan import Plan
from mvmnix.launch.steps import SHEET_STEPS, Handed, Sheet, plan_of
from mvmnix.model import Digest
from mvmnix.plural import counted
from mvmnix.provenance import statement
from mvmnix.provenance.authenticate import Authentic
from mvmnix.strict import show_time

#: The key of the plan's node.
PLAN: Final = "plan"
_WHAT: Final = "the plan"
_OWN: Final = frozenset({_WHAT, "the kernel command line"})
#: What may have been otherwise when a plan was used.
_OF_THEIR_TIME: Final = frozenset({ReasonCode.PLAN_EXPIRED, ReasonCode.POLICY_MISMATCH})

#: Takes a plan's bundle and a time through the whole gate, with the image's own files: None, or why it did not pass.
type Gate = Callable[[bytes, datetime], MvmnixError | None]


@dataclass(frozen=True, slots=True)
class Shown:
    """A plan as it was checked: who signed it, what they all say, and the verdict on it."""

    signed: tuple[Authentic, ...]
    plan: Plan | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Past:
    """A plan that was used already: at that moment, by the sealed record of the start."""

    moment: datetime


def check_plan(bundle: bytes, judge: Judge, gate: Gate | None, past: Past | None = None) -> Shown:
    """Verify a plan, now or as of a moment in the past; `gate` is None where its image is not kept here."""
    try:
        signed = signatures.gather(bundle, judge.policy.trust)
        plan = plan_of(statement.parse(signed[0].payload))
    except RefusedError as error:
        return Shown((), None, refused(error.reasons))
    moment = judge.now if past is None else past.moment
    handed = Handed(Digest.of(bundle), plan.manifest or Digest.of(b""), plan.provenance)
    sheet = Sheet(plan, signed, judge.policy, handed, moment)
    if reasons := tuple(reason for step in SHEET_STEPS for reason in step(sheet)):
        if past is not None and {reason.code for reason in reasons} == {ReasonCode.POLICY_MISMATCH}:
            why = f"it was admitted under the trust policy {plan.policy}, which is not the one in force any more"
            return Shown(signed, plan, unverified(why))
        return Shown(signed, plan, refused(reasons))
    if gate is None:
        return Shown(signed, plan, unverified("its image isn't kept here, so the gate's other steps can't be taken"))
    return Shown(signed, plan, _through(gate(bundle, moment), past))


def _through(problem: MvmnixError | None, past: Past | None) -> Verdict:
    if problem is None:
        when = "now" if past is None else "as of the start that the audit log seals"
        return verified(f"every step of the gate passed, {when}; nothing was started")
    if not isinstance(problem, RefusedError):
        return verdict_of(problem)
    if own := [reason for reason in problem.reasons if reason.what in _OWN]:
        return refused(own)
    codes = ", ".join(dict.fromkeys(problem.codes))
    return unverified(f"what it rests on is refused [{codes}]")


def undated(shown: Shown) -> Shown:
    """A plan that was used nobody knows when: what was judged by the time, or by the policy of today, says nothing."""
    if any(reason.code not in _OF_THEIR_TIME for reason in shown.verdict.reasons):
        return shown
    why = "when it was started can't be told: no audit log that verifies has the start"
    return replace(shown, verdict=unverified(why))


def with_replay(shown: Shown, judge: Callable[[Plan], None]) -> Shown:
    """The same plan with what a start would say of it (launch/replay/gate.py, steps 1 to 5); nothing is spent here."""
    if shown.plan is None:
        return shown
    try:
        judge(shown.plan)
    except RefusedError as error:
        known = {reason.code for reason in shown.verdict.reasons}
        more = (reason for reason in error.reasons if reason.code not in known)
        return replace(shown, verdict=refused((*shown.verdict.reasons, *more)))
    except MvmnixError as error:
        if not shown.verdict.reasons:
            return replace(shown, verdict=unverified(f"whether it may still start can't be told: {error.message}"))
    return shown


def add_plan(draft: Draft, digest: Digest, shown: Shown, *, image: str, provenance: str) -> str:
    """Add a plan, above the image and the provenance with these keys; returns its own."""
    facts: list[tuple[str, str]] = [fact for each in shown.signed for fact in signing(each)]
    name = "not believed"
    if shown.plan is not None:
        plan, limits = shown.plan, shown.plan.limits.shown()
        name = f"to run {plan.image}"
        facts += [
            ("valid", f"from {show_time(plan.window.not_before)} until {show_time(plan.window.not_after)}"),
            (
                "means",
                f"{counted(plan.vcpus, 'processor')}, {plan.memory_mib} MiB, {plan.scratch_mib} MiB of scratch space",
            ),
            *([("data disk", f"{plan.data.size_mib} MiB at {plan.data.path}")] if plan.data else []),
            *([("limits", ", ".join(f"{name} {value}" for name, value in limits.items()))] if limits else []),
            ("use", str(plan.use)),
            ("posture", str(plan.posture)),
            ("verbs", ", ".join(sorted(plan.verbs)) or "none"),
            ("isolation", str(plan.isolation)),
            ("held by", ", or ".join(it.explained for it in plan.boundaries)),
            ("backend", str(plan.backend)),
            ("made under policy", str(plan.policy)),
        ]
    signer = ", ".join(each.signer.name for each in shown.signed)
    draft.add(Node(PLAN, Kind.PLAN, name, shown.verdict, str(digest), signer, tuple(facts)))
    draft.say(PLAN, Meaning.RUNS, image)
    draft.say(PLAN, Meaning.RESTS_ON, provenance)
    draft.say(PLAN, Meaning.VERIFIED_UNDER, POLICY)
    return PLAN


def missing_plan(draft: Draft, digest: Digest) -> None:
    """Add a plan of which nothing but the digest is known."""
    why = unverified("its bundle isn't kept here")
    draft.add(Node(PLAN, Kind.PLAN, "missing", why, str(digest)))


def missing_image(draft: Draft, name: str, manifest: Digest | None) -> str:
    """Add an image of which no more is known than what a plan or a machine says; returns its key."""
    why = unverified("it isn't kept here; `mvm build` or `mvm image load` brings it")
    return draft.add(Node("image", Kind.IMAGE, name, why, "" if manifest is None else str(manifest)))
