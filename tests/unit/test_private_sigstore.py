"""The unmodified library accepts the bundles of the private Sigstore under its trusted root, and no other root."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from sigstore.errors import VerificationError
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier
from sigstore.verify.policy import Identity
from sigstore_models.trustroot import v1 as models

from mvmnix.formats import strict
from mvmnix.keys import Algorithm, PrivateKey
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.statement import PAYLOAD_TYPE
from tests.private_sigstore import Hooks, Proof, Sct, Sigstore, Window, entry_of, merged

NOW = datetime(2026, 9, 1, 12, 0, tzinfo=UTC)
PAYLOAD = b'{"any":"statement"}'
TIME_STAMPING = ExtendedKeyUsageOID.TIME_STAMPING
SUBJECTS = ("builder@mvmnix.test", "https://ci.test/owner/repository/.ci/release.yml@refs/tags/v1")
ISSUER = "https://issuer.test"


def verifier(root: bytes) -> Verifier:
    return Verifier(trusted_root=TrustedRoot(models.TrustedRoot.from_json(root)))


@pytest.fixture(scope="module")
def private() -> Sigstore:
    return Sigstore()


def verify(bundle: bytes, root: bytes, subject: str = SUBJECTS[0], issuer: str = ISSUER) -> tuple[str, bytes]:
    policy = Identity(identity=subject, issuer=issuer)
    return verifier(root).verify_dsse(Bundle.from_json(bundle), policy)


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize(("log", "tsa"), [(True, False), (True, True)])
def test_an_attestation_is_accepted(private: Sigstore, subject: str, log: bool, tsa: bool) -> None:
    bundle = private.attest(PAYLOAD, at=NOW, subject=subject, log=log, tsa=tsa)
    assert verify(bundle, private.trusted_root, subject) == (PAYLOAD_TYPE, PAYLOAD)
    assert bundle == strict.canonical(json.loads(bundle))


@pytest.mark.parametrize("tsa", [False, True])
def test_a_message_signature_is_accepted(private: Sigstore, tsa: bool) -> None:
    bundle = Bundle.from_json(private.sign_blob(b"artifact", at=NOW, tsa=tsa))
    policy = Identity(identity=SUBJECTS[0], issuer=ISSUER)
    verifier(private.trusted_root).verify_artifact(b"artifact", bundle, policy)
    with pytest.raises(VerificationError, match="digest mismatch"):
        verifier(private.trusted_root).verify_artifact(b"another", bundle, policy)


def test_every_index_has_a_good_proof() -> None:
    private = Sigstore()
    for index in range(1, 18):
        bundle = private.attest(PAYLOAD, at=NOW)
        assert entry_of(bundle)["logIndex"] == str(index)
        verify(bundle, private.trusted_root)
    late = private.log.proof(3)
    assert (late.index, late.size, len(late.hashes)) == (3, 18, 5)


def test_a_timestamp_alone_gives_the_time(private: Sigstore) -> None:
    """With no SET in the entry, the library takes the time from the TSA."""
    hooks = Hooks(entry=lambda entry: {name: entry[name] for name in entry if name != "inclusionPromise"})
    verify(private.attest(PAYLOAD, at=NOW, tsa=True, hooks=hooks), private.trusted_root)
    late = replace(hooks, token_time=lambda at: at + timedelta(hours=1))
    with pytest.raises(VerificationError, match="certificate"):
        verify(private.attest(PAYLOAD, at=NOW, tsa=True, hooks=late), private.trusted_root)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_key_in_place_of_a_certificate(private: Sigstore, algorithm: Algorithm) -> None:
    """Without log entry it is byte for byte what mvm writes."""
    key = PrivateKey.generate(algorithm)
    plain = private.attest(PAYLOAD, at=NOW, key=key, log=False)
    bundle = envelope.parse_bundle(plain)
    assert bundle.to_bytes() == plain
    assert key.public.verified(bundle.signed_bytes, bundle.signature)
    logged = private.attest(PAYLOAD, at=NOW, key=key)
    assert json.loads(logged)["verificationMaterial"]["publicKey"] == {"hint": key.public.hint}
    assert entry_of(logged)["kindVersion"] == {"kind": "dsse", "version": "0.0.1"}


def wrong_root(proof: Proof) -> Proof:
    return replace(proof, root=bytes(32))


def no_scts(scts: tuple[Sct, ...]) -> tuple[Sct, ...]:
    return ()


OTHER = Sigstore()
BROKEN = {
    "leaf": (Hooks(leaf=lambda leaf: replace(leaf, usages=(TIME_STAMPING,))), "Extended usage does not contain"),
    "scts": (Hooks(scts=no_scts), "signed certificate timestamp"),
    "two scts": (Hooks(scts=lambda scts: scts * 2), "Expected one certificate timestamp, found 2"),
    "sct of another log": (
        Hooks(scts=lambda scts: (OTHER.ct.promise(b"", b"", NOW),)),
        "SCT verify failed",
    ),
    "signing key": (Hooks(signing_key=lambda _: PrivateKey.generate(Algorithm.ECDSA_P256)), "DSSE: invalid signature"),
    "signature": (Hooks(signature=lambda signature: signature[:-1]), "DSSE: invalid signature"),
    "content": (Hooks(content=lambda content: content | {"payload": "e30="}), "DSSE: invalid signature"),
    "body": (
        Hooks(body=lambda body: body | {"spec": body["spec"] | {"signatures": []}}),
        "log entry signatures do not match|invalid DSSE log entry",
    ),
    "integrated time": (Hooks(integrated_time=lambda at: at + timedelta(hours=1)), "certificate"),
    "promise": (Hooks(promise=lambda _: OTHER.log.key.sign(b"other")), "SET: invalid inclusion promise"),
    "proof": (Hooks(proof=wrong_root), "inclusion proof contains invalid root hash"),
    "checkpoint text": (Hooks(checkpoint_text=lambda _: f"rekor.test\n9\n{'A' * 43}=\n"), "invalid root hash"),
    "checkpoint": (Hooks(checkpoint=lambda note: note.replace("rekor.test -", "rekor.example -")), "checkpoint"),
    "entry": (Hooks(entry=lambda _: entry_of(OTHER.attest(PAYLOAD, at=NOW))), "log entry|checkpoint"),
}


@pytest.mark.parametrize("layer", BROKEN)
def test_a_hook_breaks_its_layer_alone(private: Sigstore, layer: str) -> None:
    hooks, reason = BROKEN[layer]
    with pytest.raises(VerificationError, match=reason):
        verify(private.attest(PAYLOAD, at=NOW, hooks=hooks), private.trusted_root)


def test_outer_hooks(private: Sigstore) -> None:
    """What the library does not look at, other verifiers must: the token beside a good SET, the bytes."""
    hooks = Hooks(token=lambda token: OTHER.tsa.token(b"another signature", NOW))
    verify(private.attest(PAYLOAD, at=NOW, tsa=True, hooks=hooks), private.trusted_root)
    spaced = Hooks(bundle=lambda it: it | {"mediaType": it["mediaType"]}, data=lambda data: data + b"\n")
    assert private.attest(PAYLOAD, at=NOW, hooks=spaced).endswith(b"}\n")


def test_another_instance_is_not_believed(private: Sigstore) -> None:
    with pytest.raises(VerificationError, match="certificate chain"):
        verify(OTHER.attest(PAYLOAD, at=NOW), private.trusted_root)
    with pytest.raises(VerificationError, match="failed to verify SCT"):
        verify(replace(private, ct=OTHER.ct).attest(PAYLOAD, at=NOW), private.trusted_root)
    with pytest.raises(VerificationError, match="invalid log entry"):
        verify(replace(private, log=OTHER.log).attest(PAYLOAD, at=NOW), private.trusted_root)
    assert private.domain != OTHER.domain


def test_merged_roots_believe_both(private: Sigstore) -> None:
    """Why roots are never merged: the one CA certifies an identity of the other."""
    for one in (private, OTHER, replace(private, log=OTHER.log)):
        verify(one.attest(PAYLOAD, at=NOW), merged(private, OTHER))


def test_a_window_is_in_the_root_alone(private: Sigstore) -> None:
    """The library does not enforce its end: a certificate of after it passes."""
    ended = replace(private, ca=replace(private.ca, valid_for=Window(end=NOW - timedelta(days=1))))
    assert b'"end":"2026-08-31T12:00:00Z"' in ended.trusted_root
    verify(private.attest(PAYLOAD, at=NOW), ended.trusted_root)
