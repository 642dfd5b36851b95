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
14. each source that the manifest names is among the dependencies, none of which is listed twice;
15. the root tree is one that the policy's source rules admit, local copies included;
16. the build had begun before it ended, and both before now.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import InitVar, dataclass
from datetime import datetime, timedelta
from typing import Final, NoReturn, final, override

from mvmnix import lock as flake_lock
from mvmnix.errors import Reason, ReasonCode, RefusedError, refuse
from mvmnix.keys import Role
from mvmnix.model import Artifact, Digest, Image
from mvmnix.provenance import predicate, statement
from mvmnix.provenance.authenticate import Authentic, authenticate, only_refusals
from mvmnix.provenance.policy import Signer, TrustPolicy
from mvmnix.provenance.slsa import PREDICATE_TYPE, Input, Provenance, Untouched, subjects_of
from mvmnix.provenance.statement import Statement

#: How far two honest clocks, or one that was set in between, may be apart.
SKEW: Final = timedelta(minutes=5)

_WHAT: Final = "the provenance"
_REBUILD: Final = "build the image again: `mvm build --again FLAKE`"


class _Seal:
    """What only this module has: the permission to say that a claim was verified."""


_SEAL: Final = _Seal()


@final
@dataclass(frozen=True, slots=True)
class Verified[T]:
    """A claim that passed every step: by whom, up to which SLSA Build level, under which policy, from which bundle.

    Sealed: `verify_provenance` makes it. Not for pickling: another process verifies the bytes again.
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


@dataclass(frozen=True, slots=True)
class Evidence:
    """An authentic claim, and what it is held against: files by their bytes, manifest, lock file, policy, time."""

    provenance: Provenance
    statement: Statement
    signer: Signer
    policy: TrustPolicy
    artifacts: tuple[Artifact, ...]
    image: Image
    lock: bytes | None
    now: datetime

    @property
    def level(self) -> int | None:
        """What the policy grants for this signer, builder and image."""
        return self.policy.level(builder_id=self.provenance.builder_id, signer=self.signer, image=self.image.name)


type Step = Callable[[Evidence], Iterator[Reason]]


def step_6_statement(authentic: Authentic) -> Statement:
    """6. An in-toto statement."""
    return statement.parse(authentic.payload)


def step_7_predicate_type(it: Statement) -> None:
    """7. SLSA provenance, and not for instance a plan, by a signer who may sign both."""
    if it.predicate_type != PREDICATE_TYPE:
        why = f"its predicate is {it.predicate_type!r}, not {PREDICATE_TYPE!r}"
        raise refuse(ReasonCode.PREDICATE_TYPE, _WHAT, why, "hand in the image's provenance bundle")


def step_8_predicate(it: Statement) -> Provenance:
    """8. Every parameter of the build type, and no other."""
    return predicate.from_statement(it)


def step_9_subjects(it: Evidence) -> Iterator[Reason]:
    """9. The four files, by name and digest."""
    yield from differences(it.statement.subjects, it.artifacts, what=_WHAT, hint=_REBUILD)


def step_10_manifest(it: Evidence) -> Iterator[Reason]:
    """10. The manifest means the same files: their digests and sizes."""
    for artifact in sorted(set(it.image.artifacts) ^ set(it.artifacts)):
        side = "the manifest says" if artifact in it.image.artifacts else "the file has"
        why = f"{side} {artifact.digest}, {artifact.size} bytes"
        yield Reason(ReasonCode.ARTIFACT_MISMATCH, artifact.name, why, _REBUILD)


def step_11_builder(it: Evidence) -> Iterator[Reason]:
    """11. The policy admits the builder, for this signer and image."""
    if it.level is None:
        who = f"builder {it.provenance.builder_id!r}, named by {it.signer.name!r},"
        why = f"{who} is not admitted for image {it.image.name!r}"
        hint = "build it with an admitted builder, or add a [[builders]] entry to trust.toml if you mean to"
        yield Reason(ReasonCode.BUILDER_NOT_ADMITTED, _WHAT, why, hint)


def step_12_lock(it: Evidence) -> Iterator[Reason]:
    """12. The bytes of flake.lock, or that there are none."""
    found = None if it.lock is None else Digest.of(it.lock)
    if found != it.provenance.lock:
        why = f"the build used {_lock_text(it.provenance.lock)}, here is {_lock_text(found)}"
        yield Reason(ReasonCode.LOCK_MISMATCH, _WHAT, why, "hand in the lock file that was built from, or build again")


def step_13_lock_nodes(it: Evidence) -> Iterator[Reason]:
    """13. Lock nodes and trees that were handed in, in both directions."""
    try:
        locked = flake_lock.parse(it.lock)
    except RefusedError as error:
        yield from error.reasons
        return
    inputs = {Input(node.name, node.source) for node in locked.locked}
    untouched = {Untouched(node.name, node.nar) for node in locked.locked}
    relative = {node.name for node in locked.relative}
    nodes = it.provenance.nodes
    for why in (
        *(f"lock node {node.node!r} is not the tree that was handed in" for node in set(nodes.inputs) - inputs),
        *(f"lock node {node.node!r} is not the tree listed as untouched" for node in set(nodes.untouched) - untouched),
        *(f"relative node {name!r} is not accounted for" for name in relative - set(nodes.relative)),
        *(f"{name!r} is no relative node of the lock" for name in set(nodes.relative) - relative),
        *_unaccounted(
            {node.name for node in locked.locked},
            (*(node.node for node in nodes.inputs), *(node.node for node in nodes.untouched)),
        ),
    ):
        yield Reason(ReasonCode.DEPENDENCY_MISMATCH, _WHAT, why, _REBUILD)


def _unaccounted(names: Iterable[str], listed: Iterable[str]) -> Iterator[str]:
    counts = Counter(listed)
    for name in sorted(names):
        if counts[name] != 1:
            yield f"lock node {name!r} is accounted for {counts[name]} times"


def step_14_sources(it: Evidence) -> Iterator[Reason]:
    """14. What the manifest says is in the image came in under that URI and digest."""
    known = {(source.uri, source.digest) for source in it.provenance.sources}
    for source in it.image.sources:
        if (source.uri, source.digest) not in known:
            why = f"the image contains {source.uri} ({source.digest}), which is not among the dependencies"
            yield Reason(ReasonCode.DEPENDENCY_MISMATCH, _WHAT, why, _REBUILD)
    for source, count in Counter(it.provenance.sources).items():
        if count > 1:
            why = f"{source.uri} stands there {count} times"
            yield Reason(ReasonCode.DEPENDENCY_MISMATCH, _WHAT, why, _REBUILD)


def step_15_root(it: Evidence) -> Iterator[Reason]:
    """15. The flake is one that may be built and run."""
    for rule in it.policy.sources:
        why = rule.problem(it.provenance.root)
        if why is not None:
            hint = "commit the flake and build from git, or extend [sources] in trust.toml if you mean to"
            yield Reason(ReasonCode.SOURCE_NOT_ADMITTED, _WHAT, why, hint)


def step_16_times(it: Evidence) -> Iterator[Reason]:
    """16. Key mode has no trusted time, but a build from the future shows a wrong clock or a careless forger."""
    started, finished = it.provenance.started, it.provenance.finished
    if not started <= finished <= it.now + SKEW:
        why = f"the build ran from {started} to {finished}, and now it is {it.now}"
        yield Reason(ReasonCode.BUILD_TIME, _WHAT, why, "set the clock; if it is right, build the image again")


STEPS: tuple[Step, ...] = (
    step_9_subjects,
    step_10_manifest,
    step_11_builder,
    step_12_lock,
    step_13_lock_nodes,
    step_14_sources,
    step_15_root,
    step_16_times,
)


def verify_provenance(
    bundle: bytes,
    *,
    policy: TrustPolicy,
    artifacts: tuple[Artifact, ...],
    lock: bytes | None,
    image: Image,
    now: datetime,
) -> Verified[Provenance]:
    """Take a provenance bundle through all steps.

    `artifacts` are the four files by their bytes, `image` what manifest.json's bytes say, `lock` the bytes of
    flake.lock or None, `now` a time with its zone. Raises RefusedError with every reason that was found.
    """
    with only_refusals(_WHAT):
        authentic = authenticate(bundle, policy=policy, role=Role.BUILDER, what=_WHAT)
        claim = step_6_statement(authentic)
        step_7_predicate_type(claim)
        provenance = step_8_predicate(claim)
        evidence = Evidence(provenance, claim, authentic.signer, policy, artifacts, image, lock, now)
        reasons = tuple(reason for step in STEPS for reason in step(evidence))
        if reasons:
            raise RefusedError(*reasons)
        return Verified(provenance, authentic.signer, evidence.level or 0, policy.digest, authentic.digest, _SEAL)


def differences(
    subjects: Iterable[statement.Subject], artifacts: Iterable[Artifact], *, what: str, hint: str
) -> Iterator[Reason]:
    """How the files that a claim is about differ from these, one SUBJECT_MISMATCH for each name."""
    claimed = {subject.name: subject.digest for subject in subjects}
    found = {subject.name: subject.digest for subject in subjects_of(artifacts)}
    for name in sorted(claimed.keys() | found.keys()):
        if claimed.get(name) != found.get(name):
            said, seen = claimed.get(name, "nothing"), found.get(name, "no business here")
            why = f"for {name} it names {said}, the file has {seen}"
            yield Reason(ReasonCode.SUBJECT_MISMATCH, what, why, hint)


def _lock_text(digest: Digest | None) -> str:
    return "no flake.lock" if digest is None else f"flake.lock {digest}"
