"""Takes a held build through the verification of provenance, and finds out at which piece of evidence it broke; pure.

What is refused is refused by provenance/verify.py, and by nobody else; this module only says which node of the graph a
reason speaks of. Nothing that a claim says is called verified unless the whole claim is.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError
from mvmnix.evidence.graph import Kind, Verdict, refused, unverified, verdict_of, verified
from mvmnix.evidence.held import Held, Paper
from mvmnix.keys import Role
from mvmnix.model import Image
from mvmnix.provenance import statement
from mvmnix.provenance.authenticate import Authentic, authenticate
from mvmnix.provenance.parts import Parts
from mvmnix.provenance.policy import TrustPolicy
from mvmnix.provenance.slsa import Provenance
from mvmnix.provenance.verify import (
    Verified,
    step_7_predicate_type,
    step_8_predicate,
    verify_parts,
    verify_provenance,
)

_WHAT: Final = "the provenance"
#: The node that a reason speaks of, by its code; for all others it is the provenance.
_BLAMED: Final[Mapping[ReasonCode, Kind]] = {
    ReasonCode.LOCK_MISMATCH: Kind.LOCK,
    ReasonCode.LOCK_MALFORMED: Kind.LOCK,
    ReasonCode.LOCK_NODE_UNSUPPORTED: Kind.LOCK,
    ReasonCode.LOCK_SUBSTITUTED: Kind.LOCK,
    ReasonCode.SOURCE_NOT_ADMITTED: Kind.TREE,
    ReasonCode.INPUT_NOT_ADMITTED: Kind.INPUTS,
    ReasonCode.CACHE_NOT_ADMITTED: Kind.CACHED,
    ReasonCode.PARTS_MISMATCH: Kind.KEPT,
    ReasonCode.BUILDER_NOT_ADMITTED: Kind.BUILDER,
    ReasonCode.IMPORT_FROM_DERIVATION: Kind.DERIVATION,
    ReasonCode.SBOM_MISMATCH: Kind.SBOM,
    ReasonCode.POLICY_EXPIRED: Kind.POLICY,
}


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of it.

    `claim` is what an authentic bundle says, believed or not; `evidence` is there when every step passed; `blamed` has
    the reasons by the node that they speak of; `doubt` says why nothing of the claim is called verified.
    """

    held: Held
    image: Image | MvmnixError
    authentic: Authentic | None
    claim: Provenance | None
    evidence: Verified[Provenance] | None
    blamed: Mapping[Kind, tuple[Reason, ...]]
    doubt: str

    def verdict(self, kind: Kind, what: str) -> Verdict:
        """The verdict on a node of which the claim speaks; `what` was checked if it holds."""
        if reasons := self.blamed.get(kind):
            return refused(reasons)
        return verified(what) if self.evidence is not None else unverified(self.doubt)

    def paper(self, kind: Kind, paper: Paper, what: str) -> Verdict:
        """The same for a file of the evidence: before all else it has to be there, with the bytes of its name."""
        return verdict_of(paper.problem) if paper.problem is not None else self.verdict(kind, what)

    @property
    def signer(self) -> str:
        """Who vouches for what the claim says, once it is verified."""
        return self.evidence.signer.name if self.evidence is not None else ""


def check(held: Held, *, policy: TrustPolicy, now: datetime) -> Checked:
    """Verify a held build, as far as its pieces are there.

    The four files are those of the manifest, as at a launch: whether the kept ones are these is said of each by itself.
    """
    image = held.image
    if held.bundle.data is None:
        return Checked(held, image, None, None, None, {}, "the provenance could not be read")
    try:
        authentic = authenticate(held.bundle.data, trust=policy.trust, role=Role.BUILDER, what=_WHAT)
    except RefusedError as error:
        return _refused(Checked(held, image, None, None, None, {}, ""), error.reasons)
    checked = Checked(held, image, authentic, _claim(authentic), None, {}, "")
    if isinstance(image, MvmnixError):
        return _doubted(checked, "the image's manifest could not be read")
    if held.unread:
        return _doubted(checked, f"{' and '.join(dict.fromkeys(held.unread))} could not be read")
    try:
        evidence = verify_provenance(
            held.bundle.data,
            policy=policy,
            artifacts=image.artifacts,
            lock=None if held.lock is None else held.lock.data,
            image=image,
            now=now,
            parts=tuple(paper.data for paper in held.parts if paper.data is not None),
            sbom=None if held.sbom is None else held.sbom.data,
            rebuilds=held.rebuilds if policy.thresholds.rebuilds > 1 else (),
        )
    except RefusedError as error:
        return _refused(checked, error.reasons)
    return Checked(held, image, authentic, evidence.claim, evidence, {}, "")


def check_parts(paper: Paper, *, policy: TrustPolicy, now: datetime) -> Verified[Parts] | MvmnixError:
    """Verify a parts statement by itself, or say why it doesn't."""
    if isinstance(paper.found, MvmnixError):
        return paper.found
    try:
        return verify_parts(paper.found, policy=policy, now=now)
    except RefusedError as error:
        return error


def _claim(authentic: Authentic) -> Provenance | None:
    try:
        said = statement.parse(authentic.payload)
        step_7_predicate_type(said)
        return step_8_predicate(said)
    except RefusedError:
        return None  # verify_provenance will say so


def _refused(it: Checked, reasons: Iterable[Reason]) -> Checked:
    blamed: defaultdict[Kind, tuple[Reason, ...]] = defaultdict(tuple)
    for reason in reasons:
        own = reason.what != "a parts statement"  # whose reasons are of codes that others have, too
        blamed[_BLAMED.get(reason.code, Kind.PROVENANCE) if own else Kind.KEPT] += (reason,)
    codes = ", ".join(dict.fromkeys(reason.code for reasons in blamed.values() for reason in reasons))
    doubt = f"its evidence is refused [{codes}]"
    return Checked(it.held, it.image, it.authentic, it.claim, None, dict(blamed), doubt)


def _doubted(it: Checked, why: str) -> Checked:
    return Checked(it.held, it.image, it.authentic, it.claim, None, {}, why)
