"""The only reader of X.509 certificates; loads the library for them with the first: what only keys signed needs none.

The library raises errors that are no ValueError for an unknown version, and for extensions that there are twice or that
have names of an unknown kind, once they are asked for. Such a certificate can't be read here.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def from_der(der: bytes) -> "Certificate":
    """A certificate (RFC 5280) of its DER. Raises ValueError."""
    from cryptography import x509  # noqa: PLC0415 - 1.2 MiB that would stay in each supervisor

    return _read(x509.load_der_x509_certificate, der)


def from_pem(pem: bytes) -> "Certificate":
    """A certificate of its PEM (RFC 7468). Raises ValueError."""
    from cryptography import x509  # noqa: PLC0415 - as above

    return _read(x509.load_pem_x509_certificate, pem)


def _read(load: "Callable[[bytes], Certificate]", data: bytes) -> "Certificate":
    from cryptography import x509  # noqa: PLC0415 - as above

    try:
        certificate = load(data)
        with suppress(ValueError):  # who asks for them is told so
            list(certificate.extensions)
    except (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(f"not a certificate that can be read: {error}") from error
    return certificate
