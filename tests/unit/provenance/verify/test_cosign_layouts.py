"""What cosign attaches to images without a bundle: each part changed, what is no such thing, what a signature names."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.keys import Role
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.bundle.verification_material import Inclusion
from mvmnix.provenance.identity.trust import Signer, Trust
from mvmnix.provenance.verify import artifact_verifier, cosign_layouts
from mvmnix.provenance.verify.artifact_verifier import AcceptedArtifact, HandedIn, VerificationCriteria
from mvmnix.provenance.verify.registry_responses import Packed
from mvmnix.provenance.verify.requirements import Requirements
from tests.private_sigstore import layouts
from tests.private_sigstore.bodies import intoto_1_body, intoto_2_body
from tests.private_sigstore.keys import decode
from tests.private_sigstore.layouts import CERTIFICATE, ENTRY, SIGNATURE, STAMP
from tests.support.refusals import refusal_codes
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance.foreign_world import V1, Json
from tests.unit.provenance.forgeries import ISSUER, KEY, NOW, OURS, STRANGER, SUBJECT, THEIRS, drop, identity, put

IMAGE, OTHER = Digest.of(b"an image's manifest"), Digest.of(b"another image's manifest")
NAME = f"oci://registry.test/team/app@{IMAGE}"
CI, KEYED = Signer("ci", identity(), frozenset(Role)), Signer("key", KEY.public, frozenset(Role), OURS.domain)
UNLOGGED = replace(KEYED, log=None)
TEXT = layouts.simple_signing(str(IMAGE))
MODES = [pytest.param(None, id="certificate"), pytest.param(KEY, id="key")]

type Layer = tuple[bytes, dict[str, str]]


def attested(key: Any = None, image: Digest = IMAGE, **options: Any) -> Layer:
    payload = foreign.to_bytes(foreign.statement(V1, foreign.workflow(), image))
    return layouts.attestation(OURS.attest(payload, at=NOW, subject=SUBJECT, issuer=ISSUER, key=key, **options))


def signed(key: Any = None, text: bytes = TEXT, **options: Any) -> Layer:
    return text, layouts.signature(OURS.sign_blob(text, at=NOW, subject=SUBJECT, issuer=ISSUER, key=key, **options))


MAKERS: dict[str, tuple[Callable[..., Layer], Callable[[bytes, Mapping[str, str]], Packed]]] = {
    "attestation": (attested, cosign_layouts.attestation),
    "signature": (signed, cosign_layouts.signature),
}


def judged(kind: str, layer: Layer, *signers: Signer, inclusion: bool = False, **wanted: Any) -> AcceptedArtifact:
    trust = Trust(signers or (CI, KEYED), {OURS.domain: OURS.trusted_root}, require_inclusion=inclusion)
    criteria = VerificationCriteria(trust, Requirements(**wanted))
    return HandedIn([MAKERS[kind][1](*layer)], criteria).judge(NAME, Blob(IMAGE))


def refused(kind: str, layer: Layer, *signers: Signer, inclusion: bool = False, **wanted: Any) -> set[Code]:
    return set(refusal_codes(judged, kind, layer, *signers, inclusion=inclusion, **wanted))


@pytest.mark.parametrize("key", MODES)
@pytest.mark.parametrize("kind", MAKERS)
def test_what_is_good_passes_as_promised(kind: str, key: Any) -> None:
    layer = MAKERS[kind][0](key)
    (found,) = judged(kind, layer).counted
    assert (found.attested.inclusion, found.attested.time) == (Inclusion.PROMISED, NOW)
    assert refused(kind, layer, inclusion=True) == {Code.LOG_INCLUSION}
    assert refused(kind, layer, replace(KEYED, credential=STRANGER.public)) == {Code.SIGNER_UNKNOWN}
    assert refused(kind, layer, Signer("ci", identity(subject="x"), frozenset(Role))) == {Code.SIGNER_UNKNOWN}


@pytest.mark.parametrize("kind", MAKERS)
def test_about_another_image(kind: str) -> None:
    layer = attested(image=OTHER) if kind == "attestation" else signed(text=layouts.simple_signing(str(OTHER)))
    assert refused(kind, layer) == {Code.SUBJECT_MISMATCH}


def test_that_the_signed_text_is_compared_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact_verifier, "_names_image", lambda *_: None)
    assert judged("signature", signed(text=layouts.simple_signing(str(OTHER)))).counted


@pytest.mark.parametrize("kind", [intoto_1_body, intoto_2_body])
@pytest.mark.parametrize("key", MODES)
def test_older_entries(kind: Any, key: Any) -> None:
    assert judged("attestation", attested(key, kind=kind)).counted


@pytest.mark.parametrize("kind", MAKERS)
def test_a_key_without_a_log(kind: str) -> None:
    """No annotation names the key: it can only be the one that is trusted alone."""
    layer = MAKERS[kind][0](KEY, log=False)
    assert judged(kind, layer, UNLOGGED).counted
    assert refused(kind, layer, UNLOGGED, CI) == {Code.SIGNER_UNKNOWN}
    assert refused(kind, layer, replace(UNLOGGED, credential=STRANGER.public)) == {Code.SIGNATURE_INVALID}
    assert Code.LOG_ENTRIES in refused(kind, layer, KEYED)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_certificate_without_a_log(kind: str) -> None:
    assert refused(kind, MAKERS[kind][0](log=False)) == {Code.LOG_ENTRIES, Code.SIGNING_TIME}


def over(kind: str, layer: Layer) -> bytes:
    """What cosign has timestamped."""
    return layer[0] if kind == "attestation" else decode(layer[1][SIGNATURE])


@pytest.mark.parametrize("kind", MAKERS)
def test_a_timestamp_is_over_an_envelope_or_a_signature(kind: str) -> None:
    data, annotations = layer = MAKERS[kind][0]()
    right = over(kind, layer)
    assert judged(kind, (data, annotations | layouts.stamped(OURS.tsa.token(right, NOW)))).counted
    for token in (OURS.tsa.token(b"something else", NOW), THEIRS.tsa.token(right, NOW)):
        assert refused(kind, (data, annotations | layouts.stamped(token))) == {Code.SIGNING_TIME}


def test_an_envelope_is_timestamped_as_it_came() -> None:
    data, annotations = attested()
    token = layouts.stamped(OURS.tsa.token(data, NOW))
    assert judged("attestation", (data, annotations | token)).counted
    assert refused("attestation", (data + b" ", annotations | token)) == {Code.SIGNING_TIME}


#: By what is changed: the annotation, how, and the reasons.
CHANGES: dict[str, tuple[str, Callable[[Json], Json] | str | None, set[Code]]] = {
    "no entry": (ENTRY, None, {Code.LOG_ENTRIES, Code.SIGNING_TIME}),
    "an entry that is no JSON": (ENTRY, "{", {Code.BUNDLE_MALFORMED}),
    "an entry with a key twice": (ENTRY, '{"Payload": {}, "Payload": {}}', {Code.BUNDLE_MALFORMED}),
    "an entry that is deep": (ENTRY, "[" * 10_000, {Code.BUNDLE_MALFORMED}),
    "an entry with a proof": (ENTRY, put({}, "InclusionProof"), {Code.BUNDLE_MALFORMED}),
    "no promise": (ENTRY, drop("SignedEntryTimestamp"), {Code.BUNDLE_MALFORMED}),
    "an empty promise": (ENTRY, put("", "SignedEntryTimestamp"), {Code.BUNDLE_MALFORMED}),
    "another promise": (ENTRY, put("AA==", "SignedEntryTimestamp"), {Code.LOG_INCLUSION}),
    "another time": (ENTRY, put(int(NOW.timestamp()) + 1, "Payload", "integratedTime"), {Code.LOG_INCLUSION}),
    "another index": (ENTRY, put(7, "Payload", "logIndex"), {Code.LOG_INCLUSION}),
    "a negative index": (ENTRY, put(-1, "Payload", "logIndex"), {Code.BUNDLE_MALFORMED}),
    "a time in a text": (ENTRY, put("1", "Payload", "integratedTime"), {Code.BUNDLE_MALFORMED}),
    "another log": (ENTRY, put("0" * 64, "Payload", "logID"), {Code.LOG_INCLUSION}),
    "a log without an id": (ENTRY, drop("Payload", "logID"), {Code.BUNDLE_MALFORMED}),
    "a body that is none": (ENTRY, put("!", "Payload", "body"), {Code.BUNDLE_MALFORMED}),
    "a body of no kind": (ENTRY, put("e30=", "Payload", "body"), {Code.BUNDLE_MALFORMED}),
    "no certificate": (CERTIFICATE, None, {Code.SIGNER_UNKNOWN}),
    "a certificate that is none": (CERTIFICATE, "-----BEGIN CERTIFICATE-----\n!", {Code.BUNDLE_MALFORMED}),
    "a timestamp that is none": (STAMP, '{"SignedRFC3161Timestamp": "AA=="}', {Code.SIGNING_TIME}),
    "a timestamp elsewhere": (STAMP, "{}", {Code.BUNDLE_MALFORMED}),
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("change", CHANGES)
def test_every_annotation(change: str, kind: str) -> None:
    data, annotations = MAKERS[kind][0]()
    name, how, codes = CHANGES[change]
    match how:
        case None:
            del annotations[name]
        case str():
            annotations[name] = how
        case _:
            annotations[name] = json.dumps(how(json.loads(annotations[name])))
    found = refused(kind, (data, annotations))
    assert codes <= found
    assert Code.UNEXPECTED not in found


@pytest.mark.parametrize("made", ["", "!", "AA", None])
def test_a_signature_that_is_none(made: str | None) -> None:
    text, annotations = signed()
    annotations.pop(SIGNATURE)
    annotations |= {} if made is None else {SIGNATURE: made}
    assert refused("signature", (text, annotations)) <= {Code.BUNDLE_MALFORMED, Code.UNSIGNED}


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"\xff", b'{"payload": "", "payload": ""}', b"[" * 100_000, b'{"payloadType": "x"}'],
)
def test_an_envelope_that_is_none(data: bytes) -> None:
    assert refused("attestation", (data, attested()[1])) == {Code.BUNDLE_MALFORMED}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"optional": null}',
        b'{"critical": {}, "critical": {}}',
        layouts.simple_signing(f"sha512:{IMAGE.hex * 2}"),
        layouts.simple_signing(IMAGE.hex),
        layouts.simple_signing(str(IMAGE), type="atomic container signature"),
        layouts.simple_signing(str(IMAGE), more="which has to be understood"),
        layouts.simple_signing(str(IMAGE), identity={}),
        layouts.simple_signing(str(IMAGE), image={"docker-manifest-digest": str(IMAGE), "more": 1}),
        layouts.simple_signing(str(IMAGE), image=None),
    ],
)
def test_a_signed_text_that_names_no_image(text: bytes) -> None:
    assert refused("signature", signed(text=text)) == {Code.STATEMENT_MALFORMED}


def test_what_is_optional_is_not_read() -> None:
    text = json.loads(TEXT) | {"optional": {"creator": "x", "timestamp": 1.5}}
    assert judged("signature", signed(text=json.dumps(text).encode())).counted


def test_a_signature_over_an_image_is_no_statement() -> None:
    assert refused("signature", signed(), predicate_type=V1) == {Code.PREDICATE_TYPE}
    assert refused("signature", signed(), source_uri=foreign.REPOSITORY) == {Code.PREDICATE_TYPE}
    assert judged("attestation", attested(), predicate_type=V1, source_uri=foreign.REPOSITORY).counted


def test_the_text_is_signed_and_not_the_image() -> None:
    """A bundle over the manifest itself is a bundle; in this layout a signature over anything else is of no text."""
    layer = TEXT, signed(text=b"something else")[1]
    assert {Code.SIGNATURE_INVALID, Code.LOG_ENTRY_MISMATCH} <= refused("signature", layer)


def test_a_stamp_changes_nothing_else() -> None:
    data = OURS.attest(foreign.to_bytes(foreign.statement(V1, foreign.workflow())), at=NOW)
    bundle = envelope.parse_bundle(data)
    assert (bundle.timestamped, replace(bundle, stamped=b"x").timestamped) == (bundle.signature, b"x")
    assert replace(bundle, stamped=b"x").to_bytes() == bundle.to_bytes()
