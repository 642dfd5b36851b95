from mvmnix.provenance.policy.default import default_policy
from mvmnix.provenance.policy.policy import SERIAL_FILES, PolicyFile, TrustPolicy
from mvmnix.provenance.policy.policy_files import FLOOR, Files, in_force, read_policy_files
from mvmnix.provenance.policy.rules import BuilderRule, VerifierRule, builder_manifest
from mvmnix.provenance.policy.trust_text import FILE_NAME, MOST_VOICES
from mvmnix.provenance.policy.verdicts import VerdictLog, as_verdict, refuse_older

__all__ = [
    "FILE_NAME",
    "FLOOR",
    "MOST_VOICES",
    "SERIAL_FILES",
    "BuilderRule",
    "Files",
    "PolicyFile",
    "TrustPolicy",
    "VerdictLog",
    "VerifierRule",
    "as_verdict",
    "builder_manifest",
    "default_policy",
    "in_force",
    "read_policy_files",
    "refuse_older",
]
