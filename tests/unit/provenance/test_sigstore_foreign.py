"""Bundles of other tools: bare signatures, older media types, other kinds of log entries; and keyless provenance."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.keys import Algorithm, PrivateKey, Role
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.bundle.statement import PAYLOAD_TYPE, Statement
from mvmnix.provenance.identity import sigstore, trusted_root
from mvmnix.provenance.identity.trust import Signer, Trust
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.policy.rules import BuilderRule
from mvmnix.provenance.slsa import predicate
from mvmnix.provenance.slsa.provenance import MICROVM
from mvmnix.provenance.verify.authentication import (
    Attested,
    Authentic,
    Claim,
    authenticate,
    authenticate_foreign,
    read_foreign,
)
from mvmnix.provenance.verify.verify import verify_provenance
from tests.private_sigstore import Hooks, Json
from tests.support.refusals import refusal_codes
from tests.unit.provenance import world as worlds
from tests.unit.provenance.forgeries import (
    BUILDER,
    ISSUER,
    KEY,
    NOW,
    OURS,
    PAYLOAD,
    SUBJECT,
    THEIRS,
    Case,
    edited,
    encoded,
    flip,
    identity,
    put,
)

FILE = b"the file itself"
BLOB = Blob(Digest.of(FILE))
ED25519 = PrivateKey.generate(Algorithm.ED25519)
TRUST = Trust(
    (
        Signer("ci", identity(), BUILDER),
        Signer("key", KEY.public, BUILDER, OURS.domain),
        Signer("unlogged", ED25519.public, BUILDER),
    ),
    {OURS.domain: OURS.trusted_root},
)


def check(data: bytes, blob: Blob | None = BLOB, role: Role | None = None) -> Attested:
    return authenticate_foreign(read_foreign(data, "it"), trust=TRUST, what="it", role=role, blob=blob)


def refused(data: bytes, blob: Blob | None = BLOB, role: Role | None = None) -> set[ReasonCode]:
    return set(refusal_codes(check, data, blob, role))


def blob_bundle(key: PrivateKey | None = None, hooks: Hooks | None = None, log: bool = True) -> bytes:
    return OURS.sign_blob(FILE, at=NOW, subject=SUBJECT, issuer=ISSUER, key=key, hooks=hooks or Hooks(), log=log)


@pytest.mark.parametrize("key", [None, KEY], ids=["certificate", "key"])
def test_a_bare_signature_over_the_file(key: PrivateKey | None) -> None:
    found = check(blob_bundle(key))
    assert (found.content, found.time) == (BLOB.digest, NOW)
    assert found.signer.name == ("ci" if key is None else "key")
    with pytest.raises(TypeError, match="stays in the process"):
        pickle.dumps(found)
    with pytest.raises(TypeError, match="authenticate_foreign"):
        Attested(BLOB.digest, found.signer, BLOB.digest, seal=object())  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [None, KEY], ids=["certificate", "key"])
def test_a_bare_signature_is_over_one_file(key: PrivateKey | None) -> None:
    other = Blob(Digest.of(b"another"))
    assert ReasonCode.SUBJECT_MISMATCH in refused(blob_bundle(key), other)
    unsaid = Hooks(bundle=edited(lambda it: it["messageSignature"].pop("messageDigest")))
    assert {ReasonCode.SIGNATURE_INVALID, ReasonCode.LOG_ENTRY_MISMATCH} == refused(blob_bundle(key, unsaid), other)
    assert ReasonCode.SIGNATURE_INVALID in refused(blob_bundle(key), None)
    assert refused(blob_bundle(key, Hooks(signature=flip))) == {ReasonCode.SIGNATURE_INVALID}
    assert refused(blob_bundle(key, Hooks(promise=flip))) == {ReasonCode.LOG_INCLUSION}
    entry = Hooks(body=put("0" * 64, "spec", "data", "hash", "value"))
    assert refused(blob_bundle(key, entry)) == {ReasonCode.LOG_ENTRY_MISMATCH}


def test_ed25519_is_checked_over_the_file_itself() -> None:
    data = blob_bundle(ED25519, log=False)
    assert check(data, Blob(BLOB.digest, lambda: FILE)).signer.name == "unlogged"
    assert refused(data) == {ReasonCode.SIGNATURE_INVALID}
    assert refused(data, Blob(BLOB.digest, lambda: b"another")) == {ReasonCode.SIGNATURE_INVALID}


def test_a_bare_signature_is_no_claim() -> None:
    found = refusal_codes(authenticate, blob_bundle(), trust=TRUST, role=Role.BUILDER, what="it")
    assert set(found) == {ReasonCode.BUNDLE_MALFORMED}


@pytest.mark.parametrize("role", [None, Role.BUILDER])
def test_a_role_may_be_needed(role: Role | None) -> None:
    found = check(Case().bundle(), None, role)
    assert found.content == Claim(PAYLOAD, PAYLOAD_TYPE)
    assert found.identity == (SUBJECT, ISSUER)
    assert refused(Case().bundle(), None, Role.PLANNER) == {ReasonCode.SIGNER_ROLE}


def old(version: str) -> Hooks:
    """A bundle of an older version: another media type, the certificate at the head of a chain."""

    def change(it: Json) -> None:
        material = it["verificationMaterial"]
        chain = [material.pop("certificate"), {"rawBytes": encoded(b"whatever stands above it")}]
        material["x509CertificateChain"] = {"certificates": chain}
        it["mediaType"] = f"application/vnd.dev.sigstore.bundle+json;version={version}"

    return Hooks(bundle=edited(change))


@pytest.mark.parametrize("version", ["0.1", "0.2"])
def test_older_bundles_are_read_and_never_launched(version: str) -> None:
    data = Case(hooks=old(version)).bundle()
    assert check(data).signer.name == "ci"
    with pytest.raises(RefusedError):
        authenticate(data, trust=TRUST, role=Role.BUILDER, what="it")


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it["dsseEnvelope"]["signatures"][0].update(keyid="some name"),
        lambda it: it["verificationMaterial"].update(timestampVerificationData={}),
    ],
    ids=["a key ID", "no timestamps"],
)
def test_foreign_formatting(change: Any) -> None:
    value = json.loads(Case().bundle())
    change(value)
    assert check(json.dumps(value, indent=2).encode()).signer.name == "ci"


def test_the_publics_root_is_at_hand() -> None:
    """What the library ships is read and understood; nothing is fetched."""
    root = trusted_root.parse(sigstore.public_good_root())
    assert root.logs
    assert root.authorities
    assert root.newest is not None
    assert b"sigstage.dev/" not in sigstore.public_good_root()


def keyless(it: worlds.World, statement: Statement) -> tuple[bytes, TrustPolicy]:
    data = OURS.attest(statement.to_bytes(), at=worlds.NOW, subject=SUBJECT, issuer=ISSUER)
    signer = Signer("ci", identity(), BUILDER)
    policy = replace(it.policy, trust=Trust((signer,), {OURS.domain: OURS.trusted_root}))
    return data, replace(policy, builders=(BuilderRule(MICROVM, signer.fingerprint, 2, frozenset()),))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda it: it, None),
        (lambda it: replace(it, predicate_type="urn:mvmnix:plan:1"), ReasonCode.PREDICATE_TYPE),
        (lambda it: replace(it, subjects=it.subjects[1:]), ReasonCode.SUBJECT_MISMATCH),
        (lambda it: replace(it, subjects=(replace(it.subjects[0], digest=BLOB.digest), *it.subjects[1:])), "other"),
    ],
    ids=["good", "another predicate", "an artifact less", "another artifact"],
)
def test_a_keyless_provenance(tmp_path: Path, change: Any, code: Any) -> None:
    it = worlds.new_world(tmp_path)
    data, policy = keyless(it, change(predicate.provenance_statement(it.provenance(), it.image.artifacts)))

    def verified() -> Any:
        artifacts = it.image.artifacts
        evidence = replace(it.evidence, provenance=data)
        return verify_provenance(evidence, policy=policy, artifacts=artifacts, image=it.image, now=it.now)

    if code is None:
        assert (verified().signer.name, verified().level) == ("ci", 2)
    else:
        assert set(refusal_codes(verified)) == {ReasonCode.SUBJECT_MISMATCH if code == "other" else code}


def test_a_foreign_instances_bundle() -> None:
    data = THEIRS.attest(PAYLOAD, at=NOW, subject=SUBJECT, issuer=ISSUER)
    assert ReasonCode.CERTIFICATE_INVALID in refused(data)
    assert not isinstance(check(Case().bundle()), Authentic)
