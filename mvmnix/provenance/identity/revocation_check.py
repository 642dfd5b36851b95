"""Says why a bundle is no longer trusted: its signer, its bytes in any spelling, or what it says is revoked; pure.

The holder of a bundle can make others of it that verify as well: in another formatting; with the other of the two
ECDSA signatures (r, s) and (r, n-s), each of which follows from the other without the key (SEC 1, section 4.1.4); with
or without log entries and timestamps that are not required, or the proof of one, where the log's promise is enough;
with other bytes in a timestamp than its authority signed. The first two are known here by the digest of any of them.
A statement's own digest knows all.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode
from mvmnix.keys import Role
from mvmnix.provenance.bundle.envelope import Bundle, MessageBundle
from mvmnix.provenance.identity import certificates
from mvmnix.provenance.identity.trust import Revocations, Signer

_LOOK: Final = "`mvm policy check` lists what is revoked; have it signed again, by a signer that is not revoked"
#: The order of the group of P-256 (SEC 2, section 2.4.2).
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

#: Subject and issuer as certified.
type Named = tuple[str, str]


@dataclass(frozen=True, slots=True)
class RevocationSubject:
    """A bundle as it came and as mvm writes it; its signer, if the policy knows them; whom its certificate names.

    `role` is what the signer is needed as: the statement of a plan is held against the revocations by a step of its own
    (step 18 of launch/gate/verify.py, `plan-revoked`).
    """

    what: str
    data: bytes
    canonical: bytes
    bundle: Bundle | MessageBundle
    signer: Signer | None
    identity: Named | None
    role: Role | None

    @property
    def said(self) -> frozenset[Digest]:
        """The digest of the statement in it, if that is looked at here."""
        if not isinstance(self.bundle, Bundle) or self.role is Role.PLANNER:
            return frozenset()
        return frozenset({Digest.of(self.bundle.payload)})


def reasons(it: RevocationSubject, revoked: Revocations) -> Iterator[Reason]:
    """Why it is no longer trusted."""
    if it.signer is not None and it.signer.key is not None and it.signer.fingerprint in revoked.keys:
        yield Reason(ReasonCode.SIGNER_REVOKED, it.what, f"the key {it.signer.fingerprint} is revoked", _LOOK)
    if it.identity is not None and revoked.revokes(*it.identity):
        yield Reason(ReasonCode.SIGNER_REVOKED, it.what, f"{identity_words(it.identity)} is revoked", _LOOK)
    certified = _claimed_key(it.bundle.material.certificate) if revoked.keys else None
    if certified in revoked.keys:
        yield Reason(ReasonCode.SIGNER_REVOKED, it.what, f"the certified key {certified} is revoked", _LOOK)
    if not revoked.digests:  # then none of the bundle is taken, which may be large
        return
    if _spellings(it) & revoked.digests:
        yield Reason(ReasonCode.BUNDLE_REVOKED, it.what, "this very bundle is revoked", _again(it, revoked))
    elif it.said & revoked.digests:
        yield Reason(ReasonCode.BUNDLE_REVOKED, it.what, "the statement in it is revoked", _LOOK)


def _again(it: RevocationSubject, revoked: Revocations) -> str:
    """What to do about a bundle that is revoked: what it says may be signed again, unless that is revoked as well."""
    if not isinstance(it.bundle, Bundle) or (said := Digest.of(it.bundle.payload)) in revoked.digests:
        return _LOOK
    return f"{_LOOK}. Signed again it counts: to revoke what it says, name the statement's digest, {said}"


def identity_words(identity: Named) -> str:
    """A certified identity, in words for people."""
    return "identity {!r} of the issuer {!r}".format(*identity)


def _spellings(it: RevocationSubject) -> frozenset[Digest]:
    other = mirrored(it.bundle)
    return frozenset({Digest.of(it.data), Digest.of(it.canonical)} | ({other} if other is not None else set()))


def mirrored(bundle: Bundle | MessageBundle) -> Digest | None:
    """The digest of the same bundle with the other ECDSA signature of its signer; None where there is none."""
    other = _other_signature(bundle.signature)
    return None if other is None else Digest.of(replace(bundle, signature=other).to_bytes())


def _other_signature(signature: bytes) -> bytes | None:
    """The other ECDSA signature over the same bytes by the same key; None for what is none on P-256."""
    try:
        r, s = decode_dss_signature(signature)
    except ValueError:
        return None
    return encode_dss_signature(r, _ORDER - s) if 0 < s < _ORDER else None


def _claimed_key(der: bytes) -> Digest | None:
    """The certified key; None for a plain key, which has no certificate, and for a certificate that can't be read."""
    if not der:
        return None
    try:
        return certified_key(der)
    except ValueError:
        return None


def certified_key(der: bytes) -> Digest:
    """SHA-256 of the SubjectPublicKeyInfo in a certificate. Raises ValueError where that can't be read."""
    try:
        key = certificates.from_der(der).public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError("a key of a kind that mvm does not know") from error
    return Digest.of(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
