"""Holds a provenance against what may change after it was signed: time, revocations, other builders' word; pure.

Steps 23 to 25 of verify.py, and the rule of step 26.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Final

from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.model import Artifact, Digest
from mvmnix.provenance.policy import TrustPolicy
from mvmnix.provenance.slsa import Provenance
from mvmnix.provenance.verify.authentication import Authentic
from mvmnix.provenance.verify.checks import REBUILD, WHAT, Evidence
from mvmnix.provenance.verify.quorum import Quorum
from mvmnix.strict import show_time

_LOOK: Final = "revocations.toml says why (`mvm policy check`); build it again from what is not revoked"


def step_23_fresh(it: Evidence) -> Iterator[Reason]:
    """23. What was built long ago lacks what was mended since."""
    yield from stale(it.provenance, it.policy, it.now, WHAT)


def stale(it: Provenance, policy: TrustPolicy, now: datetime, what: str) -> Iterator[Reason]:
    """Why this build is too old for the policy."""
    bound = policy.freshness.provenance
    if bound is not None and now - it.finished > bound:
        ended, here = show_time(it.finished), show_time(now)
        why = f"the build ended at {ended}, and now it is {here}; the policy takes it for {bound}"
        yield Reason(ReasonCode.PROVENANCE_STALE, what, why, REBUILD)


def step_24_not_revoked(it: Evidence) -> Iterator[Reason]:
    """24. The files of the image, and those of the image that built it."""
    yield from revoked(it.artifacts, it.policy, it.image.name)
    yield from revoked_builder(it.provenance, it.policy, WHAT)


def revoked(artifacts: Iterable[Artifact], policy: TrustPolicy, name: str) -> Iterator[Reason]:
    """Which of these files are revoked."""
    revocations = policy.trust.revocations
    for artifact in artifacts:
        if artifact.digest in revocations.digests:
            why = f"its {artifact.name} ({artifact.digest}) {revocations.words(artifact.digest)}"
            yield Reason(ReasonCode.IMAGE_REVOKED, f"the image {name!r}", why, _LOOK)


def revoked_builder(it: Provenance, policy: TrustPolicy, what: str) -> Iterator[Reason]:
    """Which files of the image that built are revoked: then so is what it built."""
    revocations = policy.trust.revocations
    for subject in it.builder_image:
        if subject.digest in revocations.digests:
            told = revocations.words(subject.digest)
            why = f"the {subject.name} of the image that built it ({subject.digest}) {told}"
            yield Reason(ReasonCode.IMAGE_REVOKED, what, why, _LOOK)


def step_25_policy(it: Evidence) -> Iterator[Reason]:
    """25. An expired policy decides nothing."""
    yield from it.policy.expired(it.now)


#: A provenance that verified, and what was established of its signature.
type ReadProvenance = tuple[Provenance, Authentic]


def disagreement(
    first: ReadProvenance, others: Iterable[bytes], *, wanted: int, alone: Callable[[bytes], ReadProvenance]
) -> Iterator[Reason]:
    """Why fewer than `wanted` builders have built this alike; each counts once, by its key or identity.

    `alone` takes a bundle through all the steps that the first one took, for the same files, and raises RefusedError;
    what it refuses does not count. Nor does a statement of another build, or of one that is counted already.
    """
    built, signed = first
    quorum, doubts = Quorum(), list[str]()
    quorum.count(signed, {built.invocation})
    for bundle in others:
        if len(quorum) >= wanted:
            return
        try:
            claim, authentic = alone(bundle)
        except RefusedError as error:
            doubts.append(f"{Digest.of(bundle)}: {', '.join(error.codes)}")
            continue
        if _build(claim) != _build(built):
            doubts.append(f"{authentic.digest}: it is of another tree, lock, attribute or derivation")
        elif why := quorum.count(authentic, {claim.invocation}):
            doubts.append(f"{authentic.digest}: {why}")
    if len(quorum) < wanted:
        rest = f"; what does not count: {'; '.join(doubts)}" if doubts else ""
        why = f"{len(quorum)} of {wanted} builders that the policy asks for have built it alike{rest}"
        hint = "have it built by another builder, and hand in its provenance: `mvm image testify`"
        yield Reason(ReasonCode.REBUILDS_MISSING, WHAT, why, hint)


def _build(claim: Provenance) -> tuple[object, ...]:
    return (claim.root.nar, claim.directory, claim.attribute, claim.lock, claim.derivation)
