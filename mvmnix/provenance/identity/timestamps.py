"""The only importer of `rfc3161_client`: says when an authority of a trust domain timestamped a signature; pure.

A timestamp is a TimeStampResp (RFC 3161, section 2.4.2) in DER. The library checks its signature, the path to the
authority's root at the timestamp's own time, the usage timeStamping, and the digest of what was timestamped.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from rfc3161_client import VerificationError, Verifier, VerifierBuilder, decode_timestamp_response

from mvmnix.provenance.identity.trusted_root import Authority


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a signature existed, by the word of these authorities, whether they were trusted then or not."""

    time: datetime
    authorities: tuple[Authority, ...]


def verified(token: bytes, stamped: bytes, authorities: Iterable[Authority]) -> Stamp:
    """What a timestamp says of these bytes. Raises ValueError where no authority made it over them."""
    response = decode_timestamp_response(token)
    found, why = list[Authority](), "the trust root has no timestamp authority"
    for authority in authorities:
        try:
            _verifier(authority.certificates).verify_message(response, stamped)
        except (VerificationError, ValueError) as error:
            why = str(error)
        else:
            found.append(authority)
    if not found:
        raise ValueError(why)
    return Stamp(response.tst_info.gen_time, tuple(found))


def _verifier(certificates: tuple[bytes, ...]) -> Verifier:
    if len(certificates) < 2:
        raise ValueError("the authority has one certificate instead of a chain")
    leaf, *above, top = [x509.load_der_x509_certificate(der) for der in certificates]
    return VerifierBuilder(tsa_certificate=leaf, intermediates=above, roots=[top]).build()
