"""Checks signatures of transparency logs, by the kinds of key that trust roots name; pure."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_der_public_key

#: protobuf-specs, sigstore_common.proto, `PublicKeyDetails`: those with an elliptic curve that are not deprecated.
_EC: Final = {
    "PKIX_ECDSA_P256_SHA_256": ("secp256r1", hashes.SHA256()),
    "PKIX_ECDSA_P384_SHA_384": ("secp384r1", hashes.SHA384()),
    "PKIX_ECDSA_P521_SHA_512": ("secp521r1", hashes.SHA512()),
}
_ED25519: Final = "PKIX_ED25519"

type _Key = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class LogKey:
    """A log's public key: SubjectPublicKeyInfo in DER, and the name of its kind (`PublicKeyDetails`)."""

    spki: bytes
    details: str

    def verified(self, message: bytes, signature: bytes) -> bytes:
        """The message, now known to be signed by this key. Raises ValueError."""
        key = _load(self.spki, self.details)
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signature, message)
            else:
                key.verify(signature, message, ec.ECDSA(_EC[self.details][1]))
        except InvalidSignature as error:
            raise ValueError("the log's key did not make the signature") from error
        return message


@lru_cache(maxsize=64)
def _load(spki: bytes, details: str) -> _Key:
    try:
        key = load_der_public_key(spki)
    except UnsupportedAlgorithm as error:
        raise ValueError("the log's key is of a kind that mvm does not know") from error
    if details == _ED25519 and isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == _EC.get(details, ("", None))[0]:
        return key
    raise ValueError(f"the log's key is not one of the kind {details} that can be checked here")
