"""Reads cases, each a small TOML file that names evidence and the verdict that a policy should come to, and tries them.

docs/trust-policy.md has the format. Paths are relative to the case's file and stay below its directory.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from mvmnix.api.files import file_bytes
from mvmnix.api.policy_report.account import Judge, Judged
from mvmnix.errors import ReasonCode, RefusedError, UnreadableError
from mvmnix.formats import strict
from mvmnix.provenance import trust_toml
from mvmnix.provenance.policy.policy import TrustPolicy

_PATH: Final = r"[A-Za-z0-9_][A-Za-z0-9._@+-]*(/[A-Za-z0-9_][A-Za-z0-9._@+-]*)*"
_URI: Final = r"[!-~]{1,4096}"
_LINE: Final = r"[^\x00-\x1f\x7f]{1,255}"
_KINDS: Final = ("image", "bundle", "source", "input")


class Expected(StrEnum):
    """What a policy should make of the evidence."""

    ADMITTED = "admitted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Case:
    """One case: evidence, the time as of which it is judged, and the verdict that is right.

    `kind` says what `subject` is: an image's directory, a bundle's path, or a URI. `codes` are all reasons of a
    refusal, `level` that of an image that is admitted, None where it is all the same.
    """

    kind: str
    subject: str
    provenance: str
    plan: str
    now: datetime
    expected: Expected
    codes: frozenset[ReasonCode]
    level: int | None

    def judged(self, directory: Path, policy: TrustPolicy) -> Judged:
        """The verdict of this policy. Raises MvmnixError for evidence that can't be read."""
        judge, here = Judge(policy, self.now), str(directory / self.subject)
        match self.kind:
            case "image":
                bundle, plan = (str(directory / name) if name else "" for name in (self.provenance, self.plan))
                return judge.image(here, bundle, plan)
            case "bundle":
                return judge.bundle(here)
            case "source":
                return judge.source(self.subject)
            case _:
                return judge.input(self.subject)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case that was tried: by its name, what was wrong, if anything."""

    name: str
    problem: str

    @property
    def record(self) -> Mapping[str, object]:
        """The same for machines."""
        return {"name": self.name, "asExpected": not self.problem, "problem": self.problem}


def parse(data: bytes, name: str) -> Case:
    """Read a case. Raises RefusedError POLICY_MALFORMED with all problems at once."""
    return trust_toml.read(data, name, _case, schema="case")


def _case(record: strict.Record) -> Case:
    record.integer("version", 1, 1)
    if record.has("about"):
        record.text("about", _LINE)
    kinds = [kind for kind in _KINDS if record.has(kind)]
    if len(kinds) != 1:
        raise ValueError(f"it names one of {', '.join(_KINDS)}, and not {len(kinds)}")
    (kind,) = kinds
    extra = {name: record.text(name, _PATH) if record.has(name) else "" for name in ("provenance", "plan")}
    if kind != "image" and any(extra.values()):
        raise ValueError("provenance and plan go with an image")
    expected = record.choice("expect", Expected)
    codes = (
        frozenset(_code(text) for text in record.texts("reasons", limit=64)) if record.has("reasons") else frozenset()
    )
    if (expected is Expected.REFUSED) != bool(codes):
        raise ValueError("reasons are named exactly when a refusal is expected")
    level = record.integer("level", 0, 3) if record.has("level") else None
    if level is not None and (kind != "image" or expected is Expected.REFUSED):
        raise ValueError("a level is expected of an image that is admitted")
    subject = record.text(kind, _PATH if kind in {"image", "bundle"} else _URI)
    return Case(
        kind, subject, extra["provenance"], extra["plan"], trust_toml.moment(record, "now"), expected, codes, level
    )


def _code(text: str) -> ReasonCode:
    if text not in set(ReasonCode):
        raise ValueError(f"{text!r} is not a reason code; docs/refusals.md lists them")
    return ReasonCode(text)


def run(directory: Path, policy: TrustPolicy) -> Iterator[Outcome]:
    """Try every case of a directory, by name. Raises UnreadableError where there is none, or one can't be read."""
    paths = sorted(directory.glob("*.toml"))
    if not paths:
        raise UnreadableError(f"{directory} has no case", hint="a case is a file NAME.toml: docs/trust-policy.md")
    for path in paths:
        try:
            case = parse(file_bytes(str(path), trust_toml.LIMIT), path.name)
        except RefusedError as error:
            raise UnreadableError(str(error), hint=error.hint) from error
        yield Outcome(path.stem, _problem(case, case.judged(directory, policy)))


def _problem(case: Case, judged: Judged) -> str:
    if judged.admitted != (case.expected is Expected.ADMITTED):
        got = "admitted" if judged.admitted else f"refused: {_codes(frozenset(it.code for it in judged.reasons))}"
        wanted = "admitted" if case.expected is Expected.ADMITTED else f"refused: {_codes(case.codes)}"
        return f"expected {wanted}, and it is {got}"
    found = frozenset(reason.code for reason in judged.reasons)
    if found != case.codes:
        return f"expected the reasons {_codes(case.codes)}, and they are {_codes(found)}"
    if case.level is not None and judged.level != case.level:
        return f"expected level {case.level}, and it is {judged.level}"
    return ""


def _codes(codes: frozenset[ReasonCode]) -> str:
    return ", ".join(sorted(codes))
