"""Trust policies: their text, their rules, and the machine's floor beneath a user's."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "default": "default_policy",
        "policy": "PolicyFile SERIAL_FILES TrustPolicy",
        "policy_files": "Files FLOOR in_force read_policy_files",
        "rules": "builder_manifest BuilderRule VerifierRule",
        "trust_text": "FILE_NAME MOST_VOICES",
        "verdicts": "as_verdict refuse_older VerdictLog",
    },
)
