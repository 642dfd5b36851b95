"""Reads and writes in-toto Statements, version 1: which files a claim is about, and the claim itself; pure.

The format is in-toto's attestation framework, spec/v1/statement.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self, cast

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode
from mvmnix.formats import strict
from mvmnix.model import Artifact

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
#: A provenance with thousands of sources stays far below it.
STATEMENT_LIMIT: Final = 16 * 2**20

_NAME: Final = r"[^\x00-\x1f\x7f]{1,255}"


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """A file that a claim is about."""

    name: str
    digest: Digest

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        """The subject that names this file."""
        return cls(artifact.name, artifact.digest)


@dataclass(frozen=True, slots=True)
class Statement:
    """A claim about some files; only the parser of that predicate type reads `predicate`."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: Mapping[str, object]

    def to_bytes(self) -> bytes:
        """The statement in canonical JSON."""
        return strict.canonical(
            {
                "_type": STATEMENT_TYPE,
                "subject": [subject_value(subject) for subject in self.subjects],
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )


def parse(payload: bytes) -> Statement:
    """Read a statement. Raises RefusedError STATEMENT_MALFORMED, naming all problems; unknown fields are one."""
    try:
        return strict.read(strict.parse_json(payload, limit=STATEMENT_LIMIT), "statement", _statement)
    except strict.MalformedError as error:
        hint = "have it made and signed again by a tool that writes in-toto Statement v1"
        raise error.refused(ReasonCode.STATEMENT_MALFORMED, "the signed statement", hint) from error


def subject_value(subject: Subject) -> Mapping[str, object]:
    """A subject as in-toto's ResourceDescriptor, ready to be written as JSON."""
    return {"name": subject.name, "digest": {"sha256": subject.digest.hex}}


def parse_subject(record: strict.Record) -> Subject:
    """A ResourceDescriptor that names a file by its SHA-256 and by nothing else."""
    return Subject(record.text("name", _NAME), record.child("digest", lambda digest: digest.digest()))


def distinct(subjects: Iterable[Subject]) -> tuple[Subject, ...]:
    """The same subjects. Raises ValueError when a name is listed twice, so no reader can choose between two."""
    found = tuple(subjects)
    if len({subject.name for subject in found}) != len(found):
        raise ValueError("two subjects have the same name")
    return found


def _statement(record: strict.Record) -> Statement:
    record.text("_type", STATEMENT_TYPE.replace(".", r"\."))
    subjects = record.each("subject", parse_subject, 1024)
    predicate_type = record.text("predicateType", r"[!-~]{1,1024}")
    predicate = record.value("predicate")
    if not isinstance(predicate, dict):
        raise ValueError("its predicate is not an object")  # noqa: TRY004 - the text is wrong, not a caller
    return Statement(distinct(subjects), predicate_type, cast("dict[str, object]", predicate))
