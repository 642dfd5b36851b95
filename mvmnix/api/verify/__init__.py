"""Verification on request: of files and images of any build, of an exported image, of a plan for it; starts nothing."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "artifacts": "ArtifactVerdict FailedArtifact in_registry verify_artifacts",
        "bundles": "SUFFIX",
        "image": "open_exported read_image_claim verify_image",
        "policy_at": "named_files named_policy",
        "summaries": "Finding finding_of_files finding_of_image write_summary",
        "trust_choice": "TrustChoice",
    },
)
