"""What package registries answer: each bundle in it is judged, and the packaging may not say otherwise than it does."""

import json
from typing import Any

import pytest

from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.keys import Role
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.identity.trust import Signer, Trust
from mvmnix.provenance.verify.artifact_verifier import AcceptedArtifact, HandedIn, VerificationCriteria
from mvmnix.provenance.verify.registry_responses import PUBLISH, unpack
from mvmnix.provenance.verify.requirements import Requirements
from tests.private_sigstore import Hooks, answers
from tests.private_sigstore.keys import encode
from tests.support.refusals import refusal_codes
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance.foreign_world import ARTIFACT, DIGEST, V1, Json
from tests.unit.provenance.forgeries import ISSUER, KEY, NOW, OURS, SUBJECT, edited, flip, identity, put
from tests.unit.provenance.versions import of_version, proofless

NPM_PUBLISH = "https://npm.example/attestation/specs/publish/v0.1"
WHEEL, SDIST = "app_tool-1.0-py3-none-any.whl", "app_tool-1.0.tar.gz"
TRUST = Trust((Signer("ci", identity(), frozenset(Role)),), {OURS.domain: OURS.trusted_root})
BLOB = Blob(DIGEST, lambda: ARTIFACT)


def attested(kind: str = V1, *, name: str = WHEEL, hooks: Hooks | None = None, **more: Any) -> bytes:
    value = foreign.statement(kind, foreign.workflow() if kind == V1 else {})
    value["subject"][0]["name"] = name
    return OURS.attest(foreign.to_bytes(value | more), at=NOW, subject=SUBJECT, issuer=ISSUER, hooks=hooks or Hooks())


def judged(*data: Json | bytes, name: str = f"dist/{WHEEL}", blob: Blob = BLOB, **wanted: Any) -> AcceptedArtifact:
    read = [each if isinstance(each, bytes) else json.dumps(each, indent=1).encode() for each in data]
    return HandedIn(read, VerificationCriteria(TRUST, Requirements(**wanted))).judge(name, blob)


def refused(*data: Json | bytes, name: str = f"dist/{WHEEL}", blob: Blob = BLOB, **wanted: Any) -> list[Code]:
    return list(refusal_codes(judged, *data, name=name, blob=blob, **wanted))


ANSWERS = {
    "npm": answers.npm(attested()),
    "GitHub": answers.github(attested()),
    "PyPI": answers.pypi(attested()),
}


@pytest.mark.parametrize("form", ANSWERS)
def test_each_form_is_known_by_its_content(form: str) -> None:
    (packed,) = unpack(json.dumps(ANSWERS[form]).encode())
    assert (packed.predicate_type == V1, packed.is_pep_740) == (form == "npm", form == "PyPI")
    assert [each.number for each in judged(ANSWERS[form], predicate_type=V1).counted] == [1]
    assert refused(ANSWERS[form], predicate_type="urn:x") == [Code.PREDICATE_TYPE]
    assert refused(ANSWERS[form], blob=Blob(blob_of(b"another"), lambda: b"another")) == [Code.SUBJECT_MISMATCH]


def blob_of(data: bytes) -> Any:
    return type(DIGEST).of(data)


def test_each_of_several_is_judged_alone() -> None:
    """npm: provenance and publish attestation; a broken one does no harm to the other, and is no help."""
    good, publish, broken = attested(), attested(NPM_PUBLISH), attested(hooks=Hooks(signature=flip))
    both = answers.npm(publish, good)
    assert [each.number for each in judged(both).counted] == [1, 2]
    assert [each.number for each in judged(both, predicate_type=V1).counted] == [2]
    assert [each.number for each in judged(both, predicate_type=NPM_PUBLISH).counted] == [1]
    found = judged(answers.npm(broken, good))
    assert ([each.number for each in found.counted], [each.code for each in found.others]) == (
        [2],
        [Code.SIGNATURE_INVALID],
    )
    assert refused(answers.npm(broken, publish), predicate_type=V1) == [Code.SIGNATURE_INVALID, Code.PREDICATE_TYPE]
    assert [each.number for each in judged(answers.npm(broken), both).counted] == [2, 3]


def test_the_oldest_of_npm() -> None:
    assert judged(answers.npm(attested(hooks=of_version("0.1", proofless)))).counted


def test_pypi_s_two_kinds() -> None:
    """The publish attestation has a predicate of `null`, as PyPI's tools write it."""
    publish = attested(PUBLISH, predicate=None)
    provenance = answers.pypi_provenance(publish, attested())
    assert [each.number for each in judged(provenance).counted] == [1, 2]
    assert [each.number for each in judged(provenance, predicate_type=PUBLISH).counted] == [1]
    assert judged(answers.pypi(publish)).counted


@pytest.mark.parametrize(
    ("subject", "file", "good"),
    [
        (WHEEL, WHEEL, True),
        (SDIST, SDIST, True),
        ("App.Tool-1.0-py3-none-any.whl", WHEEL, True),
        ("app_tool-1.0-py3-none-any.whl", "app_tool-1.0.0-py3-none-any.whl", True),
        ("app_tool-1.0-1-py3-none-any.whl", WHEEL, False),
        (WHEEL, "app_tool-1.1-py3-none-any.whl", False),
        (WHEEL, "other-1.0-py3-none-any.whl", False),
        (WHEEL, "app_tool-1.0-cp313-cp313-linux_x86_64.whl", False),
        (WHEEL, SDIST, False),
        (SDIST, "app_tool-1.0.zip", False),
        (SDIST, "app.img", False),
        ("", "", False),
        ("app.img", "app.img", True),
        ("dist/app.img", "app.img", False),
    ],
)
def test_pypi_s_attestations_are_about_a_name_too(subject: str, file: str, good: bool) -> None:
    answer = answers.pypi(attested(name=subject))
    if good:
        assert judged(answer, name=f"somewhere/{file}").counted
    else:
        assert refused(answer, name=f"somewhere/{file}") == [Code.SUBJECT_MISMATCH]
    # the same bundle in its own form says nothing of the name
    assert judged(attested(name=subject), name=f"somewhere/{file}").counted


def test_pypi_s_attestations_need_a_file_and_one_subject() -> None:
    assert refused(ANSWERS["PyPI"], name=f"sha256:{DIGEST.hex}", blob=Blob(DIGEST)) == [Code.SUBJECT_MISMATCH]
    with pytest.raises(RefusedError, match="expected a file with a name, "):
        judged(ANSWERS["PyPI"], name=f"sha256:{DIGEST.hex}", blob=Blob(DIGEST))
    with pytest.raises(RefusedError, match=f"expected one subject with the file's own name '{SDIST}', "):
        judged(ANSWERS["PyPI"], name=f"dist/{SDIST}")
    one = foreign.statement(V1, foreign.workflow())["subject"][0] | {"name": WHEEL}
    assert refused(answers.pypi(attested(subject=[one, one]))) == [Code.SUBJECT_MISMATCH]
    with pytest.raises(RefusedError, match="says 'a', 'b' "):
        judged(answers.pypi(attested(subject=[one | {"name": name} for name in "abc"])))


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (answers.pypi(attested("urn:x")), Code.PREDICATE_TYPE),
        (answers.pypi(attested(PUBLISH, predicate={"a": 1})), Code.PREDICATE_TYPE),
        (put("urn:x", "attestations", 0, "predicateType")(answers.npm(attested())), Code.PREDICATE_TYPE),
        (put(NPM_PUBLISH, "attestations", 0, "predicateType")(answers.npm(attested())), Code.PREDICATE_TYPE),
    ],
    ids=["another type", "a predicate", "called otherwise", "a provenance called a publish attestation"],
)
def test_the_packaging_says_what_is_signed(answer: Json, code: Code) -> None:
    assert refused(answer) == [code]


def test_a_bare_signature_is_no_statement_of_npm() -> None:
    signature = OURS.sign_blob(ARTIFACT, at=NOW, subject=SUBJECT, issuer=ISSUER)
    assert judged(signature).counted
    assert judged({"attestations": [{"bundle": json.loads(signature)}]}).counted
    assert refused({"attestations": [{"bundle": json.loads(signature), "predicateType": V1}]}) == [Code.PREDICATE_TYPE]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put([], "attestations"), "without attestations"),
        (put([{}], "attestations"), "no bundle"),
        (put([1], "attestations"), "no bundle"),
        (put([None], "attestations"), "no bundle"),
        (put("x", "attestations", 0, "bundle"), "no bundle"),
        (put(None, "attestations", 0, "bundle"), "no predicate type, or no bundle"),
        (put(1, "attestations", 0, "predicateType"), "no predicate type, or no bundle"),
        (put([{"bundle": None, "bundle_url": "https://x.example"}], "attestations"), "nothing is fetched"),
        (put([{"bundle": {}}] * 1025, "attestations"), "it has more than 1024 attestations"),
        (put({}, "attestations", 0, "bundle"), "mediaType: missing"),
        (put({}, "attestations"), "mediaType"),
    ],
)
def test_answers_that_are_none(change: Any, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as caught:
        judged(change(answers.npm(attested())))
    assert set(caught.value.codes) == {Code.BUNDLE_MALFORMED}


_MATERIAL, _ENTRIES = "verification_material", ("verification_material", "transparency_entries")


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (put(2, "version"), {Code.BUNDLE_MALFORMED}),
        (put(True, "version"), {Code.BUNDLE_MALFORMED}),
        (put(1, "more"), {Code.BUNDLE_MALFORMED}),
        (put(1, _MATERIAL, "more"), {Code.BUNDLE_MALFORMED}),
        (put(1, "envelope", "more"), {Code.BUNDLE_MALFORMED}),
        (put(None, _MATERIAL, "certificate"), {Code.BUNDLE_MALFORMED}),
        (put("AA==", _MATERIAL, "certificate"), {Code.CERTIFICATE_INVALID, Code.LOG_ENTRY_MISMATCH}),
        (put([], *_ENTRIES), {Code.LOG_ENTRIES, Code.SIGNING_TIME}),
        (put({}, *_ENTRIES), {Code.BUNDLE_MALFORMED}),
        (put([{}], *_ENTRIES), {Code.BUNDLE_MALFORMED}),
        (put([{}] * 17, *_ENTRIES), {Code.BUNDLE_MALFORMED}),
        (put("7", *_ENTRIES, 0, "logIndex"), {Code.LOG_INCLUSION}),
        (put(encode(b"{}"), "envelope", "statement"), {Code.LOG_ENTRY_MISMATCH, Code.SIGNATURE_INVALID}),
        (put(encode(b"x"), "envelope", "signature"), {Code.LOG_ENTRY_MISMATCH, Code.SIGNATURE_INVALID}),
        (put("", "envelope", "signature"), {Code.UNSIGNED}),
        (put(1, "envelope", "signature"), {Code.BUNDLE_MALFORMED}),
    ],
)
def test_every_part_of_pypi_s_attestation(change: Any, codes: set[Code]) -> None:
    changed = change(answers.pypi(attested()))
    assert set(refused(changed)) == codes
    assert set(refused({"version": 1, "attestation_bundles": [{"attestations": [changed]}]})) == codes


@pytest.mark.parametrize(
    "change",
    [
        put(2, "version"),
        edited(lambda it: it.pop("version")),
        put([], "attestation_bundles"),
        put([{}], "attestation_bundles"),
        put([1], "attestation_bundles"),
        put([], "attestation_bundles", 0, "attestations"),
        put([1], "attestation_bundles", 0, "attestations"),
        put({}, "attestation_bundles"),
    ],
)
def test_every_part_of_pypi_s_provenance(change: Any) -> None:
    assert set(refused(change(answers.pypi_provenance(attested())))) == {Code.BUNDLE_MALFORMED}


def test_more_bundles_than_anybody_has() -> None:
    """In one answer, in several, and in PyPI's bundles of bundles: refused before any is looked at."""
    half: Json = {"attestations": [{"bundle": {}}] * 512}
    many = {"version": 1, "attestation_bundles": [{"attestations": [{}] * 64}] * 64}
    one: Json = {"attestations": [{"bundle": {}}]}
    for answers_ in ([half, half, one], [many]):
        with pytest.raises(RefusedError, match="more than 1024") as caught:
            judged(*answers_)
        assert len(caught.value.reasons) == 1
    for most in ([half, half], [put([{"bundle": {}}] * 1024, "attestations")(one)]):
        with pytest.raises(RefusedError) as caught:
            judged(*most)
        assert "more than 1024" not in str(caught.value)


def test_an_envelope_alone() -> None:
    """What older generators left (`.intoto.jsonl`): refused, and it is said what is missing."""
    with pytest.raises(RefusedError, match="neither certificate nor log entry") as caught:
        judged(json.loads(attested())["dsseEnvelope"])
    assert caught.value.codes == (Code.BUNDLE_MALFORMED,)


@pytest.mark.parametrize(
    "data",
    [
        b'{"attestations": [' + b"[" * 100_000,
        b'{"attestations": [' + b'{"bundle": ' * 10_000,
        b'{"attestations": [], "attestations": []}',
        b'{"attestations": "\xff"}',
        b'{"attestations": [{"bundle": {"a": 1.5}}]}',
        b'{"attestations": [{"bundle": {"a": NaN}}]}',
        b'{"attestations": "\\ud800"}',
        b'["attestations"]',
        b'"attestations"',
        b'{"attestation_bundles": []',
    ],
)
def test_what_can_t_be_read(data: bytes) -> None:
    assert set(refused(data)) == {Code.BUNDLE_MALFORMED}


def test_a_bundle_with_such_a_field_is_a_bundle() -> None:
    """Nothing in a bundle makes it an answer: its media type says what it is."""
    value = json.loads(attested()) | {"attestations": [{"bundle": json.loads(attested())}]}
    assert set(refused(value)) == {Code.BUNDLE_MALFORMED}


# Hints in other forms than a SHA-256


@pytest.mark.parametrize(
    ("hint", "others", "codes"),
    [
        (KEY.public.hint, (), []),
        (f"SHA256:{KEY.public.hint.rstrip('=')}", (), []),
        (f"SHA256:{KEY.public.hint.rstrip('=')}", (Signer("ci", identity(), frozenset(Role)),), []),
        ("the release key", (), [Code.BUNDLE_MALFORMED]),
        ("release-key", (), []),
        ("release-key", (Signer("ci", identity(), frozenset(Role)),), [Code.SIGNER_UNKNOWN]),
        (encode(bytes(32)), (), [Code.SIGNER_UNKNOWN]),
        (f"SHA256:{encode(bytes(32)).rstrip('=')}", (), [Code.SIGNER_UNKNOWN]),
        (f"xSHA256:{encode(bytes(32)).rstrip('=')}", (), []),
        ("", (), [Code.BUNDLE_MALFORMED]),
    ],
    ids=[
        "ours",
        "npm",
        "npm of two",
        "spaces",
        "a name",
        "a name of two",
        "another",
        "another of npm",
        "a name like npm's",
        "empty",
    ],
)
def test_the_hint_of_a_key(hint: str, others: tuple[Signer, ...], codes: list[Code]) -> None:
    """npm's are its own; a hint that names no key means the only one that is trusted, and is no reason to trust it."""
    value = json.loads(OURS.attest(foreign.to_bytes(foreign.statement(V1, foreign.workflow())), at=NOW, key=KEY))
    value["verificationMaterial"]["publicKey"]["hint"] = hint
    if not codes:
        read = envelope.parse_foreign(json.dumps(value).encode()).material.hint
        assert read == (f"{hint.removeprefix('SHA256:')}=" if hint.startswith("SHA256:") else hint)
    trust = Trust((Signer("key", KEY.public, frozenset(Role), OURS.domain), *others), {OURS.domain: OURS.trusted_root})
    standard = VerificationCriteria(trust, Requirements())
    if codes:
        assert set(refusal_codes(HandedIn([json.dumps(value).encode()], standard).judge, "app", BLOB)) == set(codes)
        return
    assert HandedIn([json.dumps(value).encode()], standard).judge("app", BLOB).counted
    value["dsseEnvelope"]["signatures"][0]["sig"] = encode(KEY.sign(b"something else"))
    assert Code.SIGNATURE_INVALID in refusal_codes(HandedIn([json.dumps(value).encode()], standard).judge, "app", BLOB)


def test_a_bundle_of_attestations_without_any_is_named_beside_one_that_counts() -> None:
    answer = answers.pypi_provenance(attested())
    answer["attestation_bundles"].insert(0, {})
    found = judged(answer)
    assert [each.number for each in found.counted] == [2]
    assert "a bundle of attestations has none" in found.others[0].why
