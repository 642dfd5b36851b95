from mvmnix.api.verify.artifacts import ArtifactVerdict, FailedArtifact, in_registry, verify_artifacts
from mvmnix.api.verify.bundles import SUFFIX
from mvmnix.api.verify.image import open_exported, read_image_claim, verify_image
from mvmnix.api.verify.policy_at import named_files, named_policy
from mvmnix.api.verify.summaries import Finding, finding_of_files, finding_of_image, write_summary
from mvmnix.api.verify.trust_choice import TrustChoice

__all__ = [
    "SUFFIX",
    "ArtifactVerdict",
    "FailedArtifact",
    "Finding",
    "TrustChoice",
    "finding_of_files",
    "finding_of_image",
    "in_registry",
    "named_files",
    "named_policy",
    "open_exported",
    "read_image_claim",
    "verify_artifacts",
    "verify_image",
    "write_summary",
]
