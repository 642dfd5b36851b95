"""Verifies the provenance of an image, in numbered steps, from bytes and a time; the only minter of Verified.

Steps 1 to 5, who signed it, are those of provenance/authenticate.py, for the role `builder`. Only then is it read:

6. it is an in-toto statement, version 1, without duplicate or unknown fields;
7. its predicate is SLSA provenance, version 1;
8. the predicate is of mvm's build type and has every parameter that this type has, and no other.

The claim is then held against what is known apart from it; all of these steps are taken, whatever the others say:

9. its subjects are the image's four files, by the digests of their bytes, and no other file;
10. the manifest describes those same four files;
11. the policy lets this signer name this builder for this image, and says up to which level;
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
22. each node of the lock is locked to the place that it asks for, unless the policy pairs the two.

Steps 9 to 16 are in steps.py, 17 to 22 but for step 19 in origins.py. A parts statement is taken through steps 1 to 8
as well, for its own build type, and then: it is mvm's own tree that was built, by a builder VM that the policy admits
for the image `parts`, under steps 16, 18 and 20, and from no other kept parts.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import InitVar, dataclass
from datetime import datetime
from typing import Final, NoReturn, final, override

from mvmnix.errors import Reason, ReasonCode, RefusedError, refuse
from mvmnix.keys import Role
from mvmnix.model import Artifact, Digest, Image
from mvmnix.provenance import origins, parts, predicate, statement, steps
from mvmnix.provenance.authenticate import Authentic, authenticate, only_refusals
from mvmnix.provenance.parts import Part, Parts
from mvmnix.provenance.policy import Signer, TrustPolicy
from mvmnix.provenance.slsa import MICROVM, PREDICATE_TYPE, Provenance
from mvmnix.provenance.statement import Statement
from mvmnix.provenance.steps import WHAT, Evidence

_PARTS: Final = "a parts statement"


class _Seal:
    """What only this module has: the permission to say that a claim was verified."""


_SEAL: Final = _Seal()


@final
@dataclass(frozen=True, slots=True)
class Verified[T]:
    """A claim that passed every step: by whom, up to which SLSA Build level, under which policy, from which bundle.

    Sealed: the functions of this module make it. Not for pickling: another process verifies the bytes again.
    """

    claim: T
    signer: Signer
    level: int
    policy: Digest
    bundle: Digest
    seal: InitVar[_Seal]

    def __post_init__(self, seal: _Seal) -> None:
        if seal is not _SEAL:
            raise TypeError("only a verifier says that a claim is verified")

    @override
    def __reduce__(self) -> NoReturn:
        raise TypeError("evidence stays in the process that verified it")


type Step = Callable[[Evidence], Iterator[Reason]]


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
    return predicate.from_statement(it)


def step_19_kept(it: Evidence) -> Iterator[Reason]:
    """19. What was kept was built by mvm from its own tree, and somebody admitted signed for it."""
    yield from it.unkept


STEPS: tuple[Step, ...] = (
    steps.step_9_subjects,
    steps.step_10_manifest,
    steps.step_11_builder,
    steps.step_12_lock,
    steps.step_13_lock_nodes,
    steps.step_14_sources,
    steps.step_15_root,
    steps.step_16_times,
    origins.step_17_inputs,
    origins.step_18_cached,
    step_19_kept,
    origins.step_20_evaluation,
    origins.step_21_sbom,
    origins.step_22_originals,
)


def verify_provenance(
    bundle: bytes,
    *,
    policy: TrustPolicy,
    artifacts: tuple[Artifact, ...],
    lock: bytes | None,
    image: Image,
    now: datetime,
    parts: tuple[bytes, ...] = (),
    sbom: bytes | None = None,
) -> Verified[Provenance]:
    """Take a provenance bundle through all steps.

    `artifacts` are the four files by their bytes, `image` what manifest.json's bytes say, `lock` the bytes of
    flake.lock or None, `now` a time with its zone; `parts` the bundles of the parts statements that it names, `sbom`
    the SBOM's bytes where they are to be believed. Raises RefusedError with every reason that was found.
    """
    with only_refusals(WHAT):
        authentic = authenticate(bundle, policy=policy, role=Role.BUILDER, what=WHAT)
        claim = step_6_statement(authentic)
        step_7_predicate_type(claim)
        provenance = step_8_predicate(claim)
        kept, unkept = _kept(provenance, parts, policy, now)
        inherited = frozenset(source for each in kept for source in each.claim.provenance.sources)
        evidence = Evidence(
            provenance, claim, authentic.signer, policy, artifacts, image, lock, now, inherited, unkept, sbom
        )
        reasons = tuple(reason for step in STEPS for reason in step(evidence))
        if reasons:
            raise RefusedError(*reasons)
        level = min((evidence.level or 0, *(each.level for each in kept)))
        return Verified(provenance, authentic.signer, level, policy.digest, authentic.digest, _SEAL)


def verify_parts(bundle: bytes, *, policy: TrustPolicy, now: datetime) -> Verified[Parts]:
    """Take a parts bundle through all of its steps. Raises RefusedError with every reason that was found."""
    with only_refusals(_PARTS):
        authentic = authenticate(bundle, policy=policy, role=Role.BUILDER, what=_PARTS)
        claim = step_6_statement(authentic)
        step_7_predicate_type(claim)
        found = parts.from_statement(claim)
        build, signer = found.provenance, authentic.signer
        level = policy.level(builder_id=build.builder_id, signer=signer, image=parts.IMAGE)
        reasons = [*parts.foreign(build), *steps.untimely(build, now, _PARTS)]
        reasons += [*origins.strange_caches(build, policy, _PARTS), *origins.built_by_evaluation(build, policy, _PARTS)]
        if level is None or build.builder_id != MICROVM:
            why = f"builder {build.builder_id!r}, named by {signer.name!r}, is not admitted for {parts.IMAGE!r}"
            hint = "have them built in the builder VM, or add a [[builders]] entry to trust.toml if you mean to"
            reasons.append(Reason(ReasonCode.BUILDER_NOT_ADMITTED, _PARTS, why, hint))
        if reasons:
            raise RefusedError(*reasons)
        return Verified(found, signer, level or 0, policy.digest, authentic.digest, _SEAL)


def _kept(
    it: Provenance, bundles: Iterable[bytes], policy: TrustPolicy, now: datetime
) -> tuple[tuple[Verified[Parts], ...], tuple[Reason, ...]]:
    """The parts statements that a provenance names, as far as they verify; what is wrong with them or missing."""
    named = {kept.bundle for kept in it.kept}
    handed_in = {digest: data for data in bundles if (digest := Digest.of(data)) in named}
    verified: dict[Digest, Verified[Parts]] = {}
    reasons: list[Reason] = []
    for digest, data in sorted(handed_in.items()):
        try:
            verified[digest] = verify_parts(data, policy=policy, now=now)
        except RefusedError as error:
            reasons.extend(error.reasons)
    for kept in it.kept:
        if kept.bundle not in handed_in:
            why = f"{kept.path} is to be in the parts statement {kept.bundle}, which was not handed in"
        elif kept.bundle in verified and Part(kept.path, kept.nar) not in verified[kept.bundle].claim.parts:
            why = f"{kept.path} ({kept.nar}) is not in the parts statement {kept.bundle}"
        else:
            continue
        reasons.append(Reason(ReasonCode.PARTS_MISMATCH, WHAT, why, steps.REBUILD))
    return tuple(verified.values()), tuple(reasons)
