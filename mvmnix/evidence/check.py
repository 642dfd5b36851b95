"""Takes a held build through the verification of provenance, and says at which piece of evidence it broke; pure.

What is refused is refused by a step of provenance/verify/verify.py, and this module knows which node of the graph each
step is about. Nothing that a claim says is called verified unless the whole claim is.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError, StepResult
from mvmnix.evidence.graph import NodeKind, Verdict, refused, unverified, verdict_of, verified
from mvmnix.evidence.stored_build import StoredBuild, StoredDocument
from mvmnix.model import Image
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa.parts import Parts
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.verify.authentication import Authentic
from mvmnix.provenance.verify.verify import Verified, read_claim, verify_claim, verify_parts

#: The node that a step of provenance/verify/verify.py is about, by its number; for all others it is the provenance.
_ABOUT: Final[Mapping[int, NodeKind]] = {
    11: NodeKind.BUILDER,
    12: NodeKind.LOCK,
    13: NodeKind.LOCK,
    15: NodeKind.TREE,
    17: NodeKind.INPUTS,
    18: NodeKind.CACHED,
    19: NodeKind.KEPT,
    20: NodeKind.DERIVATION,
    21: NodeKind.SBOM,
    22: NodeKind.LOCK,
    25: NodeKind.POLICY,
}


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of it.

    `claim` is what an authentic bundle says, trusted or not; `evidence` is there when every step passed; `blamed` has
    the reasons by the node that they speak of; `doubt` says why nothing of the claim is called verified.
    """

    stored: StoredBuild
    image: Image | MvmnixError
    authentic: Authentic | None = None
    claim: Provenance | None = None
    evidence: Verified[Provenance] | None = None
    blamed: Mapping[NodeKind, tuple[Reason, ...]] = field(default_factory=dict)
    doubt: str = ""

    def verdict(self, kind: NodeKind, what: str) -> Verdict:
        """The verdict on a node of which the claim speaks; `what` was checked if it holds."""
        if reasons := self.blamed.get(kind):
            return refused(reasons)
        return verified(what) if self.evidence is not None else unverified(self.doubt)

    def document(self, kind: NodeKind, document: StoredDocument, what: str) -> Verdict:
        """The same for a file of the evidence: before all else it has to be there, with the bytes of its name."""
        return verdict_of(document.problem) if document.problem is not None else self.verdict(kind, what)

    @property
    def signer(self) -> str:
        """Who vouches for what the claim says, once it is verified."""
        return self.evidence.signer.name if self.evidence is not None else ""


def check(stored: StoredBuild, *, policy: TrustPolicy, now: datetime) -> Checked:
    """Verify a held build, as far as its pieces are there.

    The four files are those of the manifest, as at a launch: whether the kept ones are these is said of each by itself.
    """
    image = stored.image
    if stored.bundle.data is None:
        return Checked(stored, image, doubt="the provenance could not be read")
    try:
        claimed = read_claim(stored.bundle.data, policy)
    except RefusedError as error:
        return _refused(Checked(stored, image), error)
    checked = Checked(stored, image, claimed.authentic, claimed.provenance)
    if isinstance(image, MvmnixError):
        return replace(checked, doubt="the image's manifest could not be read")
    if stored.unread:
        return replace(checked, doubt=f"{' and '.join(dict.fromkeys(stored.unread))} could not be read")
    try:
        evidence = verify_claim(claimed, stored.evidence, artifacts=image.artifacts, image=image, now=now)
    except RefusedError as error:
        return _refused(checked, error)
    return replace(checked, evidence=evidence)


def check_parts(document: StoredDocument, *, policy: TrustPolicy, now: datetime) -> Verified[Parts] | MvmnixError:
    """Verify a parts statement by itself, or say why it doesn't."""
    if isinstance(document.found, MvmnixError):
        return document.found
    try:
        return verify_parts(document.found, policy=policy, now=now)
    except RefusedError as error:
        return error


def _about(step: StepResult, reason: Reason) -> NodeKind:
    # a list that doesn't agree with something is the provenance's own
    if step.verifier != "provenance" or reason.code is ReasonCode.DEPENDENCY_MISMATCH:
        return NodeKind.PROVENANCE
    return _ABOUT.get(step.number, NodeKind.PROVENANCE)


def _refused(it: Checked, error: RefusedError) -> Checked:
    blamed: defaultdict[NodeKind, tuple[Reason, ...]] = defaultdict(tuple)
    for step in error.steps:
        for reason in step.reasons:
            blamed[_about(step, reason)] += (reason,)
    if not any(blamed.values()):  # it ended before its first step
        blamed[NodeKind.PROVENANCE] += error.reasons
    codes = ", ".join(dict.fromkeys(error.codes))
    found = {kind: reasons for kind, reasons in blamed.items() if reasons}
    return replace(it, blamed=found, doubt=f"its evidence is refused [{codes}]")
