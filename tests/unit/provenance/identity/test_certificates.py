"""A certificate for which the library has errors of its own can't be read, wherever it comes from."""

import re
from datetime import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from mvmnix.provenance.identity import certificates
from tests.repository import ROOT

_NAMES, _FIRST, _SECOND = (x509.ObjectIdentifier(it) for it in ("2.5.29.17", "1.3.6.1.4.1.7.1", "1.3.6.1.4.1.7.2"))
#: Names of one kind each, x400Address and ediPartyName (RFC 5280, section 4.2.1.6); and one that breaks off.
_X400, _EDI, _SHORT = b"0\2\xa3\0", b"0\2\xa5\0", b"0\2\xa0\0"


def made(names: bytes = b"") -> bytes:
    key, name = ed25519.Ed25519PrivateKey.generate(), x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, datetime(2026, 1, 1), datetime(2027, 1, 1))
    for oid, value in ((_NAMES, names or b"0\0"), (_FIRST, b"a"), (_SECOND, b"a")):
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
    return builder.sign(key, None).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "der",
    [
        *(made().replace(b"\xa0\3\2\1\2", b"\xa0\3\2\1" + bytes([it])) for it in (1, 3, 127)),
        made().replace(b"\x2b\6\1\4\1\7\2", b"\x2b\6\1\4\1\7\1"),
        made(_X400),
        made(_EDI),
        b"",
    ],
    ids=["version 2", "version 4", "version 128", "an extension twice", "x400Address", "ediPartyName", "nothing"],
)
def test_what_cant_be_read(der: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        certificates.from_der(der)


@pytest.mark.parametrize("der", [made(), made(_SHORT)], ids=["an ordinary one", "names that break off"])
def test_who_asks_for_extensions_is_told_what_is_wrong_with_them(der: bytes) -> None:
    assert certificates.from_der(der).serial_number == 1


def test_all_are_read_here() -> None:
    loads = re.compile(r"\bload_(?:der|pem)_x509_")
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "mvmnix").rglob("*.py")}
    assert {path.name for path, text in texts.items() if loads.search(text)} == {"certificates.py"}
