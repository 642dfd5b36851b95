"""Revisions of a source: summaries of SLSA's source track, held against a commit, a repository and a level."""

from typing import Any

import pytest

from mvmnix.errors import ReasonCode as Code
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.slsa import in_toto
from tests.unit.cli.releases import OTHER, Release, signature, signed
from tests.unit.cli.station import Said
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance.foreign_world import COMMIT, DIGEST, REPOSITORY, V1, Json

SUMMARY = "https://slsa.dev/verification_summary/v1"
ARTIFACT = f"gitCommit:{COMMIT}"
ALONE = object()


def summary(subject: Json | None = None, kind: str = SUMMARY, **changes: Any) -> Json:
    """As the specification's example has it; a change of ALONE leaves a field out."""
    predicate = {
        "verifier": {"id": "https://git.example/source_verifier"},
        "timeVerified": "2026-09-01T12:00:00Z",
        "resourceUri": f"git+{REPOSITORY}",
        "policy": {"uri": "https://git.example/policy"},
        "verificationResult": "PASSED",
        "verifiedLevels": ["SLSA_SOURCE_LEVEL_3", "ORG_SOURCE_REVIEWED"],
    } | changes
    predicate = {name: value for name, value in predicate.items() if value is not ALONE}
    about = {"uri": f"{REPOSITORY}/commit/{COMMIT}", "annotations": {"sourceRefs": ["refs/heads/main"]}}
    about |= {"digest": {"gitCommit": COMMIT}} if subject is None else subject
    return foreign.statement(kind, predicate) | {"subject": [about]}


def verify(it: Release, statement: Json, *options: str, artifact: str = ARTIFACT) -> Said:
    return it.verify("--json", "--bundle", it.put(signed(statement)), *options, artifact)


def codes(said: Said) -> set[str]:
    assert said.code == 1, said.err
    return set(said.reason_codes)


LEVEL = ("--source-level", "3")


@pytest.mark.parametrize("level", ["0", "1", "2", "3"])
def test_a_revision_at_a_level(it: Release, level: str) -> None:
    said = verify(it, summary(), "--source-level", level, "--source-uri", REPOSITORY)
    assert said.code == 0, said.err
    (found,) = said.answer("verdict")["artifacts"]
    assert (found["artifact"], found["digest"], found["verified"]) == (ARTIFACT, ARTIFACT, True)


def test_a_commit_by_sha256(it: Release) -> None:
    commit = "6" * 64
    assert verify(it, summary({"digest": {"gitCommit": commit}}), *LEVEL, artifact=f"gitCommit:{commit}").code == 0


#: One for each code, and what a revision is; summaries are rows of
#: tests/unit/provenance/slsa/test_source_summaries.py.
ROWS: dict[str, tuple[Json, tuple[str, ...], set[Code]]] = {
    "a higher level": (summary(), ("--source-level", "4"), {Code.LEVEL_INSUFFICIENT}),
    "another repository": (summary(), (*LEVEL, "--source-uri", f"{REPOSITORY}x"), {Code.SOURCE_MISMATCH}),
    "another commit": (summary({"digest": {"gitCommit": "6" * 40}}), LEVEL, {Code.SUBJECT_MISMATCH}),
    "a commit called otherwise": (summary({"digest": {"sha1": COMMIT}}), LEVEL, {Code.SUBJECT_MISMATCH}),
    "half a commit": (summary({"digest": {"gitCommit": COMMIT[:20]}}), LEVEL, {Code.SUBJECT_MISMATCH}),
    "a commit in capitals": (summary({"digest": {"gitCommit": "A" * 40}}), LEVEL, {Code.SUBJECT_MISMATCH}),
    "a commit that is none": (summary({"digest": {"gitCommit": [COMMIT]}}), LEVEL, {Code.SUBJECT_MISMATCH}),
    "a file": (summary({"digest": {"sha256": DIGEST.hex}}), LEVEL, {Code.SUBJECT_MISMATCH}),
    "failed": (summary(verificationResult="FAILED"), LEVEL, {Code.VERIFICATION_FAILED}),
    "no result": (summary(verificationResult=ALONE), LEVEL, {Code.STATEMENT_MALFORMED}),
    "another type": (summary(kind="https://slsa.dev/verification_summary/v0.2"), LEVEL, {Code.PREDICATE_TYPE}),
    "a builder": (summary(), (*LEVEL, "--builder-id", "https://x.example"), {Code.PREDICATE_TYPE}),
    "another type that is asked for": (summary(), (*LEVEL, "--type", V1), {Code.PREDICATE_TYPE}),
}


@pytest.mark.parametrize("row", ROWS)
def test_refusals(it: Release, row: str) -> None:
    statement, options, expected = ROWS[row]
    assert codes(verify(it, statement, *options)) >= expected
    assert Code.UNEXPECTED not in codes(verify(it, statement, *options))


def test_another_signer(it: Release) -> None:
    bundle = it.put(signed(summary(), OTHER))
    assert codes(it.verify("--json", "--bundle", bundle, *LEVEL, ARTIFACT)) == {Code.SIGNER_UNKNOWN}


def test_a_provenance_of_that_commit_tells_no_level(it: Release) -> None:
    statement = foreign.statement(V1, foreign.workflow()) | {"subject": [{"digest": {"gitCommit": COMMIT}}]}
    assert verify(it, statement).code == 0
    assert codes(verify(it, statement, *LEVEL)) == {Code.PREDICATE_TYPE}


def test_a_bare_signature_is_over_no_commit(it: Release) -> None:
    assert codes(it.verify("--json", "--bundle", it.put(signature()), ARTIFACT)) != set()


def test_a_commit_counts_for_no_file(it: Release) -> None:
    """On a file's subject it is neither enough nor in the way; as a subject's only digest it names no file."""
    beside = {"subject": [{"name": "app.img", "digest": {"sha256": DIGEST.hex, "gitCommit": COMMIT}}]}
    assert verify(it, foreign.statement(V1, foreign.workflow()) | beside, artifact=str(it.artifact)).code == 0
    alone = {"subject": [{"name": "app.img", "digest": {"gitCommit": COMMIT}}]}
    said = verify(it, foreign.statement(V1, foreign.workflow()) | alone, artifact=str(it.artifact))
    assert codes(said) == {Code.SUBJECT_MISMATCH}
    (subject,) = in_toto.parse(foreign.to_bytes(summary())).subjects
    assert not Blob(DIGEST).is_named(subject.digests)


@pytest.mark.parametrize(
    "arguments",
    [
        (*LEVEL, "{file}"),
        (*LEVEL, f"sha256:{DIGEST.hex}"),
        (*LEVEL, ARTIFACT, "{file}"),
        (*LEVEL, "--source-digest", COMMIT, ARTIFACT),
        (*LEVEL, "--source-tag", "v1", ARTIFACT),
        ("--source-level", "5", ARTIFACT),
        ("--source-level", "-1", ARTIFACT),
        ("--source-level", "", ARTIFACT),
        (*LEVEL, f"gitCommit:{COMMIT[1:]}"),
        (*LEVEL, f"gitCommit:{'A' * 40}"),
    ],
)
def test_usage(it: Release, arguments: tuple[str, ...]) -> None:
    bundle = it.put(signed(summary()))
    said = it.verify("--bundle", bundle, *(each.format(file=it.artifact) for each in arguments))
    assert (said.code, said.out) == (2, "")


def test_a_policy_speaks_of_builds(it: Release) -> None:
    said = it.verify("--policy", "trust.toml", "--bundle", it.put(signed(summary())), *LEVEL, ARTIFACT, key=None)
    assert said.code == 2
