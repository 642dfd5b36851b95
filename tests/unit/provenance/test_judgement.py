"""Whatever a bundle holds, it counts, or is refused with reasons; nothing that was not expected gets past that."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.keys import PrivateKey, Role
from mvmnix.model import Digest
from mvmnix.provenance import attestation, envelope
from mvmnix.provenance.attestation import Requirements
from mvmnix.provenance.authenticate import Blob
from mvmnix.provenance.judgement import Passed, Standard, judge
from mvmnix.provenance.trust import Revocations, Signer, Trust
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance.foreign_world import COMMIT, DIGEST, GENERATOR, REPOSITORY, TAG, V0_2, V1

KEY = PrivateKey.generate()
TRUST = Trust((Signer("release", KEY.public, frozenset(Role)),))
ALL = Requirements(None, REPOSITORY, TAG, COMMIT, GENERATOR)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)


def bundle(statement: Any) -> bytes:
    payload = statement if isinstance(statement, bytes) else json.dumps(statement).encode()
    return envelope.sign(payload, KEY).to_bytes()


def judged(*bundles: bytes, wanted: Requirements = ALL, trust: Trust = TRUST) -> Passed:
    return judge("app.img", Blob(DIGEST), bundles, Standard(trust, wanted))


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
        with pytest.raises(RefusedError) as caught:
            judged(handed_in, wanted=Requirements())
        assert Code.UNEXPECTED not in caught.value.codes


def test_what_was_not_expected_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: attestation.Held) -> Any:
        raise ZeroDivisionError("no check")

    monkeypatch.setattr(attestation, "CHECKS", (broken,))
    with pytest.raises(RefusedError) as caught:
        judged(bundle(STATEMENTS[0]))
    assert caught.value.codes == (Code.UNEXPECTED,)


@pytest.mark.parametrize("check", attestation.CHECKS, ids=lambda it: it.__name__)
def test_each_check_is_needed(check: attestation.Check, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "about_file": foreign.statement(V1, foreign.workflow(), Digest.of(b"other")),
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
    monkeypatch.setattr(attestation, "CHECKS", tuple(each for each in attestation.CHECKS if each is not check))
    assert judged(data, wanted=wanted).counted


def test_a_revoked_bundle_or_key_counts_for_nothing() -> None:
    good = bundle(STATEMENTS[0])
    for revoked in (
        Revocations(keys=frozenset({KEY.public.fingerprint})),
        Revocations(digests=frozenset({Digest.of(good)})),
        Revocations(digests=frozenset({DIGEST})),
    ):
        with pytest.raises(RefusedError) as caught:
            judged(good, trust=Trust(TRUST.signers, {}, revoked))
        assert {Code.SIGNER_REVOKED, Code.BUNDLE_REVOKED, Code.IMAGE_REVOKED} & set(caught.value.codes)
