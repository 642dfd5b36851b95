"""Establishes who signed a claim, in numbered steps, from bytes alone; the only minter of Authentic.

A bundle is read (BUNDLE_MALFORMED, UNSIGNED), and then:

1. its bytes are the canonical ones, so that none is there that nobody signed and nobody looks at;
2. the key that its hint names is a signer's of the trust policy;
3. the one signature is that key's, over DSSE's encoding of payload type and payload;
4. that signer has the role which such a claim needs;
5. the payload type is in-toto's.

Steps 2, 4 and 5 are reported together with the others. The payload may be read only out of an Authentic.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import InitVar, dataclass
from typing import Final, NoReturn, final, override

from mvmnix.errors import Reason, ReasonCode, RefusedError, refuse
from mvmnix.keys import Role
from mvmnix.model import Digest
from mvmnix.provenance import envelope
from mvmnix.provenance.envelope import Bundle
from mvmnix.provenance.policy import Signer, TrustPolicy
from mvmnix.provenance.statement import PAYLOAD_TYPE


class _Seal:
    """What only this module has: the permission to say that something was authenticated."""


_SEAL: Final = _Seal()


@final
@dataclass(frozen=True, slots=True)
class Authentic:
    """Bytes that a known signer signed in a role that the policy gives them; `digest` is the bundle's.

    Sealed: `authenticate` makes it. Not for pickling: another process verifies the bytes again.
    """

    payload: bytes
    signer: Signer
    digest: Digest
    seal: InitVar[_Seal]

    def __post_init__(self, seal: _Seal) -> None:
        if seal is not _SEAL:
            raise TypeError("only authenticate() says that a claim is authentic")

    @override
    def __reduce__(self) -> NoReturn:
        raise TypeError("evidence stays in the process that verified it")


@dataclass(frozen=True, slots=True)
class Submission:
    """A bundle that is to be authenticated. `what` names it for people."""

    what: str
    data: bytes
    bundle: Bundle
    policy: TrustPolicy
    role: Role

    @property
    def signer(self) -> Signer | None:
        """Whom the hint names, if the policy knows them; claimed, not proven."""
        return self.policy.signer(self.bundle.hint)


type Step = Callable[[Submission], Iterator[Reason]]


def step_1_canonical(it: Submission) -> Iterator[Reason]:
    """1. Every byte is the one that mvm writes for this content."""
    if it.bundle.to_bytes() != it.data:
        why = "its bytes are not those that mvm writes for this content"
        yield Reason(ReasonCode.BUNDLE_NOT_CANONICAL, it.what, why, "take the bundle as mvm wrote it")


def step_2_signer(it: Submission) -> Iterator[Reason]:
    """2. The policy knows the key."""
    if it.signer is None:
        why = f"the trust policy knows no key with the hint {it.bundle.hint}"
        hint = "have it signed by a signer of the policy, or add the key to trust.toml if you mean to trust it"
        yield Reason(ReasonCode.SIGNER_UNKNOWN, it.what, why, hint)


def step_3_signature(it: Submission) -> Iterator[Reason]:
    """3. The key made the signature, over these very bytes. Without a key, step 2 has refused."""
    if it.signer is None:
        return
    try:
        it.signer.key.verified(it.bundle.signed_bytes, it.bundle.signature)
    except ValueError as error:
        yield Reason(
            ReasonCode.SIGNATURE_INVALID, it.what, str(error), "get an unchanged copy, or have it signed again"
        )


def step_4_role(it: Submission) -> Iterator[Reason]:
    """4. The signer may make such claims."""
    if it.signer is not None and it.role not in it.signer.roles:
        has = ", ".join(sorted(it.signer.roles))
        why = f"it needs a {it.role}'s signature, and {it.signer.name!r} is {has}"
        yield Reason(ReasonCode.SIGNER_ROLE, it.what, why, f"have it signed with a {it.role} key")


def step_5_payload_type(it: Submission) -> Iterator[Reason]:
    """5. The signature is about an in-toto statement."""
    if it.bundle.payload_type != PAYLOAD_TYPE:
        why = f"its payload is {it.bundle.payload_type!r}, not {PAYLOAD_TYPE!r}"
        yield Reason(ReasonCode.BUNDLE_MALFORMED, it.what, why, "sign an in-toto statement")


STEPS: tuple[Step, ...] = (step_1_canonical, step_2_signer, step_3_signature, step_4_role, step_5_payload_type)


def authenticate(data: bytes, *, policy: TrustPolicy, role: Role, what: str) -> Authentic:
    """Take a bundle through all steps. Raises RefusedError with every reason that was found."""
    with only_refusals(what):
        bundle = envelope.parse(data)
        it = Submission(what, data, bundle, policy, role)
        reasons = tuple(reason for step in STEPS for reason in step(it))
        signer = it.signer
        if reasons or signer is None:
            raise RefusedError(*reasons)
        return Authentic(bundle.payload, signer, Digest.of(data), _SEAL)


@contextmanager
def only_refusals(what: str) -> Iterator[None]:
    """Turn what a verification did not expect into a refusal: libraries leak exceptions that nobody listed."""
    try:
        yield
    except RefusedError:
        raise
    except Exception as error:
        why = f"its verification ended with {type(error).__name__}: {error}"
        raise refuse(ReasonCode.UNEXPECTED, what, why, "report this as a bug, with the file if you can") from error
