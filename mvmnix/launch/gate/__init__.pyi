from mvmnix.launch.gate import checks, signatures, verify
from mvmnix.launch.gate.admission import admit
from mvmnix.launch.gate.audit_port import Journal, ReadableJournal
from mvmnix.launch.gate.checks import SummarizedImage, plan_of
from mvmnix.launch.gate.clock import HostClock, looked_at
from mvmnix.launch.gate.nonces import Nonces
from mvmnix.launch.gate.replay import NONCE, LoggedStarts, Replay
from mvmnix.launch.gate.unkept_nonces import UnkeptStarts
from mvmnix.launch.gate.verify import (
    SignedPlan,
    Submission,
    VerifiedPlan,
    read_plan,
    verify_plan,
    verify_plan_without_image,
)

__all__ = [
    "NONCE",
    "HostClock",
    "Journal",
    "LoggedStarts",
    "Nonces",
    "ReadableJournal",
    "Replay",
    "SignedPlan",
    "Submission",
    "SummarizedImage",
    "UnkeptStarts",
    "VerifiedPlan",
    "admit",
    "checks",
    "looked_at",
    "plan_of",
    "read_plan",
    "signatures",
    "verify",
    "verify_plan",
    "verify_plan_without_image",
]
