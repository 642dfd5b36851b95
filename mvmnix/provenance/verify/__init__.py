"""Verification in numbered steps: provenance, summaries, files of any build."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "artifact_verifier": "AcceptedArtifact CountedBundle HandedIn signer_of VerificationCriteria",
        "authentication": "Attested Authentic authenticate only_refusals",
        "checks": "differences REBUILD",
        "explain": "rule_owners RuleFinding",
        "image_evidence": "ImageEvidence",
        "registry_responses": "Packed",
        "quorum": "Quorum",
        "release_checks": "ReleasePolicy",
        "requirements": "Requirements",
        "step_results": "Steps",
        "summary": "Summary VerifiedSummary verify_summary",
        "verify": "Claimed read_claim Verified verify_alone verify_claim verify_parts verify_provenance",
        "vsa": "Result Vsa",
        "vsa_inputs": "ReadBuild SummaryInput",
    },
    modules=["explain", "image_layouts", "vsa", "vsa_inputs"],
)
