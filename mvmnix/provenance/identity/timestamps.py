"""The only importer of `rfc3161_client`: says when log and authorities of a trust domain saw a signature; pure.

A timestamp is a TimeStampResp (RFC 3161, section 2.4.2) in DER. The library checks its signature, the path to the
authority's root at the timestamp's own time, the usage timeStamping, and the digest of what was timestamped. It and
X.509 are loaded for a bundle that has one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from mvmnix.provenance.bundle.envelope import Bundle, MessageBundle
from mvmnix.provenance.identity.certificates import from_der
from mvmnix.provenance.identity.rekor import promised_time
from mvmnix.provenance.identity.trusted_root import Authority, TrustedRoot

if TYPE_CHECKING:
    from rfc3161_client import Verifier


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a signature existed, by the word of these authorities, whether they were trusted then or not."""

    time: datetime
    authorities: tuple[Authority, ...]


@dataclass(frozen=True, slots=True)
class Times:
    """When a signature was seen: by the log's promise, and by timestamps; `broken` is why the others don't hold."""

    logged: datetime | None = None
    stamps: tuple[Stamp, ...] = ()
    broken: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[datetime, ...]:
        """Every one of them."""
        return (*(() if self.logged is None else (self.logged,)), *(stamp.time for stamp in self.stamps))


def gather(bundle: Bundle | MessageBundle, root: TrustedRoot | None) -> Times:
    """Read the times that a bundle brings. Without a root, which step 3.1 refuses, no timestamp is looked at."""
    material = bundle.material
    logged = None if material.entry is None else promised_time(material.entry)
    if root is None:
        return Times(logged)
    stamps, broken = list[Stamp](), list[str]()
    for token in material.timestamps:
        try:
            stamps.append(verified(token, bundle.timestamped, root.timestamping))
        except ValueError as error:
            broken.append(str(error))
    return Times(logged, tuple(stamps), tuple(broken))


def verified(token: bytes, stamped: bytes, authorities: Iterable[Authority]) -> Stamp:
    """What a timestamp says of these bytes. Raises ValueError where no authority made it over them."""
    from cryptography.x509 import InvalidVersion  # noqa: PLC0415 - most keys don't need it
    from rfc3161_client import VerificationError, decode_timestamp_response  # noqa: PLC0415 - most keys don't need it

    response = decode_timestamp_response(token)
    found, why = list[Authority](), "the trust root has no timestamp authority"
    for authority in authorities:
        try:
            _verifier(authority.certificates).verify_message(response, stamped)
        except (VerificationError, InvalidVersion, ValueError) as error:  # of a certificate that came with it
            why = str(error)
        else:
            found.append(authority)
    if not found:
        raise ValueError(why)
    return Stamp(response.tst_info.gen_time, tuple(found))


def _verifier(certificates: tuple[bytes, ...]) -> "Verifier":
    from rfc3161_client import VerifierBuilder  # noqa: PLC0415

    if len(certificates) < 2:
        raise ValueError("the authority has one certificate instead of a chain")
    leaf, *above, top = [from_der(der) for der in certificates]
    return VerifierBuilder(tsa_certificate=leaf, intermediates=above, roots=[top]).build()
