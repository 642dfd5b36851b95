"""Bundles as versions 0.1 to 0.3 wrote them: what each may leave out, and what a log's promise alone is good for."""

import json
from dataclasses import replace
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.formats import strict
from mvmnix.keys import Role
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.verification_material import Inclusion
from mvmnix.provenance.identity.trust import Signer
from mvmnix.provenance.verify.authentication import authenticate
from tests.private_sigstore import Hooks, Json
from tests.private_sigstore.bodies import intoto_2_body
from tests.support.refusals import refusal_codes
from tests.unit.provenance.forgeries import (
    BUILDER,
    HOUR,
    ISSUER,
    MODES,
    NOW,
    OURS,
    PAYLOAD,
    SPAN,
    SUBJECT,
    THEIRS,
    Case,
    edited,
    encoded,
    flip,
    identity,
    put,
    twice,
    unpromised,
)
from tests.unit.provenance.versions import MEDIA, check, of_version, proofless, refused, without_log


@pytest.mark.parametrize("keyed", MODES)
@pytest.mark.parametrize("version", MEDIA)
def test_with_a_proof(version: str, keyed: bool) -> None:
    it = Case(keyed, hooks=of_version(version))
    assert (check(it).inclusion, check(it, inclusion=True).time) == (Inclusion.PROVED, NOW)


@pytest.mark.parametrize("keyed", MODES)
@pytest.mark.parametrize("version", MEDIA)
def test_without_a_proof(version: str, keyed: bool) -> None:
    """Version 0.1 needed a promise and no proof; the media type is not signed, so that any bundle can be made one."""
    it = Case(keyed, hooks=of_version(version, proofless))
    if version == "0.1":
        assert (check(it).inclusion, check(it).time) == (Inclusion.PROMISED, NOW)
        assert refused(it, inclusion=True) == {Code.LOG_INCLUSION}
    else:
        assert refused(it) == {Code.BUNDLE_MALFORMED}


@pytest.mark.parametrize("keyed", MODES)
def test_a_promise_launches_nothing(keyed: bool) -> None:
    """Whatever the media type, and with every byte as mvm writes it."""
    for version in MEDIA:
        data = strict.canonical(json.loads(Case(keyed, hooks=of_version(version, proofless)).bundle()))
        for each in (data, canonical(data) if version == "0.1" else data):
            found = refusal_codes(authenticate, each, trust=Case(keyed).trust, role=Role.BUILDER, what="it")
            assert set(found) == {Code.BUNDLE_MALFORMED}


def canonical(data: bytes) -> bytes:
    """What mvm would write of it, were it ours."""
    return envelope.parse_foreign(data).to_bytes()


def test_the_step_that_refuses_a_promise_at_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the reader let such a bundle in, step 3.3 would not."""
    it = Case(hooks=of_version("0.1", proofless))
    data = it.bundle()
    monkeypatch.setattr(envelope, "read", envelope.read_foreign)
    found = refusal_codes(authenticate, data, trust=it.trust, role=Role.BUILDER, what="it")
    assert set(found) == {Code.BUNDLE_NOT_CANONICAL, Code.LOG_INCLUSION}


@pytest.mark.parametrize("keyed", MODES)
@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (
            put(encoded(THEIRS.log.key.sign(b"x")), *SPAN, "inclusionPromise", "signedEntryTimestamp"),
            {Code.LOG_INCLUSION},
        ),
        (put("7", *SPAN, "logIndex"), {Code.LOG_INCLUSION}),
        (put(str(int((NOW + HOUR / 10).timestamp())), *SPAN, "integratedTime"), {Code.LOG_INCLUSION}),
        (put(encoded(THEIRS.log.key.log_id), *SPAN, "logId", "keyId"), None),
        (put(encoded(b"{}"), *SPAN, "canonicalizedBody"), {Code.LOG_INCLUSION, Code.LOG_ENTRY_MISMATCH}),
        (put({"kind": "intoto", "version": "0.0.2"}, *SPAN, "kindVersion"), {Code.LOG_ENTRY_MISMATCH}),
    ],
    ids=["promise", "index", "time", "log", "body", "kind"],
)
def test_every_field_of_a_promised_entry(keyed: bool, change: Any, codes: set[Code] | None) -> None:
    it = Case(keyed, hooks=of_version("0.1", proofless))
    data = strict.canonical(change(json.loads(it.bundle())))
    assert refused(it, data) == (codes or {Code.LOG_INCLUSION})


def test_a_promise_without_a_time_says_no_time() -> None:
    it = Case(hooks=of_version("0.1", proofless))
    value = json.loads(it.bundle())
    del value["verificationMaterial"]["tlogEntries"][0]["integratedTime"]
    assert refused(it, strict.canonical(value)) == {Code.LOG_INCLUSION, Code.SIGNING_TIME}


def test_an_entry_of_the_first_version_needs_its_promise() -> None:
    entry = Hooks(entry=edited(unpromised))
    for hooks in (of_version("0.1"), of_version("0.1", proofless)):
        it = Case(hooks=replace(hooks, entry=entry.entry))
        assert refused(it) == {Code.BUNDLE_MALFORMED}


def test_the_log_of_a_promise_has_to_be_trusted_then() -> None:
    it = Case(hooks=of_version("0.1", proofless), at_home=replace(OURS, log=THEIRS.log))
    assert refused(it) == {Code.LOG_INCLUSION}


@pytest.mark.parametrize("version", ["0.3", "0.3, as some wrote it"])
def test_a_chain_of_certificates_ended_with_version_0_2(version: str) -> None:
    def chained(it: Json) -> None:
        material = it["verificationMaterial"]
        material["x509CertificateChain"] = {"certificates": [material.pop("certificate")]}

    assert refused(Case(hooks=of_version(version, chained))) == {Code.BUNDLE_MALFORMED}


@pytest.mark.parametrize("keyed", MODES)
@pytest.mark.parametrize("version", ["0.1", "0.2"])
def test_a_chain_stands_in_the_place_of_a_key_or_certificate(version: str, keyed: bool) -> None:
    """Beside either it is unknown, also an empty one: no reader could choose another signer."""
    good = json.loads(Case(keyed, hooks=of_version(version)).bundle())
    material = good["verificationMaterial"]
    first = [] if keyed else material["x509CertificateChain"]["certificates"][:1]
    beside = {"x509CertificateChain": {"certificates": first}} | ({} if keyed else {"certificate": first[0]})
    with pytest.raises(RefusedError, match="x509CertificateChain: unknown") as caught:
        check(Case(keyed), json.dumps(good | {"verificationMaterial": material | beside}).encode())
    assert set(caught.value.codes) == {Code.BUNDLE_MALFORMED}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda it: it.update(mediaType="application/vnd.dev.sigstore.bundle.v0.4+json"), "v0.4"),
        (lambda it: it.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.4"), "version=0.4"),
        (lambda it: it.update(newField={}), "bundle.newField: unknown"),
        (lambda it: it["verificationMaterial"].update(witnesses=[]), "verificationMaterial.witnesses: unknown"),
        (lambda it: it["dsseEnvelope"]["signatures"][0].update(cert="x"), "signatures[0].cert: unknown"),
        (lambda it: it["verificationMaterial"]["tlogEntries"][0].update(more=1), "tlogEntries[0].more: unknown"),
        (lambda it: it.update(messageSignature={"signature": "AA=="}), "dsseEnvelope: unknown"),
    ],
)
@pytest.mark.parametrize("version", MEDIA)
def test_what_later_versions_may_add_is_refused_by_name(version: str, change: Any, word: str) -> None:
    it = Case(hooks=of_version(version, change))
    with pytest.raises(RefusedError) as caught:
        check(it)
    assert set(caught.value.codes) == {Code.BUNDLE_MALFORMED}
    assert word in str(caught.value)


def test_null_is_how_absence_may_be_written() -> None:
    """As in bundles of sigstore-js: `timestampVerificationData: null`."""

    def nulls(it: Json) -> None:
        it["verificationMaterial"] |= {"timestampVerificationData": None, "publicKey": None}
        it["messageSignature"] = None

    assert check(Case(hooks=of_version("0.1", nulls))).inclusion is Inclusion.PROVED
    with pytest.raises(RefusedError):
        authenticate(Case(hooks=of_version("0.3", nulls)).bundle(), trust=Case().trust, role=Role.BUILDER, what="it")


def test_as_the_oldest_npm_packages_signed() -> None:
    """Version 0.1, an entry of the kind intoto 0.0.2, a chain of certificates, no proof."""
    it = Case(hooks=of_version("0.1", proofless), options={"kind": intoto_2_body})
    assert check(it).inclusion is Inclusion.PROMISED


# A domain that has no log: its root's authority is timestamps


def in_domain(root: bytes, **changes: Any) -> Case:
    """A bundle with a timestamp and neither log entry nor SCT, before that root."""
    hooks = Hooks(**{"scts": lambda _: ()} | changes.pop("hooks", {}))
    options = {"log": False, "tsa": True} | changes.pop("options", {})
    signer = Signer("ci", identity(domain=Digest.of(root)), BUILDER)
    return Case(hooks=hooks, options=options, signers=(signer,), roots={Digest.of(root): root})


def test_a_domain_without_a_log() -> None:
    found = check(in_domain(without_log()))
    assert (found.inclusion, found.time, found.identity) == (Inclusion.NONE, NOW, (SUBJECT, ISSUER))


def test_it_launches_nothing_and_is_no_inclusion() -> None:
    it = in_domain(without_log())
    assert refused(it, inclusion=True) == {Code.LOG_ENTRIES}
    found = refusal_codes(authenticate, it.bundle(), trust=it.trust, role=Role.BUILDER, what="it")
    assert set(found) == {Code.LOG_ENTRIES}


@pytest.mark.parametrize(
    ("root", "changes", "codes"),
    [
        (OURS.trusted_root, {}, {Code.LOG_ENTRIES}),
        (without_log(OURS, "tlogs"), {}, {Code.CERTIFICATE_INVALID}),
        (without_log(OURS, "ctlogs"), {"options": {"log": True}}, {Code.CERTIFICATE_INVALID}),
        (without_log(), {"options": {"tsa": False}}, {Code.LOG_ENTRIES, Code.SIGNING_TIME}),
        (without_log(), {"options": {"log": True}}, {Code.LOG_INCLUSION}),
        (without_log(), {"options": {"log": True}, "hooks": {"bundle": edited(twice)}}, {Code.LOG_ENTRIES}),
        (without_log(), {"hooks": {"token": flip}}, {Code.SIGNING_TIME}),
        (without_log(), {"hooks": {"token_time": lambda it: it + HOUR}}, {Code.SIGNING_TIME}),
        (without_log(), {"hooks": {"signature": flip}}, {Code.SIGNATURE_INVALID}),
        (without_log(OURS, "tlogs", "ctlogs", "timestampAuthorities"), {}, {Code.SIGNING_TIME}),
        (without_log(THEIRS), {}, {Code.SIGNING_TIME, Code.CERTIFICATE_INVALID}),
    ],
    ids=[
        *("a log", "a CT log", "no CT log", "no time", "an entry", "entries"),
        *("broken", "late", "forged", "no authority", "another domain"),
    ],
)
def test_what_a_domain_without_a_log_still_needs(root: bytes, changes: dict[str, Any], codes: set[Code]) -> None:
    assert refused(in_domain(root, **changes)) == codes


def test_the_payload_is_the_one_that_was_signed() -> None:
    found = check(in_domain(without_log()))
    assert getattr(found.content, "payload", None) == PAYLOAD
