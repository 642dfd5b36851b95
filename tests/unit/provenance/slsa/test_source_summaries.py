"""What a summary of a source says of its revision, and what says nothing of it."""

from collections.abc import Mapping

import pytest

from mvmnix.errors import ReasonCode
from mvmnix.provenance.slsa.in_toto import ForeignStatement
from mvmnix.provenance.slsa.source_summaries import SUMMARY_TYPE, SourceSummary, source_summary
from tests.support.refusals import refusal_codes

_BAD = ReasonCode.STATEMENT_MALFORMED
_REPOSITORY = "git+https://forge.example/team/image"
_PREDICATE: Mapping[str, object] = {
    "verifier": {"id": "https://verifier.example", "version": {"x": "1"}},
    "timeVerified": "2026-01-01T00:00:00Z",
    "resourceUri": _REPOSITORY,
    "verificationResult": "PASSED",
    "verifiedLevels": ["SLSA_SOURCE_LEVEL_3"],
}


def statement(kind: str = SUMMARY_TYPE, **changes: object) -> ForeignStatement:
    return ForeignStatement((), kind, {**_PREDICATE, **changes})


@pytest.mark.parametrize(
    ("levels", "level"),
    [
        (["SLSA_SOURCE_LEVEL_3"], 3),
        (["ORG_REVIEWED", "SLSA_SOURCE_LEVEL_0", "xSLSA_SOURCE_LEVEL_9"], 0),
        (["SLSA_SOURCE_LEVEL_4", "SLSA_SOURCE_LEVEL_2"], 2),
        (["SLSA_SOURCE_LEVEL_1", "SLSA_SOURCE_LEVEL_3"], 1),
    ],
)
def test_the_lowest_level_counts(levels: list[str], level: int) -> None:
    assert source_summary(statement(verifiedLevels=levels)) == SourceSummary(_REPOSITORY, level)


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (statement("https://slsa.dev/provenance/v1"), ReasonCode.PREDICATE_TYPE),
        (statement(verificationResult="FAILED"), ReasonCode.VERIFICATION_FAILED),
        (statement(verificationResult="passed"), ReasonCode.VERIFICATION_FAILED),
        (statement(verifiedLevels=[]), ReasonCode.LEVEL_INSUFFICIENT),
        (statement(verifiedLevels=["SLSA_BUILD_LEVEL_3", "SLSA_SOURCE_LEVEL_10"]), ReasonCode.LEVEL_INSUFFICIENT),
        (statement(verificationResult=""), _BAD),
        (statement(resourceUri="a b"), _BAD),
        (statement(verifiedLevels="SLSA_SOURCE_LEVEL_3"), _BAD),
        (statement(verifiedLevels=["SLSA_SOURCE_LEVEL_3"] * 1025), _BAD),
        (statement(verifiedLevels=[3]), _BAD),
        *(
            (ForeignStatement((), SUMMARY_TYPE, {name: _PREDICATE[name] for name in _PREDICATE if name != gone}), _BAD)
            for gone in ("verifier", "resourceUri", "verificationResult", "verifiedLevels")
        ),
        (statement(verifier={}), _BAD),
        (statement(verifier="https://verifier.example"), _BAD),
        (ForeignStatement((), SUMMARY_TYPE, {}), _BAD),
    ],
)
def test_what_tells_no_level_is_refused(made: ForeignStatement, code: ReasonCode) -> None:
    assert set(refusal_codes(source_summary, made)) == {code}


def test_as_many_levels_as_there_may_be() -> None:
    assert source_summary(statement(verifiedLevels=["SLSA_SOURCE_LEVEL_1"] * 1024)).level == 1
