"""Reads whom a signing certificate names: exactly one subject and exactly one OIDC issuer; pure.

The extensions are Fulcio's (fulcio, docs/oid-info.md). Whether the certificate holds is for certificate_facts.py.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from cryptography import x509

from mvmnix.provenance.identity.trust import SubjectKind, kind_of

#: The issuer as UTF8String, as raw text; a SAN that is neither email address nor URI.
_ISSUER_V2: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_ISSUER_V1: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
#: Of a subject or issuer; policies have no longer ones either. What matches them takes time with their length.
MOST_CHARACTERS: Final = 1024
_USER_NAME: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7")


def names(certificate: x509.Certificate) -> tuple[str, str]:
    """Subject (SAN) and OIDC issuer. Raises ValueError where either is missing, named twice, too long or malformed."""
    values = {each.oid: each.value for each in certificate.extensions}
    found = _subject(values), _issuer(values)
    if any(len(name) > MOST_CHARACTERS for name in found):
        raise ValueError(f"the certificate has a name of more than {MOST_CHARACTERS} characters")
    return found


def _subject(values: Mapping[x509.ObjectIdentifier, x509.ExtensionType]) -> str:
    found = values.get(x509.SubjectAlternativeName.oid)
    several = list(found) if isinstance(found, x509.SubjectAlternativeName) else []
    match several:
        case [x509.RFC822Name(value=name)]:
            kind = SubjectKind.EMAIL
        case [x509.UniformResourceIdentifier(value=name)]:
            kind = SubjectKind.URI
        case [x509.OtherName(type_id=type_id, value=der)] if type_id == _USER_NAME:
            name, kind = utf8(der), SubjectKind.USER_NAME
        case _:
            raise ValueError(f"the certificate names {len(several)} subjects, or one of an unknown kind")
    if kind_of(name) is not kind:  # verification compares texts
        raise ValueError(f"the certificate has a SAN of the kind {kind} in the form of another: {name[:80]!r}")
    return name


def _issuer(values: Mapping[x509.ObjectIdentifier, x509.ExtensionType]) -> str:
    found = set()
    if isinstance(value := values.get(_ISSUER_V2), x509.UnrecognizedExtension):
        found.add(utf8(value.value))
    if isinstance(value := values.get(_ISSUER_V1), x509.UnrecognizedExtension):
        found.add(value.value.decode())
    if len(found) != 1:
        raise ValueError(f"the certificate names {len(found)} OIDC issuers, not one")
    return found.pop()


def utf8(der: bytes) -> str:
    """The text of a UTF8String of up to 65,535 bytes in DER (X.690, sections 8.1 and 10.1: the shortest length).

    Raises ValueError.
    """
    for head in (2, 3, 4):
        text = der[head:]
        with suppress(UnicodeDecodeError):
            if der[:head] == b"\x0c" + _length(len(text)):
                return text.decode()
    raise ValueError("the certificate has a name in another form than UTF-8")


def _length(count: int) -> bytes:
    """A length in DER; nothing for one that takes more than two bytes, which no name has."""
    if count < 0x80:
        return count.to_bytes(1)
    if count < 0x100:
        return b"\x81" + count.to_bytes(1)
    return b"\x82" + count.to_bytes(2) if count < 0x10000 else b""
