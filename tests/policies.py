"""Trust policies from the texts of their files, without a directory that these lie in."""

from mvmnix.provenance.policy.merge import PolicyInputs, combine
from mvmnix.provenance.policy.policy import TrustPolicy, digest_of
from mvmnix.provenance.policy.trust_text import parse


def effective(floor: bytes | None, user: bytes | None, around: PolicyInputs | None = None) -> TrustPolicy:
    """The policy in force, from the bytes of the machine's file and of the user's, where they exist.

    `around` is what else it needs; left out: no revocations and no trust roots. Raises RefusedError: POLICY_MISSING,
    POLICY_MALFORMED, POLICY_EMPTY, POLICY_WIDENS, ROOT_MISMATCH.
    """
    files = (None if floor is None else parse(floor), None if user is None else parse(user))
    return combine(*files, digest_of(floor, user), around)
