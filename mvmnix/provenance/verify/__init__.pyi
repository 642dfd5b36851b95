from mvmnix.provenance.verify import explain, image_layouts, vsa, vsa_inputs
from mvmnix.provenance.verify.artifact_verifier import (
    AcceptedArtifact,
    CountedBundle,
    HandedIn,
    VerificationCriteria,
    signer_of,
)
from mvmnix.provenance.verify.authentication import Attested, Authentic, authenticate, only_refusals
from mvmnix.provenance.verify.checks import REBUILD, differences
from mvmnix.provenance.verify.explain import RuleFinding, rule_owners
from mvmnix.provenance.verify.image_evidence import ImageEvidence
from mvmnix.provenance.verify.quorum import Quorum
from mvmnix.provenance.verify.registry_responses import Packed
from mvmnix.provenance.verify.release_checks import ReleasePolicy
from mvmnix.provenance.verify.requirements import Requirements
from mvmnix.provenance.verify.step_results import Steps
from mvmnix.provenance.verify.summary import Summary, VerifiedSummary, verify_summary
from mvmnix.provenance.verify.verify import (
    Claimed,
    Verified,
    read_claim,
    verify_alone,
    verify_claim,
    verify_parts,
    verify_provenance,
)
from mvmnix.provenance.verify.vsa import Result, Vsa
from mvmnix.provenance.verify.vsa_inputs import ReadBuild, SummaryInput

__all__ = [
    "REBUILD",
    "AcceptedArtifact",
    "Attested",
    "Authentic",
    "Claimed",
    "CountedBundle",
    "HandedIn",
    "ImageEvidence",
    "Packed",
    "Quorum",
    "ReadBuild",
    "ReleasePolicy",
    "Requirements",
    "Result",
    "RuleFinding",
    "Steps",
    "Summary",
    "SummaryInput",
    "VerificationCriteria",
    "Verified",
    "VerifiedSummary",
    "Vsa",
    "authenticate",
    "differences",
    "explain",
    "image_layouts",
    "only_refusals",
    "read_claim",
    "rule_owners",
    "signer_of",
    "verify_alone",
    "verify_claim",
    "verify_parts",
    "verify_provenance",
    "verify_summary",
    "vsa",
    "vsa_inputs",
]
