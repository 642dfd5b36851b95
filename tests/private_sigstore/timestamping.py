"""Says when it saw a signature, as an RFC 3161 timestamp authority does."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.private_sigstore import der
from tests.private_sigstore.authority import LATE, OLD, Key, authority, ca_certificate, named, usage
from tests.private_sigstore.keys import new_key
from tests.private_sigstore.window import ALWAYS, Window

SHA256 = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"))
ECDSA_SHA256 = der.sequence(der.oid("1.2.840.10045.4.3.2"))
SIGNED_DATA, TST_INFO = der.oid("1.2.840.113549.1.7.2"), der.oid("1.2.840.113549.1.9.16.1.4")
CONTENT_TYPE, MESSAGE_DIGEST = der.oid("1.2.840.113549.1.9.3"), der.oid("1.2.840.113549.1.9.4")
SIGNING_CERTIFICATE_V2 = der.oid("1.2.840.113549.1.9.16.2.47")
#: Any policy; the arc is the one of examples.
POLICY = der.oid("2.999.1")


@dataclass(frozen=True, slots=True)
class Tsa:
    """The timestamp authority: a certificate for timestamping alone, below a root."""

    key: Key
    certificate: x509.Certificate
    root: x509.Certificate
    valid_for: Window = ALWAYS

    @classmethod
    def new(cls) -> Self:
        """Keys and certificates made anew."""
        top, key = new_key(), new_key()
        public = key.public_key()
        root = ca_certificate("tsa root", top, "tsa root", top, 0)
        leaf = (
            x509.CertificateBuilder(root.subject, named("tsa"), public, x509.random_serial_number(), OLD, LATE)
            .add_extension(usage(signs=True, is_ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(top.public_key()), critical=False)
            .sign(top, hashes.SHA256())
        )
        return cls(key, leaf, root)

    def token(self, signature: bytes, at: datetime, nonce: int | None = None) -> bytes:
        """A response (RFC 3161, section 2.4.2) that timestamps a signature, in DER."""
        return self.response(hashlib.sha256(signature).digest(), at, nonce)

    def response(self, digest: bytes, at: datetime, nonce: int | None) -> bytes:
        """The same for the SHA-256 digest of what is timestamped."""
        return der.sequence(der.sequence(der.integer(0)), self._signed(_info(digest, at, nonce)))

    def answer(self, request: bytes, at: datetime) -> bytes:
        """The response to a TimeStampReq in DER. Raises ValueError when it is none, or not for SHA-256."""
        match der.children(request):
            case [(der.SEQUENCE, content)]:
                pass
            case _:
                raise ValueError("no timestamp request")
        match der.children(content):
            case [(der.INTEGER, b"\1"), (der.SEQUENCE, imprint), *rest]:
                pass
            case _:
                raise ValueError("no timestamp request of version 1")
        match der.children(imprint):
            case [(der.SEQUENCE, algorithm), (der.OCTETS, digest)] if algorithm.startswith(SHA256[2:]):
                nonces = [int.from_bytes(value) for tag, value in rest if tag == der.INTEGER]
                return self.response(digest, at, nonces[0] if nonces else None)
            case _:
                raise ValueError("not an imprint by SHA-256")

    def _signed(self, info: bytes) -> bytes:
        """CMS SignedData (RFC 5652) around a TSTInfo."""
        certificate = self.certificate.public_bytes(Encoding.DER)
        hashed = der.sequence(der.sequence(der.sequence(der.octets(hashlib.sha256(certificate).digest()))))
        attributes = (
            der.sequence(CONTENT_TYPE, der.collection(TST_INFO)),
            der.sequence(MESSAGE_DIGEST, der.collection(der.octets(hashlib.sha256(info).digest()))),
            der.sequence(SIGNING_CERTIFICATE_V2, der.collection(hashed)),
        )
        signature = self.key.sign(der.collection(*attributes), ec.ECDSA(hashes.SHA256()))
        issuer = der.sequence(self.root.subject.public_bytes(), der.integer(self.certificate.serial_number))
        signer = der.sequence(
            der.integer(1), issuer, SHA256, der.tagged(0, *sorted(attributes)), ECDSA_SHA256, der.octets(signature)
        )
        content = der.sequence(TST_INFO, der.tagged(0, der.octets(info)))
        data = der.sequence(
            der.integer(3), der.collection(SHA256), content, der.tagged(0, certificate), der.collection(signer)
        )
        return der.sequence(SIGNED_DATA, der.tagged(0, data))

    def to_json(self) -> dict[str, Any]:
        """`CertificateAuthority` of a trusted root."""
        return authority("https://tsa.test", (self.certificate, self.root), self.valid_for)


def _info(digest: bytes, at: datetime, nonce: int | None) -> bytes:
    """TSTInfo (RFC 3161, section 2.4.2)."""
    imprint = der.sequence(SHA256, der.octets(digest))
    serial = der.integer(x509.random_serial_number())
    asked = b"" if nonce is None else der.integer(nonce)
    return der.sequence(der.integer(1), POLICY, imprint, serial, der.time(at), asked)
