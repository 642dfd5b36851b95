"""Loads the library for X.509 certificates when the first one is read: what only keys signed never needs it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def from_der(der: bytes) -> "Certificate":
    """A certificate (RFC 5280) of its DER. Raises ValueError."""
    from cryptography import x509  # noqa: PLC0415 - 1.2 MiB that would stay in each supervisor

    return x509.load_der_x509_certificate(der)


def from_pem(pem: bytes) -> "Certificate":
    """A certificate of its PEM (RFC 7468). Raises ValueError."""
    from cryptography import x509  # noqa: PLC0415 - as above

    return x509.load_pem_x509_certificate(pem)
