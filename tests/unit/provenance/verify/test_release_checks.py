"""Builds that mvm did not make, held against a trust policy: what it admits, and each reason against one."""

from dataclasses import replace
from typing import Any

import pytest

from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.keys import PrivateKey, Role
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.bundle.envelope import MessageBundle
from mvmnix.provenance.bundle.verification_material import Material
from mvmnix.provenance.identity.trust import Signer, Trust
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa.build_types import BUILD_TYPE
from mvmnix.provenance.slsa.in_toto import ForeignStatement
from mvmnix.provenance.verify.artifact_verifier import HandedIn, VerificationCriteria
from mvmnix.provenance.verify.release_checks import ReleasePolicy, is_own
from mvmnix.provenance.verify.requirements import Requirements
from tests.policies import effective
from tests.private_sigstore import Hooks, der
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance.foreign_world import ARTIFACT, DIGEST, GENERATOR, REPOSITORY, V0_2, V1, WORKFLOW
from tests.unit.provenance.forgeries import ISSUER, OURS, SUBJECT, identity
from tests.unit.provenance.forgeries import NOW as SIGNED
from tests.unit.provenance.release_policies import policy_text
from tests.unit.provenance.world import NOW

KEY, OTHER = PrivateKey.generate(), PrivateKey.generate()


def codes_by(policy: TrustPolicy, *bundles: bytes) -> list[Code]:
    """Why a policy refuses the file; nothing where it doesn't."""
    further = ReleasePolicy(policy, NOW).further
    criteria = VerificationCriteria(policy.trust, Requirements(), Role.BUILDER, further, policy.thresholds.rebuilds)
    try:
        HandedIn(bundles, criteria).judge("app.img", Blob(DIGEST, lambda: ARTIFACT))
    except RefusedError as error:
        return list(error.codes)
    return []


def codes(*bundles: bytes, **changes: str) -> list[Code]:
    """The same by one with these changes."""
    return codes_by(effective(None, policy_text(KEY, OTHER, **changes).encode()), *bundles)


def signed(statement: foreign.Json, key: PrivateKey = KEY) -> bytes:
    return envelope.sign(foreign.to_bytes(statement), key).to_bytes()


def run(key: PrivateKey, kind: str = V1, name: str = "urn:run:2", **source: Any) -> bytes:
    """The bundle of a build, by the name of its run."""
    made = foreign.workflow(**source) if kind == V1 else foreign.generator(**source)
    where = made["runDetails"] if kind == V1 else made
    where["metadata"]["invocationId" if kind == V1 else "buildInvocationID"] = name
    return signed(foreign.statement(kind, made), key)


@pytest.mark.parametrize("kind", [V1, V0_2])
def test_admitted(kind: str) -> None:
    assert codes(run(KEY, kind)) == []


ROWS: dict[str, tuple[Code, dict[str, str]]] = {
    "another role": (Code.SIGNER_ROLE, {"roles": '"planner"'}),
    "another builder": (Code.BUILDER_NOT_ADMITTED, {"builder": GENERATOR + "1"}),
    "for images only": (Code.BUILDER_NOT_ADMITTED, {"images": 'images = ["hello"]'}),
    "for builder images only": (Code.BUILDER_NOT_ADMITTED, {"images": f'builder-images = ["{"0" * 64}"]'}),
    "another source": (Code.SOURCE_NOT_ADMITTED, {"pattern": "git+https://git.example/other/*"}),
    "a branch": (Code.SOURCE_NOT_ADMITTED, {"pattern": f"git+{REPOSITORY}@refs/heads/*"}),
    "expired": (Code.POLICY_EXPIRED, {"expires": "2020-01-01T00:00:00Z"}),
    "an age that nobody reads": (Code.PROVENANCE_STALE, {"more": '[freshness]\nprovenance = "90d"'}),
    "one builder of two": (Code.REBUILDS_MISSING, {"more": "[thresholds]\nrebuilds = 2"}),
}


@pytest.mark.parametrize("row", ROWS)
def test_refused(row: str) -> None:
    code, changes = ROWS[row]
    assert codes(run(KEY), **changes) == [code]


@pytest.mark.parametrize(
    ("repository", "expected"), [(REPOSITORY, []), ("https://git.example/org/other", [Code.SOURCE_MISMATCH])]
)
def test_a_build_has_the_source_that_its_certificate_says(repository: str, expected: list[Code]) -> None:
    """Fulcio's extension 1.12, though nothing about the source is required."""
    ci = Signer("ci", identity(), frozenset({Role.BUILDER}))
    policy = effective(None, policy_text(KEY, OTHER).encode())
    builders = tuple(replace(it, signer=ci.fingerprint) for it in policy.builders)
    policy = replace(policy, trust=Trust((ci,), {OURS.domain: OURS.trusted_root}), builders=builders)
    certified = {"1.3.6.1.4.1.57264.1.12": der.utf8(repository)}
    hooks = Hooks(leaf=lambda it: replace(it, fields=dict(it.fields) | certified))
    statement = foreign.to_bytes(foreign.statement(V1, foreign.workflow()))
    data = OURS.attest(statement, at=SIGNED, subject=SUBJECT, issuer=ISSUER, hooks=hooks)
    assert codes_by(policy, data) == expected


REBUILDS = "[thresholds]\nrebuilds = 2"


def test_two_builders_that_agree() -> None:
    assert codes(run(KEY), run(OTHER, name="urn:run:3"), more=REBUILDS) == []


@pytest.mark.parametrize(
    "bundles",
    [
        (run(KEY), run(OTHER)),
        (run(KEY, V0_2), run(OTHER, V0_2)),
        (run(KEY), run(KEY, name="urn:run:3")),
        (run(KEY), run(OTHER, name="urn:run:3", repository="https://git.example/org/other")),
    ],
)
def test_one_build_that_two_signed_is_no_rebuild(bundles: tuple[bytes, ...]) -> None:
    """Nor is a second one by the same builder, nor a second one of another source."""
    assert Code.REBUILDS_MISSING in codes(*bundles, more=REBUILDS)
    assert codes(*bundles, run(OTHER, name="urn:run:4"), more=REBUILDS) == []


def test_what_a_policy_does_not_speak_of() -> None:
    bare = MessageBundle(KEY.sign(ARTIFACT), DIGEST, Material(KEY.public.hint)).to_bytes()
    for bundle in (bare, signed(foreign.statement("https://spdx.dev/Document", {}))):
        assert codes(bundle) == [Code.PREDICATE_TYPE]
    unknown = foreign.statement(V1, {"buildDefinition": {"buildType": "urn:x:y"}})
    assert set(codes(signed(unknown))) == {Code.STATEMENT_MALFORMED}


@pytest.mark.parametrize(
    ("kind", "predicate", "own"),
    [
        (V1, {"buildDefinition": {"buildType": BUILD_TYPE}}, True),
        (V1, {"buildDefinition": {"buildType": WORKFLOW}}, False),
        (V1, {"buildDefinition": {}}, False),
        (V1, {"buildDefinition": [BUILD_TYPE]}, False),
        (V1, {"buildDefinition": BUILD_TYPE}, False),
        (V1, {}, False),
        (V0_2, {"buildDefinition": {"buildType": BUILD_TYPE}}, False),
        ("urn:x", {"buildDefinition": {"buildType": BUILD_TYPE}}, False),
    ],
)
def test_whether_mvm_s_own_build_type_is_claimed(kind: str, predicate: dict[str, Any], *, own: bool) -> None:
    assert is_own(ForeignStatement((), kind, predicate)) is own
