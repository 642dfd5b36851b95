"""Verifies the provenance of an image, in numbered steps, from bytes and a time; the only minter of Verified.

Steps 1 to 5, who signed it, are those of provenance/verify/authentication.py, for the role `builder`. Only then is it
read:

6. it is an in-toto statement, version 1, without duplicate or unknown fields;
7. its predicate is SLSA provenance, version 1;
8. the predicate is of mvm's build type and has every parameter that this type has, and no other.

The claim is then held against what is known apart from it; all of these steps are taken, whatever the others say:

9. its subjects are the image's four files, by the digests of their bytes, and no other file;
10. the manifest describes those same four files;
11. the policy lets this signer name this builder and its image for this image, and says up to which level;
12. the lock file is the one that was built from, by the digest of its bytes;
13. each node of the lock is a dependency, or listed as untouched, or lies in the root tree; and nothing else is listed;
14. each source that the manifest names is among the dependencies, or those of a kept part; none is listed twice;
15. the root tree is one that the policy's source rules admit, local copies included;
16. the build had begun before it ended, and both before now;
17. each locked tree that was handed in is one that the policy's source rules admit, by what it is locked to;
18. each store path from a binary cache is vouched for by a key of the policy, and listed once;
19. each kept part is listed by a parts statement that was handed in and passes all of its own steps;
20. evaluation built nothing, unless the policy lets it;
21. an SBOM that was handed in is the one that the provenance names;
22. each node of the lock is locked to the place that it asks for, unless the policy pairs the two;
23. the build ended no longer ago than the policy accepts;
24. neither the image nor the one that built it is revoked, by any of their files;
25. the policy has not expired.

That is one builder's word. What starts or is passed on needs one more step:

26. as many builders as the policy asks for have built the image alike, each of them under all of these steps.

Steps 9 to 25, but for step 19, are in checks.py. A parts statement is taken through steps 1 to 8 as well, for its own
build type, and then: it is mvm's own tree that was built, by a builder VM that the policy admits for the image `parts`,
under steps 16, 18, 20 and 23 to 25, and from no other kept parts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, final

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError, StepResult, refuse
from mvmnix.keys import Role
from mvmnix.model import Artifact, Image, Source
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.bundle.statement import Statement
from mvmnix.provenance.identity.trust import Signer
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa import parts, predicate
from mvmnix.provenance.slsa.build_types import PREDICATE_TYPE
from mvmnix.provenance.slsa.parts import Part, Parts
from mvmnix.provenance.slsa.provenance import MICROVM, Provenance
from mvmnix.provenance.verify import checks
from mvmnix.provenance.verify.authentication import Authentic, Quorum, authenticate, only_refusals
from mvmnix.provenance.verify.checks import WHAT, Evidence
from mvmnix.provenance.verify.image_layouts import ImageEvidence
from mvmnix.provenance.verify.step_results import Findings, Steps
from mvmnix.sealed import Seal, Sealed

_PARTS: Final = "a parts statement"

_SEAL: Final = Seal()


@final
@_SEAL.of("a verifier")
@dataclass(frozen=True, slots=True)
class Verified[T](Sealed):
    """A claim that passed every step: by whom, up to which SLSA Build level, under which policy; and these steps.

    Sealed: the functions of this module make it.
    """

    claim: T
    authentic: Authentic
    level: int
    policy: Digest
    steps: tuple[StepResult, ...]

    @property
    def signer(self) -> Signer:
        """Who signed it."""
        return self.authentic.signer

    @property
    def bundle(self) -> Digest:
        """The digest of the bundle that has it."""
        return self.authentic.digest


@final
@_SEAL.of("read_claim()")
@dataclass(frozen=True, slots=True)
class Claimed(Sealed):
    """What a provenance bundle says, trusted or not: steps 1 to 8 passed, under this policy.

    `data` are the bundle's bytes. Sealed: `read_claim` makes it.
    """

    data: bytes
    authentic: Authentic
    statement: Statement
    provenance: Provenance
    policy: TrustPolicy
    steps: tuple[StepResult, ...]


type Step = Callable[[Evidence], Findings]


def step_6_statement(authentic: Authentic) -> Statement:
    """6. An in-toto statement."""
    return statement.parse(authentic.payload)


def step_7_predicate_type(it: Statement) -> None:
    """7. SLSA provenance, and not for instance a plan, by a signer who may sign both."""
    if it.predicate_type != PREDICATE_TYPE:
        why = f"its predicate is {it.predicate_type!r}, not {PREDICATE_TYPE!r}"
        raise refuse(ReasonCode.PREDICATE_TYPE, WHAT, why, "hand in the image's provenance bundle")


def step_8_predicate(it: Statement) -> Provenance:
    """8. Every parameter of the build type, and no other."""
    return predicate.read_provenance(it)


def step_19_kept(it: Evidence) -> Iterator[Reason]:
    """19. What was kept was built by mvm from its own tree, and an admitted signer signed for it."""
    yield from it.unkept


STEPS: tuple[Step, ...] = (
    checks.step_9_subjects,
    checks.step_10_manifest,
    checks.step_11_builder,
    checks.step_12_lock,
    checks.step_13_lock_nodes,
    checks.step_14_sources,
    checks.step_15_root,
    checks.step_16_times,
    checks.step_17_inputs,
    checks.step_18_cached,
    step_19_kept,
    checks.step_20_evaluation,
    checks.step_21_sbom,
    checks.step_22_originals,
    checks.step_23_fresh,
    checks.step_24_not_revoked,
    checks.step_25_policy,
)


def verify_provenance(
    evidence: ImageEvidence, *, policy: TrustPolicy, artifacts: tuple[Artifact, ...], image: Image, now: datetime
) -> Verified[Provenance]:
    """Take an image's provenance through all steps.

    `artifacts` are the four files by their bytes, `image` what manifest.json's bytes say, `now` a time with its zone.
    Raises RefusedError with every reason that was found.
    """
    return verify_claim(read_claim(evidence.provenance, policy), evidence, artifacts=artifacts, image=image, now=now)


def manifest_reasons(claimed: Claimed, image: Image) -> Iterator[Reason]:
    """Why the provenance is about other files than the manifest: step 9, of files that were not read yet."""
    yield from checks.subject_differences(claimed.statement.subjects, image.artifacts, what=WHAT, hint=checks.REBUILD)


def read_claim(bundle: bytes, policy: TrustPolicy) -> Claimed:
    """Take a provenance bundle through steps 1 to 8. Raises RefusedError."""
    with only_refusals(WHAT):
        authentic = authenticate(bundle, trust=policy.trust, role=Role.BUILDER, what=WHAT)
        taken = Steps("provenance", authentic.steps)
        claim = taken.need(step_6_statement, authentic)
        taken.need(step_7_predicate_type, claim)
        provenance = taken.need(step_8_predicate, claim)
        return Claimed(bundle, authentic, claim, provenance, policy, taken.results, seal=_SEAL)


def verify_claim(
    it: Claimed, evidence: ImageEvidence, *, artifacts: tuple[Artifact, ...], image: Image, now: datetime
) -> Verified[Provenance]:
    """Take what the image's bundle says through steps 9 to 26, as `verify_provenance` does. Raises RefusedError."""

    def alone(data: bytes) -> Verified[Provenance]:
        other = evidence.of_rebuild(data)
        return verify_alone(other, policy=it.policy, artifacts=artifacts, image=image, now=now)

    with only_refusals(WHAT):
        first = _held_against(it, evidence, artifacts=artifacts, image=image, now=now)
        taken = Steps("provenance", first.steps)
        taken.take(step_26_rebuilds, first, evidence.rebuilds, it.policy.thresholds.rebuilds, alone)
        taken.require()
        return replace(first, steps=taken.results, seal=_SEAL)


def step_26_rebuilds(
    first: Verified[Provenance],
    rebuilds: Iterable[bytes],
    wanted: int,
    alone: Callable[[bytes], Verified[Provenance]],
) -> Iterator[Reason]:
    """26. One builder can be broken into; several that agree are harder to. Each counts once, by its key or identity.

    `alone` takes a bundle through all the steps that the first one took, for the same files, and raises RefusedError;
    what it refuses does not count. Nor does a statement of another build, or of one that is counted already.
    """
    quorum, doubts = Quorum(), list[str]()
    quorum.count(first.authentic, {first.claim.invocation})
    for bundle in rebuilds:
        if len(quorum) >= wanted:
            return
        try:
            other = alone(bundle)
        except RefusedError as error:
            doubts.append(f"{Digest.of(bundle)}: {', '.join(error.codes)}")
            continue
        if _build(other.claim) != _build(first.claim):
            doubts.append(f"{other.bundle}: it is of another tree, lock, attribute or derivation")
        elif why := quorum.count(other.authentic, {other.claim.invocation}):
            doubts.append(f"{other.bundle}: {why}")
    if len(quorum) < wanted:
        rest = f"; what does not count: {'; '.join(doubts)}" if doubts else ""
        why = f"only {len(quorum)} of the {wanted} required builders produced the same image{rest}"
        hint = "have it built by another builder, and hand in its provenance: `mvm image testify`"
        yield Reason(ReasonCode.REBUILDS_MISSING, WHAT, why, hint)


def _build(claim: Provenance) -> tuple[object, ...]:
    return (claim.root.nar, claim.directory, claim.attribute, claim.lock, claim.derivation)


def verify_alone(
    evidence: ImageEvidence, *, policy: TrustPolicy, artifacts: tuple[Artifact, ...], image: Image, now: datetime
) -> Verified[Provenance]:
    """Take an image's provenance through steps 1 to 25, as `verify_provenance` does, without asking who else says so.

    For callers that keep builds until others build them too; what starts or passes an image asks `verify_provenance`.
    """
    with only_refusals(WHAT):
        claimed = read_claim(evidence.provenance, policy)
        return _held_against(claimed, evidence, artifacts=artifacts, image=image, now=now)


def _held_against(
    it: Claimed, files: ImageEvidence, *, artifacts: tuple[Artifact, ...], image: Image, now: datetime
) -> Verified[Provenance]:
    """Steps 9 to 25; all of them are taken, whatever the others say."""
    if files.provenance != it.data:
        raise ValueError("the claim was read from another bundle")
    policy, signer = it.policy, it.authentic.signer
    handed_in = _handed_in(it.provenance, files.parts, policy)
    kept, unkept = _kept(it.provenance, handed_in, policy, now)
    inherited = _inherited(it.provenance, handed_in)
    evidence = Evidence(
        it.provenance, it.statement, signer, policy, artifacts, image, files.lock, now, inherited, unkept, files.sbom
    )
    taken = Steps("provenance", it.steps)
    taken.take_each(STEPS, evidence)
    taken.require()
    level = min((evidence.level or 0, *(each.level for each in kept)))
    return Verified(it.provenance, it.authentic, level, policy.digest, taken.results, seal=_SEAL)


def verify_parts(bundle: bytes, *, policy: TrustPolicy, now: datetime) -> Verified[Parts]:
    """Take a parts bundle through all of its steps. Raises RefusedError with every reason that was found."""
    return _judged_parts(*_read_parts(bundle, policy), policy, now)


def _judged_parts(found: Parts, authentic: Authentic, policy: TrustPolicy, now: datetime) -> Verified[Parts]:
    """The steps of a parts statement from where it is known who signed it. Raises RefusedError with every reason."""
    with only_refusals(_PARTS):
        build, signer = found.provenance, authentic.signer
        level = policy.level(build, signer=signer, image=parts.IMAGE)
        reasons = [*parts.foreign(build), *checks.untimely(build, now, _PARTS)]
        reasons += [*checks.strange_caches(build, policy, _PARTS), *checks.built_by_evaluation(build, policy, _PARTS)]
        reasons += [*checks.stale(build, policy, now, _PARTS), *checks.revoked_builder(build, policy, _PARTS)]
        reasons += policy.expired(now)
        if level is None or build.builder_id != MICROVM:
            why = f"builder {build.builder_id!r}, named by {signer.name!r}, is not admitted for {parts.IMAGE!r}"
            hint = "have them built in the builder VM, or add a [[builders]] entry to trust.toml if you mean to"
            reasons.append(Reason(ReasonCode.BUILDER_NOT_ADMITTED, _PARTS, why, hint))
        if reasons:
            raise RefusedError(*reasons)
        return Verified(found, authentic, level or 0, policy.digest, authentic.steps, seal=_SEAL)


def _read_parts(bundle: bytes, policy: TrustPolicy) -> tuple[Parts, Authentic]:
    """What a parts bundle says, once it is known who signed it. Raises RefusedError."""
    with only_refusals(_PARTS):
        authentic = authenticate(bundle, trust=policy.trust, role=Role.BUILDER, what=_PARTS)
        claim = step_6_statement(authentic)
        step_7_predicate_type(claim)
        return parts.from_statement(claim), authentic


#: By a bundle's digest, what it says and who signed it, or why that isn't known.
type _Handed = Mapping[Digest, tuple[Parts, Authentic] | RefusedError]


def _handed_in(it: Provenance, bundles: Iterable[bytes], policy: TrustPolicy) -> _Handed:
    """The parts statements that a provenance names, as far as they were handed in, in the order of their digests."""
    named = {kept.bundle for kept in it.kept}
    found: dict[Digest, tuple[Parts, Authentic] | RefusedError] = {}
    for digest, data in sorted({digest: data for data in bundles if (digest := Digest.of(data)) in named}.items()):
        try:
            found[digest] = _read_parts(data, policy)
        except RefusedError as error:
            found[digest] = error
    return found


def _inherited(it: Provenance, handed_in: _Handed) -> frozenset[Source] | None:
    """The sources of the kept parts, as their signers say, whether or not `_kept` refuses them for something else.

    None where one of the statements isn't there, or isn't by an admitted signer: what it accounts for isn't known then.
    """
    found: set[Source] = set()
    for each in {kept.bundle for kept in it.kept}:
        read = handed_in.get(each)
        if read is None or isinstance(read, RefusedError):
            return None
        found.update(read[0].provenance.sources)
    return frozenset(found)


def _kept(
    it: Provenance, handed_in: _Handed, policy: TrustPolicy, now: datetime
) -> tuple[tuple[Verified[Parts], ...], tuple[Reason, ...]]:
    """The parts statements that a provenance names, as far as they verify; what is wrong with them or missing."""
    verified: dict[Digest, Verified[Parts]] = {}
    reasons: list[Reason] = []
    for digest, read in handed_in.items():
        if isinstance(read, RefusedError):
            reasons.extend(read.reasons)
            continue
        try:
            verified[digest] = _judged_parts(*read, policy, now)
        except RefusedError as error:
            reasons.extend(error.reasons)
    for missing in dict.fromkeys(kept.bundle for kept in it.kept if kept.bundle not in handed_in):
        why = f"the parts statement {missing}, which is to list its kept parts, was changed or not handed in"
        reasons.append(Reason(ReasonCode.PARTS_MISMATCH, WHAT, why, checks.REBUILD))
    for kept in it.kept:
        if kept.bundle in verified and Part(kept.path, kept.nar) not in verified[kept.bundle].claim.parts:
            why = f"{kept.path} ({kept.nar}) is not in the parts statement {kept.bundle}"
            reasons.append(Reason(ReasonCode.PARTS_MISMATCH, WHAT, why, checks.REBUILD))
    return tuple(verified.values()), tuple(reasons)
