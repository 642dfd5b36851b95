"""Reads what a verifier says of a revision of a source: SLSA's summaries (VSA) of the source track, v1.2; pure.

slsa.dev, spec v1.2, "Source: Requirements for producing source", "Source verification summary attestations": the
subject is a commit, `resourceUri` the repository, and `verifiedLevels` has one level of the track. What else a summary
says (properties of an organisation, the policy, references that led to the commit) is not read.
"""

import re
from dataclasses import dataclass
from typing import Final

from mvmnix.errors import ReasonCode, refuse
from mvmnix.formats import strict
from mvmnix.provenance.slsa.in_toto import ForeignStatement

SUMMARY_TYPE: Final = "https://slsa.dev/verification_summary/v1"
_LEVEL: Final = re.compile(r"SLSA_SOURCE_LEVEL_([0-9])")
_WHAT: Final = "the summary"
_HINT: Final = "hand in a summary of the source track, SLSA v1.2 (VSA), or have one made"


@dataclass(frozen=True, slots=True)
class SourceSummary:
    """A verification that passed: of a revision of this repository, at this level of the source track."""

    repository: str
    level: int


def source_summary(it: ForeignStatement) -> SourceSummary:
    """What a statement says of its revision.

    Raises RefusedError: PREDICATE_TYPE for what is no summary, VERIFICATION_FAILED, LEVEL_INSUFFICIENT for one that
    names no level of the source track, STATEMENT_MALFORMED.
    """
    if it.predicate_type != SUMMARY_TYPE:
        why = f"its predicate is {it.predicate_type!r}, which tells no level of a source"
        raise refuse(ReasonCode.PREDICATE_TYPE, _WHAT, why, _HINT)
    try:
        result, repository, levels = strict.read(it.predicate, "predicate", _summary)
    except strict.MalformedError as error:
        raise error.refused(ReasonCode.STATEMENT_MALFORMED, _WHAT, _HINT) from error
    if result != "PASSED":
        why = f"its verification ended with {result!r}"
        raise refuse(ReasonCode.VERIFICATION_FAILED, _WHAT, why, "find out why; take a revision that passes")
    found = [int(match[1]) for level in levels if (match := _LEVEL.fullmatch(level))]
    if not found:
        raise refuse(ReasonCode.LEVEL_INSUFFICIENT, _WHAT, "it names no level of the source track", _HINT)
    # it has the highest alone; of several, the lowest is what all of them say
    return SourceSummary(repository, min(found))


def _summary(record: strict.Record) -> tuple[str, str, tuple[str, ...]]:
    uri = r"[!-~]{1,4096}"
    result, repository = record.text("verificationResult", r"[!-~]{1,64}"), record.text("resourceUri", uri)
    levels = record.texts("verifiedLevels", r"[!-~]{1,256}", 1024)
    record.child("verifier", _named)
    record.leave_rest()
    return result, repository, levels


def _named(verifier: strict.Record) -> str:
    """It has to have a name, which says nothing that the signer's key or identity does not."""
    found = verifier.text("id", r"[!-~]{1,4096}")
    verifier.leave_rest()
    return found
