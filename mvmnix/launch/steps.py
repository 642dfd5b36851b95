"""The steps by which launch/verify.py holds a plan against everything else; each yields the reasons that it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mvmnix.errors import Reason, ReasonCode, RefusedError, refuse
from mvmnix.launch import command_line
from mvmnix.launch import plan as plans
from mvmnix.launch.boot_files import BootFiles, OpenFiles, read_only, sealed_copy, verity_reasons
from mvmnix.launch.plan import Plan
from mvmnix.model import Digest, Image, Posture
from mvmnix.provenance import statement
from mvmnix.provenance.authenticate import Authentic
from mvmnix.provenance.policy import TrustPolicy
from mvmnix.provenance.slsa import Provenance
from mvmnix.provenance.statement import Statement
from mvmnix.provenance.steps import differences
from mvmnix.provenance.verify import Verified, verify_provenance

_WHAT: Final = "the plan"
_REPLAN: Final = "make and sign a plan anew: `mvm plan create`, `mvm plan sign`"


@dataclass(frozen=True, slots=True)
class Sheet:
    """An authentic plan, and what it is held against before anything of the image is read."""

    plan: Plan
    policy: TrustPolicy
    manifest: Digest
    provenance: Digest
    now: datetime


@dataclass(frozen=True, slots=True)
class Candidate:
    """The plan and the image, whose manifest is the one that the plan names, with what the last steps look at."""

    plan: Plan
    image: Image
    files: OpenFiles
    provenance: bytes
    lock: bytes | None
    policy: TrustPolicy
    now: datetime
    parts: tuple[bytes, ...] = ()


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


def step_9_window(it: Sheet) -> Iterator[Reason]:
    """9. Neither too early nor too late."""
    window = it.plan.window
    if it.now < window.not_before:
        why = f"it is valid from {window.not_before}, and now it is {it.now}"
        yield Reason(ReasonCode.PLAN_NOT_YET_VALID, _WHAT, why, f"wait, set the clock, or {_REPLAN}")
    if it.now >= window.not_after:
        why = f"it was valid until {window.not_after}, and now it is {it.now}"
        yield Reason(ReasonCode.PLAN_EXPIRED, _WHAT, why, _REPLAN)


def step_10_policy(it: Sheet) -> Iterator[Reason]:
    """10. The very bytes of the policy in force."""
    if it.plan.policy != it.policy.digest:
        why = f"it was made under policy {it.plan.policy}, in force is {it.policy.digest}"
        yield Reason(ReasonCode.POLICY_MISMATCH, _WHAT, why, f"look at trust.toml, then {_REPLAN}")


def step_11_isolation(it: Sheet) -> Iterator[Reason]:
    """11. What the policy requires between workload and host."""
    if it.plan.isolation is not it.policy.isolation:
        why = f"it asks for isolation {it.plan.isolation!r}, the policy requires {it.policy.isolation!r}"
        yield Reason(ReasonCode.ISOLATION_UNAVAILABLE, _WHAT, why, _REPLAN)


def step_12_command_line(it: Sheet) -> Iterator[Reason]:
    """12. One reading, and room for what a backend adds."""
    for why in command_line.problems(it.plan.command_line):
        yield Reason(ReasonCode.COMMAND_LINE, "the kernel command line", why, "change the image's kernel options")


def step_13_manifest(it: Sheet) -> Iterator[Reason]:
    """13. This image and no other."""
    subjects = {subject.name: subject.digest for subject in it.plan.subjects}
    if subjects.get("manifest.json") != it.manifest:
        why = f"it is for the image with manifest {subjects.get('manifest.json')}, here is {it.manifest}"
        yield Reason(ReasonCode.PLAN_MISMATCH, _WHAT, why, f"name the image it was made for, or {_REPLAN}")


def step_14_provenance(it: Sheet) -> Iterator[Reason]:
    """14. This evidence and no other."""
    if it.plan.provenance != it.provenance:
        why = f"it was made with provenance bundle {it.plan.provenance}, here is {it.provenance}"
        yield Reason(ReasonCode.PROVENANCE_MISMATCH, _WHAT, why, f"hand in the bundle it was made with, or {_REPLAN}")


def step_15_subjects(it: Candidate) -> Iterator[Reason]:
    """15. The files of one build, not of two."""
    yield from differences(it.plan.subjects, it.image.artifacts, what=_WHAT, hint=_REPLAN)


def step_16_agreement(it: Candidate) -> Iterator[Reason]:
    """16. What plan and manifest both say, they say alike; the plan may grant less than the image offers."""
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
    for verb in sorted(plan.verbs - image.verbs):
        why = f"it grants {verb}, which the image does not offer"
        yield Reason(ReasonCode.VERB_NOT_GRANTED, _WHAT, why, f"add it to the image's verbs, or {_REPLAN}")


def step_17_boot_files(it: Candidate, boot: BootFiles) -> Iterator[Reason]:
    """17. The bytes that are hashed are those that boot."""
    for fd, artifact in ((it.files.kernel, it.image.kernel), (it.files.initrd, it.image.initrd)):
        try:
            boot.keep(artifact.name, sealed_copy(fd, artifact))
        except RefusedError as error:
            yield from error.reasons


def step_18_rootfs(it: Candidate, boot: BootFiles) -> Iterator[Reason]:
    """18. The disk that the verity root stands for, as far as its header tells."""
    try:
        boot.keep("rootfs", read_only(it.files.rootfs, it.image.rootfs))
    except RefusedError as error:
        yield from error.reasons
        return
    yield from verity_reasons(boot["rootfs"], it.plan.verity)


def step_19_provenance(it: Candidate) -> Verified[Provenance]:
    """19. How the image came to be. The files are the manifest's: step 17 refuses others, step 18 an other rootfs."""
    return verify_provenance(
        it.provenance,
        policy=it.policy,
        artifacts=it.image.artifacts,
        lock=it.lock,
        image=it.image,
        now=it.now,
        parts=it.parts,
    )


SHEET_STEPS: tuple[Callable[[Sheet], Iterator[Reason]], ...] = (
    step_9_window,
    step_10_policy,
    step_11_isolation,
    step_12_command_line,
    step_13_manifest,
    step_14_provenance,
)
IMAGE_STEPS: tuple[Callable[[Candidate], Iterator[Reason]], ...] = (step_15_subjects, step_16_agreement)
FILE_STEPS: tuple[Callable[[Candidate, BootFiles], Iterator[Reason]], ...] = (
    step_17_boot_files,
    step_18_rootfs,
)
