"""Finds out what a bundle's certificate shows before one trust domain: path, usages, SCT and signature; pure.

The path is built and checked by `cryptography` (RFC 5280, section 6), as of a moment. Fulcio's certificates are made
for one signature and have the usage codeSigning; each embeds one signed certificate timestamp (SCT, RFC 6962, section
3.2) of a CT log. Whether authority and CT log were trusted at that moment is another question (`validFor`): nothing is
decided here.

transparency.py holds these facts against its steps. It imports the library for X.509, which bundles of keys don't need.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import verification
from cryptography.x509.certificate_transparency import SignedCertificateTimestamp
from cryptography.x509.oid import ExtendedKeyUsageOID

from mvmnix.digest import Digest
from mvmnix.provenance.bundle.envelope import Bundle, MessageBundle
from mvmnix.provenance.identity import certificate_names
from mvmnix.provenance.identity.certificates import from_der
from mvmnix.provenance.identity.trusted_root import Authority, Log, TrustedRoot

#: By which hash a key on each curve may sign; clients of Sigstore signed by SHA-256 with all of them at first.
_HASHES: Final[dict[str, tuple[HashAlgorithm, ...]]] = {
    "secp256r1": (SHA256(),),
    "secp384r1": (SHA384(), SHA256()),
    "secp521r1": (SHA512(), SHA256()),
}

type _Paths = tuple[tuple[datetime, tuple[Issued, ...]], ...]


@dataclass(frozen=True, slots=True)
class Issued:
    """That this authority certified a key; `issuer` is the certificate right above it."""

    authority: Authority
    issuer: x509.Certificate


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What was found; `certificate` is None where it can't be read, and then nothing else was found.

    `paths` says by whom it was certified, for each time; without a time, as of its beginning. `ct_logs` are those of
    its SCT, `unusable` why it is not for signing code or has no good SCT. `names` is subject and issuer, or why it has
    not exactly one of each. `forged` is why the signature is not the certified key's.
    """

    certificate: x509.Certificate | None = None
    paths: _Paths = ()
    ct_logs: tuple[Log, ...] = ()
    unusable: tuple[str, ...] = ()
    names: tuple[str, str] | str = "its certificate can't be read"
    forged: str | None = None

    @property
    def is_issued(self) -> bool:
        """Whether an authority of the root, trusted then or not, certified the key at each of the times."""
        return bool(self.paths) and all(found for _, found in self.paths)

    def outside(self, moment: datetime) -> bool:
        """Whether the certificate was not valid at that moment; one that can't be read says nothing of it."""
        it = self.certificate
        return it is not None and not it.not_valid_before_utc <= moment <= it.not_valid_after_utc


def gather(
    bundle: Bundle | MessageBundle, root: TrustedRoot, file: Digest | None, times: tuple[datetime, ...]
) -> CertificateFacts:
    """What bundle and root say, for the times at which the signature was seen.

    `file` is the digest of the file that a bare signature has to be over.
    """
    try:
        certificate = from_der(bundle.material.certificate)
        certificate.public_key()
        paths = _paths(certificate, times, root)
        return CertificateFacts(
            certificate,
            paths,
            _ct_logs(certificate, root),
            _unusable(certificate, paths, root),
            _names(certificate),
            _forged(certificate, bundle, file),
        )
    except (ValueError, UnsupportedAlgorithm):
        return CertificateFacts()


def issued(certificate: x509.Certificate, authorities: Iterable[Authority], moment: datetime) -> tuple[Issued, ...]:
    """By which authorities there is a path to the certificate at that moment, whether they were trusted then or not.

    An authority with a certificate that can't be used certifies nothing.
    """
    found = list[Issued]()
    for authority in authorities:
        try:
            builder = verification.PolicyBuilder().store(_store(authority.certificates)).time(moment)
            verifier = builder.extension_policies(ca_policy=_ca_policy(), ee_policy=_leaf_policy())
            chain = verifier.build_client_verifier().verify(certificate, []).chain
        except (verification.VerificationError, x509.UnsupportedGeneralNameType, UnsupportedAlgorithm, ValueError):
            continue
        if len(chain) > 1:
            found.append(Issued(authority, chain[1]))
    return tuple(found)


def unusable(certificate: x509.Certificate, issuer: x509.Certificate, root: TrustedRoot) -> Iterator[str]:
    """Why the certificate is not for signing code, or why no CT log of the root has seen it.

    A root without any log, transparency log or CT log, needs no SCT: its domain has only authorities.
    """
    try:
        values = {each.oid: each.value for each in certificate.extensions}
    except ValueError as error:
        yield f"its extensions can't be read: {error}"
        return
    usage, extended = values.get(x509.KeyUsage.oid), values.get(x509.ExtendedKeyUsage.oid)
    if not (isinstance(usage, x509.KeyUsage) and usage.digital_signature):
        yield "its key usage is not digitalSignature"
    if not (isinstance(extended, x509.ExtendedKeyUsage) and ExtendedKeyUsageOID.CODE_SIGNING in extended):
        yield "its extended key usage is not codeSigning"
    if root.logs or root.ct_logs:
        try:
            _sct_verified(certificate, issuer, ct_logs(certificate, root))
        except ValueError as error:
            yield f"its SCT does not hold: {error}"


def ct_logs(certificate: x509.Certificate, root: TrustedRoot) -> tuple[Log, ...]:
    """The entries of the root for the CT log of the certificate's SCT. Raises ValueError without exactly one SCT."""
    sct = _sct(certificate)
    return tuple(log for log in root.ct_logs if log.log_id == sct.log_id)


def verify_signature(certificate: x509.Certificate, signature: bytes, *, over: bytes | Digest) -> None:
    """Raise ValueError unless the certified key made the signature: over bytes, or over the file with that digest."""
    key = certificate.public_key()
    if isinstance(key, ed25519.Ed25519PublicKey) and isinstance(over, bytes):
        checks: list[Callable[[], None]] = [lambda: key.verify(signature, over)]
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _HASHES:
        checks = [partial(_check, key, signature, over, each) for each in _HASHES[key.curve.name]]
    else:
        raise ValueError("the certified key is of a kind that can't be checked here")
    for check in checks:
        with suppress(InvalidSignature):
            check()
            return
    raise ValueError(
        f"the certified key did not make the signature over {'these bytes' if isinstance(over, bytes) else over}"
    )


def _paths(certificate: x509.Certificate, times: tuple[datetime, ...], root: TrustedRoot) -> _Paths:
    """Where it wasn't valid at a time, the nearest at which it was: whether it was then is another question."""
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    moments = [(moment, min(max(moment, first), last)) for moment in times] or [(first, first)]
    return tuple((moment, issued(certificate, root.authorities, nearest)) for moment, nearest in moments)


def _unusable(certificate: x509.Certificate, paths: _Paths, root: TrustedRoot) -> tuple[str, ...]:
    """As the first authority certified it; where none did, that is what is told."""
    match paths:
        case ((_, (first, *_)), *_):
            return tuple(unusable(certificate, first.issuer, root))
        case _:
            return ()


def _ct_logs(certificate: x509.Certificate, root: TrustedRoot) -> tuple[Log, ...]:
    try:
        return ct_logs(certificate, root)
    except ValueError:
        return ()


def _names(certificate: x509.Certificate) -> tuple[str, str] | str:
    try:
        return certificate_names.names(certificate)
    except ValueError as error:
        return str(error)


def _forged(certificate: x509.Certificate, bundle: Bundle | MessageBundle, file: Digest | None) -> str | None:
    over = bundle.signed_bytes if isinstance(bundle, Bundle) else file
    if over is None:
        return "it is a bare signature, and the file that it is over was not given"
    try:
        verify_signature(certificate, bundle.signature, over=over)
    except ValueError as error:
        return str(error)
    return None


@lru_cache(maxsize=32)
def _store(certificates: tuple[bytes, ...]) -> verification.Store:
    """Each certificate of an authority is an anchor: bundles bring no intermediate that counts."""
    return verification.Store([from_der(der) for der in certificates])


# A verifier of clients asks for the usage clientAuth; `unusable` asks for codeSigning instead.


def _ca_policy() -> verification.ExtensionPolicy:
    policy = verification.ExtensionPolicy.webpki_defaults_ca()
    return policy.may_be_present(x509.ExtendedKeyUsage, verification.Criticality.NON_CRITICAL, None)


def _leaf_policy() -> verification.ExtensionPolicy:
    policy = verification.ExtensionPolicy.webpki_defaults_ee()
    return policy.may_be_present(x509.ExtendedKeyUsage, verification.Criticality.NON_CRITICAL, None)


def _sct(certificate: x509.Certificate) -> SignedCertificateTimestamp:
    try:
        found = certificate.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value
    except x509.ExtensionNotFound as error:
        raise ValueError("it has none") from error
    match list(found):
        case [SignedCertificateTimestamp() as only]:
            return only
        case several:
            raise ValueError(f"it has {len(several)}, not one")


def _sct_verified(certificate: x509.Certificate, issuer: x509.Certificate, logs: tuple[Log, ...]) -> None:
    sct = _sct(certificate)
    if not logs:
        raise ValueError(f"no CT log of the trust root has the ID {sct.log_id.hex()}")
    if not isinstance(sct.signature_hash_algorithm, SHA256):
        raise ValueError("it is not signed by SHA-256")  # noqa: TRY004 - the certificate is wrong
    signed = _sct_message(sct, certificate, issuer)
    for number, log in enumerate(logs, 1):
        try:
            log.key.verified(signed, sct.signature)
        except ValueError:
            if number == len(logs):
                raise
        else:
            return


def _sct_message(sct: SignedCertificateTimestamp, certificate: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """What an SCT is a signature over (RFC 6962, section 3.2): the certificate without it, and its issuer's key."""
    key = issuer.public_key()
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise ValueError("the key of its issuer is neither RSA nor ECDSA")  # noqa: TRY004 - the certificate is wrong
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    tbs, more = certificate.tbs_precertificate_bytes, sct.extension_bytes
    # whole milliseconds: RFC 6962 has no finer ones
    since = sct.timestamp.replace(tzinfo=UTC) - datetime.fromtimestamp(0, UTC)
    time = since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000
    head = struct.pack("!BBQH", sct.version.value, 0, time, sct.entry_type.value)
    return b"".join((head, Digest.of(spki).raw, len(tbs).to_bytes(3), tbs, len(more).to_bytes(2), more))


def _check(key: ec.EllipticCurvePublicKey, signature: bytes, over: bytes | Digest, by: HashAlgorithm) -> None:
    match over:
        case bytes():
            key.verify(signature, over, ec.ECDSA(by))
        case Digest() if isinstance(by, SHA256):
            key.verify(signature, over.raw, ec.ECDSA(Prehashed(by)))
        case Digest():
            raise InvalidSignature
