"""Finds out what a bundle's certificate shows before one trust domain; decides nothing; pure.

transparency.py holds these facts against its steps. It imports the library for X.509, which bundles of keys don't need.
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from mvmnix.model import Digest
from mvmnix.provenance.bundle.envelope import Bundle, MessageBundle
from mvmnix.provenance.identity import certificate_names, certificate_path
from mvmnix.provenance.identity.certificate_path import Issued
from mvmnix.provenance.identity.certificates import from_der
from mvmnix.provenance.identity.trusted_root import Log, TrustedRoot

type _Paths = tuple[tuple[datetime, tuple[Issued, ...]], ...]


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


def _paths(certificate: x509.Certificate, times: tuple[datetime, ...], root: TrustedRoot) -> _Paths:
    """Where it wasn't valid at a time, the nearest at which it was: whether it was then is another question."""
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    moments = [(moment, min(max(moment, first), last)) for moment in times] or [(first, first)]
    return tuple(
        (moment, certificate_path.issued(certificate, root.authorities, nearest)) for moment, nearest in moments
    )


def _unusable(certificate: x509.Certificate, paths: _Paths, root: TrustedRoot) -> tuple[str, ...]:
    """As the first authority certified it; where none did, that is what is told."""
    match paths:
        case ((_, (first, *_)), *_):
            return tuple(certificate_path.unusable(certificate, first.issuer, root))
        case _:
            return ()


def _ct_logs(certificate: x509.Certificate, root: TrustedRoot) -> tuple[Log, ...]:
    try:
        return certificate_path.ct_logs(certificate, root)
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
        certificate_path.verify_signature(certificate, bundle.signature, over=over)
    except ValueError as error:
        return str(error)
    return None
