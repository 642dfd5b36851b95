"""What was revoked stays revoked: under a certificate, in another formatting, with the other signature, signed anew."""

import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.keys import Algorithm, PrivateKey, Role
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.bundle.envelope import Bundle, MessageBundle
from mvmnix.provenance.bundle.verification_material import Material
from mvmnix.provenance.identity import revocation_check
from mvmnix.provenance.identity.trust import Revocations, Signer, Trust
from mvmnix.provenance.verify.authentication import authenticate, authenticate_foreign, read_foreign
from tests.unit.provenance.forgeries import ISSUER as BY
from tests.unit.provenance.forgeries import NOW, OURS, PAYLOAD, SUBJECT, identity

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P256, ED25519 = PrivateKey.generate(Algorithm.ECDSA_P256), PrivateKey.generate()
FILE = b"a file"


def trust(key: PrivateKey, *revoked: Digest) -> Trust:
    signer = Signer("builder", key.public, frozenset({Role.BUILDER}))
    return Trust((signer,), {}, Revocations(digests=frozenset(revoked)))


def mirrored[B: (Bundle, MessageBundle)](bundle: B) -> B:
    """What anybody can make of somebody's ECDSA signature."""
    r, s = decode_dss_signature(bundle.signature)
    return replace(bundle, signature=encode_dss_signature(r, ORDER - s))


def pretty(data: bytes) -> bytes:
    return json.dumps(json.loads(data), indent=1).encode()


def refused(data: bytes, held: Trust, *, foreign: bool = False, blob: Blob | None = None) -> tuple[Code, ...]:
    with pytest.raises(RefusedError) as caught:
        if foreign:
            authenticate_foreign(read_foreign(data, "it"), trust=held, role=Role.BUILDER, what="it", blob=blob)
        else:
            authenticate(data, trust=held, role=Role.BUILDER, what="it")
    return caught.value.codes


def test_the_other_signature_is_the_same_bundle() -> None:
    signed = envelope.sign(PAYLOAD, P256)
    other = mirrored(signed).to_bytes()
    assert other != signed.to_bytes()
    assert authenticate(other, trust=trust(P256), role=Role.BUILDER, what="it").payload == PAYLOAD, "it is no forgery"
    for one, revoked in ((other, signed.to_bytes()), (signed.to_bytes(), other)):
        held = trust(P256, Digest.of(revoked))
        assert refused(one, held) == (Code.BUNDLE_REVOKED,)
        assert refused(pretty(one), held, foreign=True) == (Code.BUNDLE_REVOKED,)


def test_the_other_signature_over_a_file() -> None:
    signed = MessageBundle(P256.sign(FILE), Digest.of(FILE), Material(P256.public.hint))
    held, blob = trust(P256, Digest.of(signed.to_bytes())), Blob(Digest.of(FILE))
    for one in (signed, mirrored(signed)):
        assert refused(pretty(one.to_bytes()), held, foreign=True, blob=blob) == (Code.BUNDLE_REVOKED,)
        for free in (trust(P256), trust(P256, Digest.of(b"another"))):
            read = read_foreign(one.to_bytes(), "it")
            assert authenticate_foreign(read, trust=free, what="it", blob=blob).content == blob.digest


@pytest.mark.parametrize(("s", "other"), [(0, None), (1, ORDER - 1), (ORDER - 1, 1), (ORDER, None), (ORDER + 1, None)])
def test_which_signatures_have_another(s: int, other: int | None) -> None:
    """SEC 1, section 4.1.4: s is in [1, n - 1]."""
    it = MessageBundle(encode_dss_signature(7, s), None, Material(P256.public.hint))
    found = revocation_check.mirrored(it)
    assert found == (
        None if other is None else Digest.of(replace(it, signature=encode_dss_signature(7, other)).to_bytes())
    )


@pytest.mark.parametrize("key", [P256, ED25519])
def test_a_statement_that_is_revoked_can_be_signed_as_often_as_you_like(key: PrivateKey) -> None:
    held = trust(key, Digest.of(PAYLOAD))
    for bundle in (envelope.sign(PAYLOAD, key), envelope.sign(PAYLOAD, key)):
        assert refused(bundle.to_bytes(), held) == (Code.BUNDLE_REVOKED,)
        assert refused(pretty(bundle.to_bytes()), held, foreign=True) == (Code.BUNDLE_REVOKED,)
    other = envelope.sign(PAYLOAD + b" ", key).to_bytes()
    assert authenticate(other, trust=held, role=Role.BUILDER, what="it").payload == PAYLOAD + b" "


@pytest.mark.parametrize("role", [Role.BUILDER, Role.PLANNER])
def test_a_revoked_bundle_names_what_revokes_it_however_it_is_signed(role: Role) -> None:
    signer = Signer("it", P256.public, frozenset({role}))
    bundle, again = (envelope.sign(PAYLOAD, P256).to_bytes() for _ in range(2))

    def hint(data: bytes, *revoked: Digest) -> str | None:
        held = Trust((signer,), {}, Revocations(digests=frozenset(revoked)))
        try:
            authenticate(data, trust=held, role=role, what="it")
        except RefusedError as error:
            (reason,) = error.reasons
            return reason.hint
        return None

    assert hint(again, Digest.of(bundle)) is None, "the same, signed again, is another bundle"
    told = hint(bundle, Digest.of(bundle))
    assert told is not None
    statement = Digest(told.rpartition("sha256:")[2])
    assert "name the statement's digest" not in str(hint(bundle, Digest.of(bundle), statement))
    # a plan's statement is looked at by a step of its own: plan-revoked
    assert (hint(again, statement) is None) is (role is Role.PLANNER)


def test_log_entries_that_were_taken_out() -> None:
    logged = OURS.attest(PAYLOAD, at=NOW, subject=SUBJECT, issuer=BY, key=P256)
    value: Any = json.loads(logged)
    del value["verificationMaterial"]["tlogEntries"]
    bare = envelope.parse_bundle(json.dumps(value).encode()).to_bytes()
    assert refused(bare, trust(P256, Digest.of(PAYLOAD))) == (Code.BUNDLE_REVOKED,)


def test_keys_of_certificates_that_can_not_be_read() -> None:
    """No certificate; and one of a key on prime192v2 (RFC 5480), which the library doesn't have."""
    der = envelope.parse_bundle(OURS.attest(PAYLOAD, at=NOW, subject=SUBJECT, issuer=BY)).material.certificate
    strange = der.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030102"))
    assert revocation_check.certified_key(der).hex
    for unread in (b"", b"no certificate", strange):
        with pytest.raises(ValueError, match=r".+"):
            revocation_check.certified_key(unread)
        if unread:
            it = MessageBundle(P256.sign(FILE), None, Material(certificate=unread))
            suspect = revocation_check.RevocationSubject("it", b"", b"", it, None, None, None)
            assert not list(revocation_check.reasons(suspect, Revocations(keys=frozenset({Digest.of(unread)}))))


def test_an_identity_is_not_revoked_as_a_key() -> None:
    """What stands under `keys` are digests of keys, also where one is what an identity is counted by."""
    bundle = OURS.attest(PAYLOAD, at=NOW, subject=SUBJECT, issuer=BY)
    signer = Signer("ci", identity(), frozenset({Role.BUILDER}))
    held = Trust((signer,), {OURS.domain: OURS.trusted_root}, Revocations(keys=frozenset({signer.fingerprint})))
    assert authenticate(bundle, trust=held, role=Role.BUILDER, what="it").signer == signer


def test_a_revoked_key_is_none_under_a_certificate() -> None:
    bundle = OURS.attest(PAYLOAD, at=NOW, subject=SUBJECT, issuer=BY)
    (signer,) = (Signer("ci", identity(), frozenset({Role.BUILDER})),)
    certificate = load_der_x509_certificate(envelope.parse_bundle(bundle).material.certificate)
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for revoked, codes in ((Digest.of(spki), (Code.SIGNER_REVOKED,)), (Digest.of(b"another"), ())):
        held = Trust((signer,), {OURS.domain: OURS.trusted_root}, Revocations(keys=frozenset({revoked})))
        if codes:
            assert refused(bundle, held) == codes
        else:
            assert authenticate(bundle, trust=held, role=Role.BUILDER, what="it").identity == (SUBJECT, BY)
