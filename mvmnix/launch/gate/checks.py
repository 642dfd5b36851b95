"""The steps by which verify.py holds a plan against everything else; each yields the reasons that it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError, refuse
from mvmnix.formats.strict import show_time
from mvmnix.model import Image, Posture
from mvmnix.plan import kernel_command_line
from mvmnix.plan import plan as plans
from mvmnix.plan.plan import Plan
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.bundle.statement import Statement
from mvmnix.provenance.isolation import Boundary, Isolation
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.verify.authentication import Authentic, Quorum
from mvmnix.provenance.verify.checks import subject_differences
from mvmnix.provenance.verify.image_layouts import ImageEvidence
from mvmnix.provenance.verify.summary import Summary, VerifiedSummary, verify_summary
from mvmnix.provenance.verify.verify import Verified, verify_provenance
from mvmnix.vmm.boot_files import BootFiles, OpenFiles, read_only, releasable_copy, sealed_copy, verity_reasons

_WHAT: Final = "the plan"
_REPLAN: Final = "make and sign a plan anew: `mvm plan create`, `mvm plan sign`"


@dataclass(frozen=True, slots=True)
class InputDigests:
    """The digests of the bytes that were handed in: the plan's bundles as one, manifest.json, the provenance bundle.

    `provenance` is None where a summary was handed in instead: step 23 then holds it against what the plan names.
    """

    plan: Digest
    manifest: Digest
    provenance: Digest | None


@dataclass(frozen=True, slots=True)
class AuthenticPlan:
    """A plan, each of its bundles authentic, and what it is held against before anything of the image is read."""

    plan: Plan
    signed: tuple[Authentic, ...]
    policy: TrustPolicy
    handed: InputDigests
    now: datetime


@dataclass(frozen=True, slots=True)
class SummarizedImage:
    """An image with the word of a verifier (VSA) in place of its evidence: the bytes of manifest.json, and that."""

    manifest: bytes
    summary: Summary


@dataclass(frozen=True, slots=True)
class PlanWithImage:
    """The plan and the image, whose manifest is the one that the plan names, with what the last steps look at."""

    plan: Plan
    image: Image
    files: OpenFiles
    evidence: ImageEvidence | SummarizedImage
    policy: TrustPolicy
    now: datetime


def step_6_statement(authentic: Authentic) -> Statement:
    """6. An in-toto statement."""
    return statement.parse(authentic.payload)


def step_7_predicate_type(it: Statement) -> None:
    """7. A plan, and not for instance a provenance, by a signer who may sign both."""
    if it.predicate_type != plans.PREDICATE_TYPE:
        why = f"its predicate is {it.predicate_type!r}, not {plans.PREDICATE_TYPE!r}"
        raise refuse(ReasonCode.PREDICATE_TYPE, _WHAT, why, "hand in the plan's bundle")


def step_8_plan(it: Statement) -> Plan:
    """8. Every field in its bounds."""
    return plans.from_statement(it)


def plan_of(it: Statement) -> Plan:
    """The plan that a statement is, by steps 7 and 8 alone; nothing was held against it. Raises RefusedError."""
    step_7_predicate_type(it)
    return step_8_plan(it)


def step_9_window(it: AuthenticPlan) -> Iterator[Reason]:
    """9. Neither too early nor too late."""
    window = it.plan.window
    if it.now < window.not_before:
        why = f"it is valid from {show_time(window.not_before)}, and now it is {show_time(it.now)}"
        yield Reason(ReasonCode.PLAN_NOT_YET_VALID, _WHAT, why, f"wait, set the clock, or {_REPLAN}")
    if it.now >= window.not_after:
        why = f"it was valid until {show_time(window.not_after)}, and now it is {show_time(it.now)}"
        yield Reason(ReasonCode.PLAN_EXPIRED, _WHAT, why, _REPLAN)


def step_10_policy(it: AuthenticPlan) -> Iterator[Reason]:
    """10. The very bytes of the policy in force."""
    if it.plan.policy != it.policy.digest:
        why = f"it was made under policy {it.plan.policy}; the current policy is {it.policy.digest}"
        yield Reason(ReasonCode.POLICY_MISMATCH, _WHAT, why, f"look at trust.toml, then {_REPLAN}")


def step_11_isolation(it: AuthenticPlan) -> Iterator[Reason]:
    """11. The isolation that the policy requires, as far as a plan says it; no proxy or template that it refuses."""
    yield from isolation_reasons(it.plan, it.policy)
    yield from proxy_reasons(it.plan, it.policy)
    if it.plan.use.is_untold and not it.policy.warm_starts:
        why = "its machines make a template or start from one, and the policy lets none start so"
        hint = "have them boot; or, if templates are meant, change [launch] in trust.toml: warm-starts"
        yield Reason(ReasonCode.TEMPLATE_FORBIDDEN, _WHAT, why, hint)


def isolation_reasons(plan: Plan, policy: TrustPolicy) -> Iterator[Reason]:
    """Why the policy admits no plan with this isolation; whether this host has what is required shows at the start."""
    if policy.isolation is Isolation.HARDWARE:
        if Boundary.HARDWARE not in plan.boundaries:
            held = ", ".join(it.explained for it in plan.boundaries)
            why = f"what it starts is held by {held}, and the policy requires hardware virtualization"
            yield Reason(ReasonCode.HARDWARE_REQUIRED, _WHAT, why, f"{_REPLAN}, for qemu with accelerator any or kvm")
    elif not plan.isolation.suffices(policy.isolation):
        why = f"it asks for the isolation {str(plan.isolation)!r}, the policy requires {str(policy.isolation)!r}"
        yield Reason(ReasonCode.ISOLATION_UNAVAILABLE, _WHAT, why, _REPLAN)


def proxy_reasons(plan: Plan, policy: TrustPolicy) -> Iterator[Reason]:
    """Why the policy admits no plan with this network: a proxy judges addresses that mvm would have judged."""
    if plan.network is not None and plan.network.proxy is not None and not policy.network_proxy:
        why = f"its guest's connections go out by the proxy {plan.network.proxy.typed}, and the policy refuses proxies"
        yield Reason(ReasonCode.NETWORK_FORBIDDEN, _WHAT, why, f"{_REPLAN}, without --network-proxy")


def step_12_command_line(it: AuthenticPlan) -> Iterator[Reason]:
    """12. One reading, and room for what a backend adds."""
    for why in kernel_command_line.problems(it.plan.command_line):
        yield Reason(ReasonCode.COMMAND_LINE, "the kernel command line", why, "change the image's kernel options")


def step_13_manifest(it: AuthenticPlan) -> Iterator[Reason]:
    """13. This image and no other."""
    if it.plan.manifest != it.handed.manifest:
        why = f"it expects the manifest {it.plan.manifest}, got {it.handed.manifest}"
        yield Reason(ReasonCode.PLAN_MISMATCH, _WHAT, why, f"name the image it was made for, or {_REPLAN}")


def step_14_provenance(it: AuthenticPlan) -> Iterator[Reason]:
    """14. This evidence and no other."""
    if it.handed.provenance not in {None, it.plan.provenance}:
        why = f"it expects the provenance bundle {it.plan.provenance}, got {it.handed.provenance}"
        yield Reason(ReasonCode.PROVENANCE_MISMATCH, _WHAT, why, f"hand in the bundle it was made with, or {_REPLAN}")


def step_15_signers(it: AuthenticPlan) -> Iterator[Reason]:
    """15. The first bundle's bytes are those that were read; a signer counts once, by key or identity, a key once."""
    hint = "have another planner sign it too: `mvm plan sign`; instead of `mvm run`, begin with `mvm plan create`"
    first, *others = it.signed
    for number, each in enumerate(others, 2):
        if each.payload != first.payload:
            why = f"bundle {number} is about another statement than the first"
            yield Reason(ReasonCode.PLAN_THRESHOLD, _WHAT, why, hint)
    quorum = Quorum()
    for each in it.signed:
        if why := quorum.count(each):
            yield Reason(ReasonCode.PLAN_THRESHOLD, _WHAT, why, hint)
    if len(quorum) < it.policy.thresholds.plans:
        why = f"{len(quorum)} of {it.policy.thresholds.plans} signers that the policy asks for have signed it"
        yield Reason(ReasonCode.PLAN_THRESHOLD, _WHAT, why, hint)


def step_16_policy_expiry(it: AuthenticPlan) -> Iterator[Reason]:
    """16. An expired policy, one that was not reviewed in time, decides nothing."""
    yield from it.policy.expired(it.now)


def step_17_fresh(it: AuthenticPlan) -> Iterator[Reason]:
    """17. A signer may not decide for how long the plan is trusted."""
    window, bounds = it.plan.window, it.policy.freshness
    for what, found, bound in (
        ("is valid for", window.not_after - window.not_before, bounds.plan_window),
        ("has been valid for", it.now - window.not_before, bounds.plan_age),
    ):
        if bound is not None and found > bound:
            why = f"it {what} {found}, and the policy accepts at most {bound}"
            yield Reason(ReasonCode.PLAN_STALE, _WHAT, why, f"{_REPLAN}, with a shorter --valid-for")


def step_18_not_revoked(it: AuthenticPlan) -> Iterator[Reason]:
    """18. As the bundles that were handed in, as one of them, or as the statement in them; and the image."""
    revoked = it.policy.trust.revocations.digests
    hint = "make and sign another one; `mvm policy check` lists what is revoked"
    ours = {it.handed.plan, *(digest for each in it.signed for digest in (each.digest, Digest.of(each.payload)))}
    for digest in sorted(revoked & ours):
        yield Reason(ReasonCode.PLAN_REVOKED, _WHAT, f"{digest} is revoked", hint)
    for subject in it.plan.subjects:
        if subject.digest in revoked:
            told = it.policy.trust.revocations.words(subject.digest)
            why = f"the {subject.name} that it starts ({subject.digest}) {told}"
            yield Reason(ReasonCode.IMAGE_REVOKED, _WHAT, why, hint)


def step_19_subjects(it: PlanWithImage) -> Iterator[Reason]:
    """19. The files of one build, not of two."""
    yield from subject_differences(it.plan.subjects, it.image.artifacts, what=_WHAT, hint=_REPLAN)


def step_20_agreement(it: PlanWithImage) -> Iterator[Reason]:
    """20. What plan and manifest both say, they say alike; the plan may grant less than the image offers."""
    plan, image = it.plan, it.image
    for name, ours, theirs in (
        ("image name", plan.image, image.name),
        ("verity parameters", plan.verity, image.verity),
        ("kernel command line", plan.command_line, image.command_line),
    ):
        if ours != theirs:
            yield Reason(ReasonCode.PLAN_MISMATCH, _WHAT, f"its {name} is {ours!s}, the manifest's {theirs!s}", _REPLAN)
    if image.posture is Posture.SEALED and plan.posture is not Posture.SEALED:
        hint = f"build the image with posture dev if you mean to, or {_REPLAN}"
        yield Reason(ReasonCode.PLAN_MISMATCH, _WHAT, "it opens an image that was built sealed", hint)
    if (tier := plan.limits.system_calls) and not tier.within(image.system_calls):
        why = f"its filter of system calls is {tier}, which lets through more than the image's: {image.system_calls}"
        yield Reason(ReasonCode.PLAN_MISMATCH, _WHAT, why, f"give the image that one if you mean to, or {_REPLAN}")
    for verb in sorted(plan.verbs - image.verbs):
        why = f"it grants {verb}, which the image does not offer"
        yield Reason(ReasonCode.VERB_NOT_GRANTED, _WHAT, why, f"add it to the image's verbs, or {_REPLAN}")


def step_21_boot_files(it: PlanWithImage, boot: BootFiles) -> Iterator[Reason]:
    """21. The bytes that are hashed are those that boot."""
    kernel, initrd = (it.files.kernel, it.image.kernel), (it.files.initrd, it.image.initrd)
    for (fd, artifact), copy in ((kernel, releasable_copy), (initrd, sealed_copy)):
        try:
            boot.keep(artifact.name, copy(fd, artifact))
        except RefusedError as error:
            yield from error.reasons


def step_22_rootfs(it: PlanWithImage, boot: BootFiles) -> Iterator[Reason]:
    """22. The disk that the verity root stands for, as far as its header tells."""
    try:
        boot.keep("rootfs", read_only(it.files.rootfs, it.image.rootfs))
    except RefusedError as error:
        yield from error.reasons
        return
    yield from verity_reasons(boot["rootfs"], it.plan.verity)


def step_23_provenance(it: PlanWithImage) -> Verified[Provenance] | VerifiedSummary:
    """23. How the image came to be, or the word of a verifier that the policy names for it.

    The files are the manifest's: step 21 refuses others, step 22 an other rootfs. An SBOM is for users to read: none is
    asked for, and none is looked at.
    """
    if isinstance(it.evidence, SummarizedImage):
        return verify_summary(
            it.evidence.summary,
            policy=it.policy,
            artifacts=it.image.artifacts,
            image=it.image,
            provenance=it.plan.provenance,
            now=it.now,
        )
    evidence = replace(it.evidence, sbom=None)
    return verify_provenance(evidence, policy=it.policy, artifacts=it.image.artifacts, image=it.image, now=it.now)


SHEET_STEPS: tuple[Callable[[AuthenticPlan], Iterator[Reason]], ...] = (
    step_9_window,
    step_10_policy,
    step_11_isolation,
    step_12_command_line,
    step_13_manifest,
    step_14_provenance,
    step_15_signers,
    step_16_policy_expiry,
    step_17_fresh,
    step_18_not_revoked,
)
IMAGE_STEPS: tuple[Callable[[PlanWithImage], Iterator[Reason]], ...] = (step_19_subjects, step_20_agreement)
FILE_STEPS: tuple[Callable[[PlanWithImage, BootFiles], Iterator[Reason]], ...] = (
    step_21_boot_files,
    step_22_rootfs,
)
