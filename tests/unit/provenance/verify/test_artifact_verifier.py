"""Whatever a bundle holds, it counts, or is refused with reasons; nothing that was not expected gets past that."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mvmnix.digest import Digest
from mvmnix.errors import Reason, RefusedError
from mvmnix.errors import ReasonCode as Code
from mvmnix.keys import PrivateKey, Role
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.bundle.envelope import Bundle, MessageBundle, pae
from mvmnix.provenance.bundle.verification_material import Material
from mvmnix.provenance.identity.trust import Revocations, Signer, Trust
from mvmnix.provenance.verify import artifact_verifier, authentication, requirements
from mvmnix.provenance.verify.artifact_verifier import (
    AcceptedArtifact,
    HandedIn,
    VerificationCriteria,
)
from mvmnix.provenance.verify.requirements import Requirements
from tests.support.refusals import refusal_codes
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance.foreign_world import ARTIFACT, COMMIT, DIGEST, GENERATOR, REPOSITORY, TAG, V0_2, V1

KEY = PrivateKey.generate()
TRUST = Trust((Signer("release", KEY.public, frozenset(Role)),))
BLOB = Blob(DIGEST, lambda: ARTIFACT)
ALL = Requirements(None, REPOSITORY, TAG, COMMIT, GENERATOR)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)


def bundle(statement: Any) -> bytes:
    payload = statement if isinstance(statement, bytes) else json.dumps(statement).encode()
    return envelope.sign(payload, KEY).to_bytes()


def judged(*bundles: bytes, wanted: Requirements = ALL, trust: Trust = TRUST) -> AcceptedArtifact:
    return HandedIn(bundles, VerificationCriteria(trust, wanted)).judge("app.img", Blob(DIGEST))


def test_evidence() -> None:
    found = judged(b"x", bundle(foreign.statement(V1, foreign.workflow())))
    assert (found.name, found.digest, [it.number for it in found.counted]) == ("app.img", DIGEST, [2])
    assert [it.code for it in found.others] == [Code.BUNDLE_MALFORMED]
    (counted,) = found.counted
    assert counted.statement is not None
    assert counted.statement.predicate_type == V1


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, each in inner for path in paths(each, (*here, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copied = json.loads(json.dumps(value))
    at = copied
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = new
    return copied


STATEMENTS = [foreign.statement(V1, foreign.workflow()), foreign.statement(V0_2, foreign.generator())]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=300)
@given(st.data())
def test_anything_in_place_of_anything(data: st.DataObject) -> None:
    statement = data.draw(st.sampled_from(STATEMENTS))
    changed = replaced(statement, data.draw(st.sampled_from(paths(statement))), data.draw(JSON))
    try:
        found = judged(bundle(changed))
    except RefusedError as error:
        assert Code.UNEXPECTED not in error.codes
    else:
        assert found.counted


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=200)
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_anything_as_bundle_or_statement(data: bytes) -> None:
    for handed_in in (data, bundle(data)):
        assert Code.UNEXPECTED not in refusal_codes(judged, handed_in, wanted=Requirements())


def test_what_was_not_expected_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Any:
        raise ZeroDivisionError("no check")

    monkeypatch.setattr(requirements, "CHECKS", (broken,))
    assert refusal_codes(judged, bundle(STATEMENTS[0])) == (Code.UNEXPECTED,)


#: The last two are about revisions (test_verify_source_level.py), and about certificates, which no bundle here has
#: (test_build_types.py).
@pytest.mark.parametrize("check", requirements.CHECKS[:-2], ids=lambda it: it.__name__)
def test_each_check_is_needed(check: requirements.Check, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "of_type": foreign.statement(V0_2, foreign.generator()),
        "by_builder": foreign.statement(V1, foreign.workflow()),
        "from_source": foreign.statement(V1, foreign.workflow(ref="refs/heads/main")),
    }
    wanted = {"of_type": Requirements(V1), "by_builder": Requirements(builder_id="urn:other")}.get(
        check.__name__, Requirements(source_tag=TAG) if check.__name__ == "from_source" else Requirements()
    )
    data = bundle(wrong[check.__name__])
    with pytest.raises(RefusedError):
        judged(data, wanted=wanted)
    monkeypatch.setattr(requirements, "CHECKS", tuple(each for each in requirements.CHECKS if each is not check))
    assert judged(data, wanted=wanted).counted


def test_that_it_is_about_the_file_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bundle(foreign.statement(V1, foreign.workflow(), Digest.of(b"other")))
    with pytest.raises(RefusedError):
        judged(data, wanted=Requirements())
    monkeypatch.setattr(requirements.CheckedStatement, "_about_file", lambda *_: ())
    assert judged(data, wanted=Requirements()).counted


def test_a_revoked_bundle_or_key_counts_for_nothing() -> None:
    good = bundle(STATEMENTS[0])
    for revoked in (
        Revocations(keys=frozenset({KEY.public.fingerprint})),
        Revocations(digests=frozenset({Digest.of(good)})),
        Revocations(digests=frozenset({DIGEST})),
    ):
        assert {Code.SIGNER_REVOKED, Code.BUNDLE_REVOKED, Code.IMAGE_REVOKED} & set(
            refusal_codes(judged, good, trust=Trust(TRUST.signers, {}, revoked))
        )


# What one bundle has to be, and how many have to count

OTHER = PrivateKey.generate()
BUILDERS = Trust((Signer("one", KEY.public, frozenset({Role.BUILDER})), Signer("two", OTHER.public, frozenset(Role))))


def run(name: str | None, key: PrivateKey = KEY, *, number: int = 1) -> bytes:
    """The statement of a build that its builder calls by this name, or by none; another number, another payload."""
    made = foreign.workflow()
    made["runDetails"]["byproducts"] = [{"name": f"log {number}"}]
    if name is None:
        del made["runDetails"]["metadata"]
    else:
        made["runDetails"]["metadata"]["invocationId"] = name
    return envelope.sign(json.dumps(foreign.statement(V1, made)).encode(), key).to_bytes()


def bare(key: PrivateKey = KEY, content: bytes = ARTIFACT) -> bytes:
    """A signature over a file, which says nothing."""
    return MessageBundle(key.sign(content), Digest.of(content), Material(key.public.hint)).to_bytes()


def under(standard: VerificationCriteria, *bundles: bytes, blob: Blob = BLOB) -> AcceptedArtifact:
    return HandedIn(bundles, standard).judge("app.img", blob)


def codes(standard: VerificationCriteria, *bundles: bytes, blob: Blob = BLOB) -> set[Code]:
    with pytest.raises(RefusedError) as caught:
        under(standard, *bundles, blob=blob)
    assert all(reason.what == "app.img" for reason in caught.value.reasons)
    return set(caught.value.codes)


def test_the_role_that_is_asked_for_is_needed() -> None:
    assert codes(VerificationCriteria(BUILDERS, ALL, Role.HOST), run("1")) == {Code.SIGNER_ROLE}
    for role in (None, Role.BUILDER):
        assert under(VerificationCriteria(BUILDERS, ALL, role), run("1")).counted


@pytest.mark.parametrize(
    ("bundles", "voices"),
    [
        ((run("1"), run("2", OTHER)), 2),
        ((run("1"), run("1", OTHER)), 1),
        ((run("1"), run("1", OTHER, number=2)), 1),
        ((run(None), run(None, OTHER, number=2)), 2),
        ((run("1"), run("2")), 1),
        ((run("1"), run("2"), run("2", OTHER)), 2),
        ((run("1"), run("1")), 1),
        ((run(None), run("1", OTHER)), 2),
        ((run(None), run(None, OTHER)), 1),
        ((run("1"), bare(OTHER)), 2),
        ((bare(), bare(OTHER)), 2),
        ((bare(), bare()), 1),
    ],
)
def test_each_signer_counts_once_and_for_a_run_of_its_own(bundles: tuple[bytes, ...], voices: int) -> None:
    """One run that two signed was built once, and so was what nobody tells apart: the same bytes without a run."""
    assert len(under(VerificationCriteria(BUILDERS, Requirements(), signers=voices), *bundles).counted) == len(bundles)
    assert codes(VerificationCriteria(BUILDERS, Requirements(), signers=voices + 1), *bundles) == {
        Code.REBUILDS_MISSING
    }


@pytest.mark.parametrize(
    "wanted",
    [
        Requirements(predicate_type=V1),
        Requirements(source_uri=REPOSITORY),
        Requirements(source_tag=TAG),
        Requirements(source_digest=COMMIT),
        Requirements(builder_id=GENERATOR),
    ],
)
def test_a_bare_signature_meets_no_requirement(wanted: Requirements) -> None:
    assert wanted.about_content
    assert codes(VerificationCriteria(TRUST, wanted), bare()) == {Code.PREDICATE_TYPE}
    assert under(VerificationCriteria(TRUST, Requirements()), bare()).counted[0].statement is None


def test_a_bare_signature_meets_nothing_that_a_policy_says_of_builds() -> None:
    asked = []

    def further(*told: object) -> Iterator[Reason]:
        asked.append(told)
        yield from ()

    assert codes(VerificationCriteria(TRUST, Requirements(), further=further), bare()) == {Code.PREDICATE_TYPE}
    assert not asked, "there is no statement to ask about"
    assert under(VerificationCriteria(TRUST, Requirements(), further=further), run("1")).counted
    assert len(asked) == 1


def test_what_a_policy_says_further_is_a_reason() -> None:
    def further(*_: object) -> Iterator[Reason]:
        yield Reason(Code.SOURCE_NOT_ADMITTED, "app.img", "it is not ours", "take ours")

    assert codes(VerificationCriteria(TRUST, ALL, further=further), run("1")) == {Code.SOURCE_NOT_ADMITTED}


def test_a_bare_signature_over_another_file() -> None:
    other = b"another file"
    blob = Blob(Digest.of(other), lambda: other)
    assert Code.SUBJECT_MISMATCH in codes(VerificationCriteria(TRUST, Requirements()), bare(), blob=blob)


def test_a_statement_of_another_payload_type() -> None:
    odd = Bundle(b"{}", "text/plain", KEY.sign(pae("text/plain", b"{}")), Material(KEY.public.hint)).to_bytes()
    assert codes(VerificationCriteria(TRUST, Requirements()), odd) == {Code.BUNDLE_MALFORMED}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"x", "statement 1 of 1: the bundle: not JSON"),
        (run("1", PrivateKey.generate()), "statement 1 of 1: the key with the hint"),
    ],
)
def test_a_reason_says_what_it_is_about_once(data: bytes, words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        under(VerificationCriteria(BUILDERS, ALL), data)
    (reason,) = caught.value.reasons
    assert reason.why.startswith(words)


def test_nothing_at_all() -> None:
    assert codes(VerificationCriteria(TRUST, ALL)) == {Code.ATTESTATION_MISSING}


def test_a_revoked_file_is_refused_whatever_counts_for_it() -> None:
    revoked = Revocations(digests=frozenset({DIGEST}), reasons={DIGEST: "it is broken"})
    with pytest.raises(RefusedError, match="is revoked: 'it is broken'") as caught:
        under(VerificationCriteria(Trust(TRUST.signers, {}, revoked), ALL), run("1"))
    assert caught.value.codes == (Code.IMAGE_REVOKED,)


# Bundles for many files


def file(data: bytes) -> Blob:
    return Blob(Digest.of(data), lambda: data)


FILES = {"a": file(b"A"), "b": file(b"B"), "c": file(b"C")}


def about(*data: bytes, **more: Any) -> bytes:
    return bundle(foreign.statement(V1, foreign.workflow(), *map(Digest.of, data), **more))


def escaped(data: bytes) -> bytes:
    """The same JSON, whose name for a bare signature is spelled otherwise."""
    assert b'"messageSignature"' in data
    return data.replace(b'"messageSignature"', b'"message\\u0053ignature"')


MIXED = (
    about(b"A", b"B"),
    bare(content=b"A"),
    escaped(bare(content=b"B")),
    bare(OTHER, content=b"C"),
    envelope.sign(b"no statement", KEY).to_bytes(),
    b"no bundle",
    about(b"C", version="v2"),
    about(b"B"),
    bundle(foreign.statement(V0_2, foreign.generator(), Digest.of(b"C"))),
    bundle({**foreign.statement(V1, {}), "subject": [{"digest": {"sha512": "0" * 128}}, {"digest": {}}]}),
)


def verdict(handed_in: HandedIn, name: str) -> tuple[list[tuple[int, Digest | None]], tuple[Reason, ...]]:
    """Which bundles count, what each is over, and why the others don't."""
    try:
        found = handed_in.judge(name, FILES[name])
    except RefusedError as error:
        return [], error.reasons
    counted = [
        (it.number, it.attested.content if isinstance(it.attested.content, Digest) else None) for it in found.counted
    ]
    return counted, found.others


@pytest.mark.parametrize("order", ["abc", "cba", "bacab"])
@pytest.mark.parametrize("wanted", [Requirements(), Requirements(V1, REPOSITORY, TAG)])
def test_each_file_has_the_verdict_that_it_has_alone(order: str, wanted: Requirements) -> None:
    standard = VerificationCriteria(TRUST, wanted)
    shared = HandedIn(MIXED, standard)
    for name in order:
        assert verdict(shared, name) == verdict(HandedIn(MIXED, standard), name)
        assert all(it.what == name for it in verdict(shared, name)[1])


@pytest.mark.parametrize("first", [(), (b"no bundle",) * 128, (b"no bundle",) * 127, (about(b"D"),) * 128])
@pytest.mark.parametrize("wanted", [Requirements(), Requirements(V1, REPOSITORY, TAG)])
def test_of_very_many_bundles_the_same_is_told(first: tuple[bytes, ...], wanted: Requirements) -> None:
    bundles = (*first, *(about(b"%d" % number) for number in range(140)), *MIXED, about(b"D"), about(b"A"))
    standard = VerificationCriteria(TRUST, wanted)
    shared = HandedIn(bundles, standard)
    for name in "abca":
        assert verdict(shared, name) == verdict(HandedIn(bundles, standard), name)
        assert verdict(shared, name)[1][-1].why.endswith(" reasons more")


def test_a_bare_signature_counts_for_its_own_file_alone() -> None:
    shared = HandedIn(MIXED, VerificationCriteria(TRUST, Requirements()))
    a, b = (Digest.of(data) for data in (b"A", b"B"))
    assert [verdict(shared, name)[0] for name in "abcab"] == [
        [(1, None), (2, a)],
        [(1, None), (3, b), (8, None)],
        [(9, None)],
        [(1, None), (2, a)],
        [(1, None), (3, b), (8, None)],
    ]


def test_who_signed_a_statement_is_established_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()
    real = authentication.authenticate_foreign

    def counted(*arguments: Any, what: str, **named: Any) -> Any:
        asked.append(what)
        return real(*arguments, what=what, **named)

    monkeypatch.setattr(artifact_verifier, "authenticate_foreign", counted)
    shared = HandedIn(MIXED, VerificationCriteria(TRUST, Requirements()))
    for name in "abcabc":
        verdict(shared, name)
    over_files = {f"statement {number} of 10" for number in (2, 3, 4)}
    assert sorted({what: asked.count(what) for what in asked if what not in over_files}.values()) == [1] * 6
    assert {asked.count(what) for what in over_files} == {6}
