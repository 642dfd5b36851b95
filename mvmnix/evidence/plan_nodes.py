"""Takes a signed plan through those steps of the gate that start nothing, and draws it with what it rests on; pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, StepResult
from mvmnix.evidence.build import Judge
from mvmnix.evidence.graph import Draft, EdgeKind, Node, NodeKind, Verdict, refused, unverified, verdict_of, verified
from mvmnix.evidence.trust import POLICY, signing
from mvmnix.formats.strict import show_time
from mvmnix.launch.gate.verify import SignedPlan, read_plan, verify_plan_without_image
from mvmnix.plan.plan import Plan
from mvmnix.plural import counted
from mvmnix.provenance.verify.authentication import Authentic

#: The key of the plan's node.
PLAN: Final = "plan"
#: Steps of launch/gate/verify.py: that it was made under the policy in force; and those about the image's own files.
_POLICY_STEP, _OF_THE_IMAGE = 10, (21, 22, 23)
_NOT_KEPT: Final = MvmnixError("its image isn't kept here, so the gate's other steps can't be taken")
#: What may have been otherwise when a plan was used.
_OF_THEIR_TIME: Final = frozenset({ReasonCode.PLAN_EXPIRED, ReasonCode.POLICY_MISMATCH})

#: Takes a signed plan and a time through the whole gate, with the image's own files: None, or why it did not pass.
type Gate = Callable[[SignedPlan, datetime], MvmnixError | None]


@dataclass(frozen=True, slots=True)
class CheckedPlan:
    """A plan as it was checked: who signed it, what they all say, and the verdict on it."""

    signed: tuple[Authentic, ...]
    plan: Plan | None
    verdict: Verdict


def check_plan(bundle: bytes, judge: Judge, gate: Gate | None, start: datetime | None = None) -> CheckedPlan:
    """Verify a plan, now or as of `start`, when it was used by the sealed record of that.

    `gate` is None where its image is not kept here.
    """
    try:
        it = read_plan(bundle, judge.policy)
    except RefusedError as error:
        return CheckedPlan((), None, refused(error.reasons))
    moment = start or judge.now
    problem = _NOT_KEPT if gate is None else gate(it, moment)
    if problem is None:
        when = "now" if start is None else "as of the start that the audit log seals"
        return CheckedPlan(it.signed, it.plan, verified(f"every step of the gate passed, {when}; nothing was started"))
    steps = problem.steps if isinstance(problem, RefusedError) and problem.steps else _alone(it, moment)
    refusing = [step for step in steps if step.reasons and step.number not in _OF_THE_IMAGE]
    return CheckedPlan(it.signed, it.plan, _verdict(it.plan, refusing, problem, was_used=start is not None))


def _alone(it: SignedPlan, moment: datetime) -> tuple[StepResult, ...]:
    """The steps that need nothing but the plan."""
    try:
        return verify_plan_without_image(it, it.named, moment).results
    except RefusedError as error:
        return error.steps


def _verdict(plan: Plan, refusing: Sequence[StepResult], problem: MvmnixError, *, was_used: bool) -> Verdict:
    if was_used and [step.number for step in refusing] == [_POLICY_STEP]:
        return unverified(
            f"it was admitted under the trust policy {plan.policy}, which is not the one in force any more"
        )
    if refusing:
        return refused(reason for step in refusing for reason in step.reasons)
    if not isinstance(problem, RefusedError):
        return verdict_of(problem)
    codes = ", ".join(dict.fromkeys(problem.codes))
    return unverified(f"what it rests on is refused [{codes}]")


def undated_node(shown: CheckedPlan) -> CheckedPlan:
    """A plan that was used at an unknown time: what was judged by the time, or by the policy of today, says nothing."""
    if any(reason.code not in _OF_THEIR_TIME for reason in shown.verdict.reasons):
        return shown
    why = "when it was started can't be told: no audit log that verifies has the start"
    return replace(shown, verdict=unverified(why))


def with_replay(shown: CheckedPlan, judge: Callable[[Plan], None]) -> CheckedPlan:
    """The same plan with what a start would say of it (launch/gate/replay.py, steps 1 to 5); nothing is spent here."""
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


def add_plan(draft: Draft, digest: Digest, shown: CheckedPlan, *, image: str, provenance: str) -> str:
    """Add a plan, above the image and the provenance with these keys; returns its own."""
    facts: list[tuple[str, str]] = [fact for each in shown.signed for fact in signing(each)]
    name = "not trusted"
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
    draft.add(Node(PLAN, NodeKind.PLAN, name, shown.verdict, str(digest), signer, tuple(facts)))
    draft.add_edges(PLAN, EdgeKind.RUNS, image)
    draft.add_edges(PLAN, EdgeKind.RESTS_ON, provenance)
    draft.add_edges(PLAN, EdgeKind.VERIFIED_UNDER, POLICY)
    return PLAN


def missing_plan(draft: Draft, digest: Digest) -> None:
    """Add a plan of which nothing but the digest is known."""
    why = unverified("its bundle isn't kept here")
    draft.add(Node(PLAN, NodeKind.PLAN, "missing", why, str(digest)))


def missing_image(draft: Draft, name: str, manifest: Digest | None) -> str:
    """Add an image of which no more is known than what a plan or a machine says; returns its key."""
    why = unverified("it isn't kept here; `mvm build` or `mvm image load` brings it")
    return draft.add(Node("image", NodeKind.IMAGE, name, why, "" if manifest is None else str(manifest)))
