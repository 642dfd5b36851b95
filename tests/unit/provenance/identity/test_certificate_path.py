"""Keys of kinds that no rule here covers: they certify nothing, and make no signature that counts."""

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mvmnix.digest import Digest
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.identity import certificates, trusted_root
from mvmnix.provenance.identity.certificate_facts import CertificateFacts, issued, unusable, verify_signature
from tests.unit.provenance.forgeries import ISSUER, NOW, OURS, PAYLOAD, SUBJECT

TICK = timedelta(microseconds=1)

type Key = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def certified(key: Key) -> x509.Certificate:
    """A certificate of a key by itself."""
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([])).serial_number(1)
    builder = builder.public_key(key.public_key()).not_valid_before(NOW).not_valid_after(NOW)
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def test_an_issuer_whose_key_no_sct_is_over() -> None:
    """RFC 6962, section 2.1.4: logs take certificates of RSA and ECDSA keys."""
    bundle = envelope.parse_bundle(OURS.attest(PAYLOAD, at=NOW, subject=SUBJECT, issuer=ISSUER))
    leaf, root = certificates.from_der(bundle.material.certificate), trusted_root.parse(OURS.trusted_root)
    assert list(unusable(leaf, certified(ed25519.Ed25519PrivateKey.generate()), root)) == [
        "its SCT does not hold: the key of its issuer is neither RSA nor ECDSA"
    ]


P256, P384, P521 = (ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()))


@pytest.mark.parametrize(
    ("key", "by", "over_bytes", "over_file"),
    [
        (P256, hashes.SHA256(), True, True),
        (P256, hashes.SHA384(), False, False),
        (P384, hashes.SHA384(), True, False),
        (P384, hashes.SHA256(), True, True),
        (P384, hashes.SHA512(), False, False),
        (P521, hashes.SHA512(), True, False),
        (P521, hashes.SHA256(), True, True),
    ],
    ids=lambda it: getattr(it, "name", None) or getattr(getattr(it, "curve", None), "name", None),
)
def test_by_which_hash_a_key_may_sign(
    key: ec.EllipticCurvePrivateKey, by: hashes.HashAlgorithm, *, over_bytes: bool, over_file: bool
) -> None:
    """Of a file only its SHA-256 is known, which another hash can't be made of."""
    signature = key.sign(b"data", ec.ECDSA(by))
    told: tuple[tuple[bytes | Digest, bool], ...] = ((b"data", over_bytes), (Digest.of(b"data"), over_file))
    for over, good in told:
        if good:
            verify_signature(certified(key), signature, over=over)
        else:
            with pytest.raises(ValueError, match="did not make the signature over"):
                verify_signature(certified(key), signature, over=over)


def test_a_certificate_is_no_authority_for_itself() -> None:
    """Even where a root names it among its authorities' certificates: nothing is certified by a path of one."""
    der = envelope.parse_bundle(OURS.attest(PAYLOAD, at=NOW, subject=SUBJECT, issuer=ISSUER)).material.certificate
    own = trusted_root.Authority((der,), trusted_root.Window(NOW))
    root = trusted_root.parse(OURS.trusted_root)
    leaf = certificates.from_der(der)
    assert [it.authority for it in issued(leaf, [own, *root.authorities], NOW)] == list(root.authorities)


@pytest.mark.parametrize(
    ("key", "over"),
    [
        (rsa.generate_private_key(65537, 2048), b"data"),
        (ec.generate_private_key(ec.SECP256K1()), b"data"),
        (ed25519.Ed25519PrivateKey.generate(), Digest.of(b"data")),  # which signs no digest made by others
    ],
)
def test_a_signature_by_a_key_that_can_not_be_checked(key: Key, over: bytes | Digest) -> None:
    with pytest.raises(ValueError, match="of a kind that can't be checked here"):
        verify_signature(certified(key), bytes(64), over=over)


@pytest.mark.parametrize(("moment", "outside"), [(NOW - TICK, True), (NOW, False), (NOW + TICK, True)])
def test_a_certificate_is_valid_at_both_its_ends(moment: datetime, *, outside: bool) -> None:
    """RFC 5280, section 4.1.2.5: the dates are inclusive."""
    it = CertificateFacts(certified(ec.generate_private_key(ec.SECP256R1())))
    assert it.outside(moment) is outside


def test_a_certificate_that_is_for_nothing() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    found = list(unusable(certified(key), certified(key), trusted_root.parse(OURS.trusted_root)))
    assert found[:2] == ["its key usage is not digitalSignature", "its extended key usage is not codeSigning"]
    assert found[2].startswith("its SCT does not hold: ")
