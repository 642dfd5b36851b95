"""The gate: a plan verified with all it stands on, and its start counted against replay."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "admission": "admit",
        "audit_port": "Journal ReadableJournal",
        "checks": "plan_of SummarizedImage",
        "clock": "HostClock looked_at",
        "nonces": "Nonces",
        "replay": "LoggedStarts NONCE Replay",
        "unkept_nonces": "UnkeptStarts",
        "verify": "read_plan SignedPlan Submission VerifiedPlan verify_plan verify_plan_without_image",
    },
    modules=["checks", "signatures", "verify"],
)
