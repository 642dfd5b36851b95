"""Finds out what a bundle's certificate and timestamps show before one trust domain; decides nothing; pure.

transparency.py holds these facts against its steps. It imports the library for X.509, which bundles of keys don't need.
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from mvmnix.model import Digest
from mvmnix.provenance.bundle import Bundle, Material, MessageBundle
from mvmnix.provenance.identity import certificate_names, certificate_path, timestamps
from mvmnix.provenance.identity.certificate_path import Issued
from mvmnix.provenance.identity.rekor import promised_time
from mvmnix.provenance.identity.timestamps import Stamp
from mvmnix.provenance.identity.trusted_root import Log, TrustedRoot


@dataclass(frozen=True, slots=True)
class Times:
    """When a signature was seen: by the log's promise, and by timestamps; `broken` is why the others don't hold."""

    logged: datetime | None
    stamps: tuple[Stamp, ...]
    broken: tuple[str, ...]

    @property
    def all(self) -> tuple[datetime, ...]:
        """Every one of them."""
        return (*(() if self.logged is None else (self.logged,)), *(stamp.time for stamp in self.stamps))


type _Paths = tuple[tuple[datetime, tuple[Issued, ...]], ...]


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What was found; `certificate` is None where it can't be read, and then nothing else was found but times.

    `paths` says by whom it was certified, for each time; without a time, as of its beginning. `ct_logs` are those of
    its SCT, `unusable` why it is not for signing code or has no good SCT. `names` is subject and issuer, or why it has
    not exactly one of each. `forged` is why the signature is not the certified key's.
    """

    times: Times
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


def gather(bundle: Bundle | MessageBundle, root: TrustedRoot, file: Digest | None) -> CertificateFacts:
    """What bundle and root say; `file` is the digest of the file that a bare signature has to be over."""
    times = _times(bundle.material, bundle.timestamped, root)
    try:
        certificate = x509.load_der_x509_certificate(bundle.material.certificate)
        certificate.public_key()
        paths = _paths(certificate, times, root)
        return CertificateFacts(
            times,
            certificate,
            paths,
            _ct_logs(certificate, root),
            _unusable(certificate, paths, root),
            _names(certificate),
            _forged(certificate, bundle, file),
        )
    except (ValueError, UnsupportedAlgorithm):
        return CertificateFacts(times)


def _times(material: Material, stamped: bytes, root: TrustedRoot) -> Times:
    logged = None if material.entry is None else promised_time(material.entry)
    stamps, broken = list[Stamp](), list[str]()
    for token in material.timestamps:
        try:
            stamps.append(timestamps.verified(token, stamped, root.timestamping))
        except ValueError as error:
            broken.append(str(error))
    return Times(logged, tuple(stamps), tuple(broken))


def _paths(certificate: x509.Certificate, times: Times, root: TrustedRoot) -> _Paths:
    """Where it wasn't valid at a time, the nearest at which it was: whether it was then is another question."""
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    moments = [(moment, min(max(moment, first), last)) for moment in times.all] or [(first, first)]
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
