from mvmnix.launch.gate import checks, signatures, verify
from mvmnix.launch.gate.admission import admit, as_verdict
from mvmnix.launch.gate.audit_port import Journal, Ledger
from mvmnix.launch.gate.checks import SummarizedImage, plan_of
from mvmnix.launch.gate.clock import HostClock, looked_at
from mvmnix.launch.gate.nonces import Nonces
from mvmnix.launch.gate.replay import NONCE, LoggedStarts, Replay
from mvmnix.launch.gate.unkept_nonces import Unkept
from mvmnix.launch.gate.verify import SignedPlan, Submission, VerifiedPlan, read_plan, verify_plan, verify_sheet

__all__ = [
    "NONCE",
    "HostClock",
    "Journal",
    "Ledger",
    "LoggedStarts",
    "Nonces",
    "Replay",
    "SignedPlan",
    "Submission",
    "SummarizedImage",
    "Unkept",
    "VerifiedPlan",
    "admit",
    "as_verdict",
    "checks",
    "looked_at",
    "plan_of",
    "read_plan",
    "signatures",
    "verify",
    "verify_plan",
    "verify_sheet",
]
