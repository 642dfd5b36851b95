"""What one line of the audit log says: a typed record with exactly one spelling in bytes; pure.

It holds names, codes, numbers and digests. Arguments, environment, output, paths and secrets have no field to stand in.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from mvmnix import strict
from mvmnix.model import Digest
from mvmnix.strict import MalformedError

#: A record's line is never longer, in bytes, its newline included.
MAX_LINE: Final = 8192
MAX_DIGESTS: Final = 16
MAX_REASONS: Final = 64
_MACHINE: Final = r"[a-z0-9][a-z0-9-]{0,63}"
_DIGEST_NAME: Final = r"[a-z][a-z0-9-]{0,31}"
_REASON: Final = r"[a-z][a-z0-9-]{0,63}"


class Kind(StrEnum):
    """What happened."""

    ADMISSION = "admission"
    REFUSAL = "refusal"
    START = "start"
    END = "end"
    RECOVERY = "recovery"


#: What a record of each kind must say; the rest may be missing.
_REQUIRED: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.ADMISSION: ("plan", "policy"),
    Kind.REFUSAL: ("reasons",),
    Kind.START: ("machine", "plan", "policy"),
    Kind.END: ("machine", "plan", "policy"),
    Kind.RECOVERY: ("digests",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One event. Raises ValueError when a field that its kind needs is missing, or one is out of range.

    `time` is in whole seconds UTC. `machine` is the machine's id. `plan` and `policy` are the digests of the bytes
    that were verified. `digests` names what else was looked at or used (`image`, `provenance`, `argv`, `receipt`, …);
    a value that must not be written down, such as the argument list, stands there by its digest only. `reasons` are
    the ReasonCodes of a refusal, or of a run that failed: strings, since a log outlives the mvm that wrote it.
    `exit_code` is the guest's own, 0 to 255.
    """

    kind: Kind
    time: datetime
    machine: str | None = None
    plan: Digest | None = None
    policy: Digest | None = None
    digests: Mapping[str, Digest] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    exit_code: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "digests", MappingProxyType(dict(self.digests)))
        # each code once, in the order of the first: a guest cannot make a record long by failing often
        object.__setattr__(self, "reasons", tuple(dict.fromkeys(str(reason) for reason in self.reasons)))
        if self.time.tzinfo is None:
            raise ValueError("a record's time needs a time zone")
        missing = [name for name in _REQUIRED[self.kind] if not getattr(self, name)]
        if missing:
            raise ValueError(f"a record of kind {self.kind} needs {', '.join(missing)}")
        if self.machine is not None and not re.fullmatch(_MACHINE, self.machine):
            raise ValueError(f"not a machine's id: {self.machine!r}")
        if len(self.digests) > MAX_DIGESTS or not all(re.fullmatch(_DIGEST_NAME, name) for name in self.digests):
            raise ValueError(f"not at most {MAX_DIGESTS} digests with short names: {sorted(self.digests)}")
        if len(self.reasons) > MAX_REASONS or not all(re.fullmatch(_REASON, reason) for reason in self.reasons):
            raise ValueError(f"not at most {MAX_REASONS} reason codes: {self.reasons}")
        if self.exit_code is not None and (self.kind is not Kind.END or not 0 <= self.exit_code <= 255):
            raise ValueError(f"not an exit code of an end: {self.exit_code}")

    @property
    def line(self) -> bytes:
        """Canonical JSON without a newline; the leaf of the tree is over exactly these bytes."""
        value: dict[str, object] = {"kind": self.kind, "time": strict.show_time(self.time)}
        if self.machine is not None:
            value["machine"] = self.machine
        for name, digest in (("plan", self.plan), ("policy", self.policy)):
            if digest is not None:
                value[name] = digest.hex
        if self.digests:
            value["digests"] = {name: digest.hex for name, digest in self.digests.items()}
        if self.reasons:
            value["reasons"] = list(self.reasons)
        if self.exit_code is not None:
            value["exit"] = self.exit_code
        return strict.canonical(value)

    @classmethod
    def parse(cls, line: bytes) -> "Record":
        """Read what `line` wrote. Raises MalformedError for anything else, another spelling of the same included."""
        record = strict.read(strict.parse_json(line), "record", _parse)
        if record.line != line:
            raise MalformedError("record: not in its canonical form")
        return record


def _parse(fields: strict.Record) -> Record:
    return Record(
        kind=fields.choice("kind", Kind),
        time=fields.time("time"),
        machine=fields.text("machine", _MACHINE) if fields.has("machine") else None,
        plan=fields.digest("plan") if fields.has("plan") else None,
        policy=fields.digest("policy") if fields.has("policy") else None,
        digests=fields.child("digests", _digests) if fields.has("digests") else {},
        reasons=fields.texts("reasons", _REASON, MAX_REASONS) if fields.has("reasons") else (),
        exit_code=fields.integer("exit", 0, 255) if fields.has("exit") else None,
    )


def _digests(fields: strict.Record) -> dict[str, Digest]:
    return {name: fields.digest(name) for name in fields.names()}
