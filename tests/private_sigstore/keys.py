"""Holds the P-256 keys that the authorities of a private Sigstore sign with."""

import base64
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True, slots=True)
class LogKey:
    """The key of a log; the log is called by the SHA-256 of the key (RFC 6962, section 3.2)."""

    private: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo in DER."""
        return self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def pem(self) -> bytes:
        """The public key in PEM."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def log_id(self) -> bytes:
        """SHA-256 of the SubjectPublicKeyInfo."""
        digest = hashes.Hash(hashes.SHA256())
        digest.update(self.spki)
        return digest.finalize()

    def sign(self, message: bytes) -> bytes:
        """ECDSA with SHA-256, in DER."""
        return self.private.sign(message, ec.ECDSA(hashes.SHA256()))


def encode(data: bytes) -> str:
    """Base64, as Protobuf's JSON writes bytes."""
    return base64.b64encode(data).decode()


def decode(text: Any) -> bytes:
    """The bytes of a base64 text."""
    return base64.b64decode(text, validate=True)
