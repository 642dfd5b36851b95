"""The nouns of a verification summary (VSA), and the one place that writes and reads it as a predicate; pure.

slsa.dev, spec v1.1, "Verification Summary Attestation", predicate type v1: a verifier has verified an image under a
policy, and says up to which level. What mvm reads is what mvm writes: every field is there, and no other. Of how the
dependencies were built nothing is said (`dependencyLevels`, which may be left out). One field is mvm's own, what
revocations can name of the bundles behind the summary (vsa_inputs.py); older summaries lack it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode
from mvmnix.formats import strict
from mvmnix.keys import PublicKey
from mvmnix.model import Image
from mvmnix.provenance.bundle.statement import Statement, Subject, distinct, parse_subject, subject_value
from mvmnix.provenance.slsa import source_summaries
from mvmnix.provenance.verify import vsa_inputs
from mvmnix.provenance.verify.vsa_inputs import SummaryInput

PREDICATE_TYPE: Final = source_summaries.SUMMARY_TYPE
#: The version of the SLSA specification whose levels are meant.
SLSA_VERSION: Final = "1.1"
#: Under which name a summary lies beside an image.
FILE_NAME: Final = "vsa.sigstore.json"

_LEVEL: Final = "SLSA_BUILD_LEVEL_"
_URI: Final = r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]{1,2047}"
_VERSION: Final = r"[0-9A-Za-z][0-9A-Za-z.+-]{0,63}"


class Result(StrEnum):
    """How the verification ended."""

    PASSED = "PASSED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Vsa:
    """What a verifier says about an image: `level` is a SLSA Build level, `time` whole seconds in UTC.

    `inputs` are the bundles that it looked at, by name and digest of their bytes, the provenance first; `relied_on` is
    what revocations can name of each, None where the summary doesn't say.
    """

    verifier_id: str
    version: str
    time: datetime
    resource: str
    policy: Digest
    inputs: tuple[Subject, ...]
    result: Result
    level: int
    subjects: tuple[Subject, ...]
    relied_on: tuple[SummaryInput, ...] | None = None

    def __post_init__(self) -> None:
        for uri in (self.verifier_id, self.resource):
            if not re.fullmatch(_URI, uri):
                raise ValueError(f"not a URI: {uri[:80]!r}")
        if not 0 <= self.level <= 3:
            raise ValueError(f"there is no SLSA Build level {self.level}")
        if not self.inputs:
            raise ValueError("a summary needs at least one evidence digest")


def resource_of(image: Image) -> str:
    """The resourceUri of an image, by its name and the digest of its manifest.json, which names all of it.

    The name alone would let a summary of another image of that name stand in.
    """
    return f"urn:mvmnix:image:{image.name}:sha256:{image.manifest.digest.hex}"


def verifier_of(key: PublicKey) -> str:
    """The verifier.id of a verifier that has this key and no other name."""
    return f"urn:mvmnix:verifier:sha256:{key.fingerprint.hex}"


def inputs_of(bundles: Iterable[Digest]) -> tuple[Subject, ...]:
    """What a verification looked at: the provenance bundle, then those that stand behind it or beside it, each once."""
    each = enumerate(dict.fromkeys(bundles))
    return tuple(Subject(f"evidence-{number}" if number else "provenance", digest) for number, digest in each)


def to_statement(it: Vsa) -> Statement:
    """The statement of this summary."""
    predicate: Mapping[str, object] = {
        "verifier": {"id": it.verifier_id, "version": {"mvmnix": it.version}},
        "timeVerified": strict.show_time(it.time),
        "resourceUri": it.resource,
        "policy": {"digest": {"sha256": it.policy.hex}},
        "inputAttestations": [subject_value(subject) for subject in it.inputs],
        "verificationResult": it.result,
        "verifiedLevels": [f"{_LEVEL}{it.level}"],
        "slsaVersion": SLSA_VERSION,
    }
    relied_on = {} if it.relied_on is None else {vsa_inputs.FIELD: vsa_inputs.to_json(it.relied_on)}
    return Statement(it.subjects, PREDICATE_TYPE, {**predicate, **relied_on})


def from_statement(statement: Statement) -> Vsa:
    """Read a summary. Raises RefusedError STATEMENT_MALFORMED with all problems at once."""
    try:
        return strict.read(statement.predicate, "summary", lambda record: _parse(record, statement.subjects))
    except strict.MalformedError as error:
        hint = "have the image verified again: `mvm verify --vsa OUT DIRECTORY`"
        raise error.refused(ReasonCode.STATEMENT_MALFORMED, "the verification summary", hint) from error


def _parse(record: strict.Record, subjects: tuple[Subject, ...]) -> Vsa:
    verifier, version = record.child("verifier", _verifier)
    record.text("slsaVersion", SLSA_VERSION.replace(".", r"\."))
    inputs = distinct(record.each("inputAttestations", parse_subject, vsa_inputs.MOST))
    return Vsa(
        verifier,
        version,
        record.time("timeVerified"),
        record.text("resourceUri", _URI),
        record.child("policy", lambda it: it.child("digest", lambda digest: digest.digest())),
        inputs,
        record.choice("verificationResult", Result),
        _level(record),
        subjects,
        vsa_inputs.from_record(record, inputs),
    )


def _verifier(record: strict.Record) -> tuple[str, str]:
    return record.text("id", _URI), record.child("version", lambda it: it.text("mvmnix", _VERSION))


def _level(record: strict.Record) -> int:
    match record.texts("verifiedLevels", rf"{_LEVEL}[0-3]", 16):
        case (level,):
            return int(level.removeprefix(_LEVEL))
        case levels:
            raise ValueError(f"{len(levels)} SLSA Build levels are claimed instead of one")
