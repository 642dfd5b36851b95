"""What one line of the audit log says: a typed record with exactly one spelling in bytes; pure.

It holds names, codes, numbers and digests. Arguments, environment, output, paths and secrets have no field to stand in.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

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
#: A backend, and behind a colon what it isn't: "container: not a microVM".
_BACKEND: Final = r"[a-z][a-z0-9-]{0,31}(: [A-Za-z ]{1,40})?"
#: What follows the first value is left to the comparison with the canonical form.
_decode: Final = json.JSONDecoder().raw_decode
_is_machine: Final = re.compile(_MACHINE).fullmatch
_is_digest_name: Final = re.compile(_DIGEST_NAME).fullmatch
_is_reason: Final = re.compile(_REASON).fullmatch

#: Serial numbers of the floor's and the user's trust.toml, of the floor's and the user's revocations.toml; 0: no file.
type Serials = tuple[int, int, int, int]


class Kind(StrEnum):
    """What happened."""

    ADMISSION = "admission"
    REFUSAL = "refusal"
    START = "start"
    END = "end"
    EXEC = "exec"
    PAUSE = "pause"
    RESUME = "resume"
    SHELL = "shell"
    COPY = "copy"
    RECOVERY = "recovery"
    WITNESS = "witness"


#: What a record of each kind must say; the rest may be missing.
_REQUIRED: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.ADMISSION: ("plan", "policy"),
    Kind.REFUSAL: ("reasons",),
    Kind.START: ("machine", "plan", "policy"),
    Kind.END: ("machine", "plan", "policy"),
    Kind.EXEC: ("machine", "plan", "policy", "digests"),
    Kind.PAUSE: ("machine", "plan", "policy"),
    Kind.RESUME: ("machine", "plan", "policy"),
    Kind.SHELL: ("machine", "plan", "policy", "digests"),
    Kind.COPY: ("machine", "plan", "policy", "digests"),
    Kind.RECOVERY: ("digests",),
    Kind.WITNESS: ("digests", "reasons"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One event. Raises ValueError when a field that its kind needs is missing, or one is out of range.

    `time` is in whole seconds UTC. `machine` is the machine's id. `plan` and `policy` are the digests of the bytes
    that were verified. `digests` names what else was looked at or used (`image`, `provenance`, `argv`, `receipt`, …);
    a value that must not be written down, such as the argument list, stands there by its digest only. `reasons` are
    the ReasonCodes of a refusal, or of a run that failed: strings, since a log outlives the mvm that wrote it.
    `exit_code` is the guest's own, 0 to 255. `serials` are those of the policy's files, as they were when it was read.
    `backend` says what was started, in the words of a signed plan.
    `count` says for how many events alike one refusal stands, where a guest provoked them.
    """

    kind: Kind
    time: datetime
    machine: str | None = None
    plan: Digest | None = None
    policy: Digest | None = None
    digests: Mapping[str, Digest] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    exit_code: int | None = None
    serials: Serials | None = None
    count: int | None = None
    backend: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "digests", MappingProxyType(dict(self.digests)))
        # each code once, in the order of the first: a guest cannot make a record long by failing often
        object.__setattr__(self, "reasons", tuple(dict.fromkeys(map(str, self.reasons))))
        if self.time.tzinfo is None:
            raise ValueError("a record's time needs a time zone")
        missing = [name for name in _REQUIRED[self.kind] if not getattr(self, name)]
        if missing:
            raise ValueError(f"a record of kind {self.kind} needs {', '.join(missing)}")
        if self.machine is not None and not _is_machine(self.machine):
            raise ValueError(f"not a machine's id: {self.machine!r}")
        if len(self.digests) > MAX_DIGESTS or not all(map(_is_digest_name, self.digests)):
            raise ValueError(f"not at most {MAX_DIGESTS} digests with short names: {sorted(self.digests)}")
        if len(self.reasons) > MAX_REASONS or not all(map(_is_reason, self.reasons)):
            raise ValueError(f"not at most {MAX_REASONS} reason codes: {self.reasons}")
        if self.exit_code is not None and (self.kind is not Kind.END or not 0 <= self.exit_code <= 255):
            raise ValueError(f"not an exit code of an end: {self.exit_code}")
        if self.backend is not None and not re.fullmatch(_BACKEND, self.backend):
            raise ValueError(f"not a backend: {self.backend!r}")
        self._check_numbers()

    def _check_numbers(self) -> None:
        serials: tuple[int, ...] = self.serials or (0, 0, 0, 0)
        if len(serials) != 4 or not 0 <= min(serials) <= max(serials) <= strict.MAX_INTEGER:
            raise ValueError(f"not the four serial numbers of a policy's record: {self.serials}")
        if self.count is not None and (self.kind is not Kind.REFUSAL or not 1 <= self.count <= strict.MAX_INTEGER):
            raise ValueError(f"not a count of a refusal's record: {self.count}")

    @property
    def line(self) -> bytes:
        """Canonical JSON without a newline; the leaf of the tree is over exactly these bytes.

        As `strict.canonical` writes it, without its help, since no text here has anything to escape.
        """
        members = [] if self.backend is None else [f'"backend":"{self.backend}"']
        if self.count is not None:
            members.append(f'"count":{self.count}')
        if self.digests:
            named = ",".join([f'"{name}":"{self.digests[name].hex}"' for name in sorted(self.digests)])
            members.append(f'"digests":{{{named}}}')
        if self.exit_code is not None:
            members.append(f'"exit":{self.exit_code}')
        members.append(f'"kind":"{self.kind.value}"')
        if self.machine is not None:
            members.append(f'"machine":"{self.machine}"')
        for name, digest in (("plan", self.plan), ("policy", self.policy)):
            if digest is not None:
                members.append(f'"{name}":"{digest.hex}"')
        if self.reasons:
            members.append('"reasons":["' + '","'.join(self.reasons) + '"]')
        if self.serials is not None:
            members.append(f'"serials":[{",".join(map(str, self.serials))}]')
        members.append(f'"time":"{strict.show_time(self.time)}"')
        return ("{" + ",".join(members) + "}").encode()

    @classmethod
    def parse(cls, line: bytes) -> "Record":
        """Read what `line` wrote. Raises MalformedError for anything else, another spelling of the same included.

        There are records by the hundred thousand, so they are read without strict's help: since a record has to give
        these very bytes again, no key stands there twice, and nothing stands there in another form.
        """
        try:
            record = _read(_decode(line.decode())[0])
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise MalformedError(f"record: {type(error).__name__}: {error}") from error
        if record.line != line:
            raise MalformedError("record: not in its canonical form")
        return record


def _read(value: Any) -> Record:
    take = value.pop
    digests: dict[str, str] = take("digests", {})
    record = Record(
        kind=Kind(take("kind")),
        time=strict.parse_time(take("time")),
        machine=take("machine", None),
        plan=_digest(take("plan", None)),
        policy=_digest(take("policy", None)),
        digests={name: Digest(hexadecimal) for name, hexadecimal in digests.items()},
        reasons=tuple(take("reasons", ())),
        exit_code=_number(take("exit", None)),
        serials=_serials(take("serials", None)),
        count=_number(take("count", None)),
        backend=take("backend", None),
    )
    if value:
        raise ValueError(f"unknown: {sorted(value)}")
    return record


def _digest(value: str | None) -> Digest | None:
    return None if value is None else Digest(value)


def _number(value: object) -> int | None:
    if value is not None and type(value) is not int:  # True is one, to Python
        raise ValueError(f"no number: {value!r}")
    return value


def _serials(value: list[object] | None) -> Serials | None:
    if value is None:
        return None
    floor, user, revoked_by_floor, revoked_by_user = (_number(one) or 0 for one in value)
    return floor, user, revoked_by_floor, revoked_by_user
