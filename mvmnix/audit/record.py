"""What one line of the audit log says: a typed record with exactly one spelling in bytes, and where it goes; pure.

It holds names, codes, numbers and digests. Arguments, environment, output, paths and secrets have no field to stand in.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

from mvmnix.digest import Digest
from mvmnix.formats import strict
from mvmnix.formats.strict import MalformedError

#: A record's line is never longer, in bytes, its newline included.
MAX_LINE: Final = 8192
MAX_DIGESTS: Final = 16
MAX_REASONS: Final = 64
_MACHINE: Final = r"[a-z0-9][a-z0-9-]{0,63}"
_DIGEST_NAME: Final = r"[a-z][a-z0-9-]{0,31}"
_REASON: Final = r"[a-z][a-z0-9-]{0,63}"
#: A backend, and behind a colon what it isn't: "container: not a microVM".
_BACKEND: Final = r"[a-z][a-z0-9-]{0,31}(?:: [A-Za-z ]{1,40})?"
_is_machine: Final = re.compile(_MACHINE).fullmatch
_is_digest_name: Final = re.compile(_DIGEST_NAME).fullmatch
_is_reason: Final = re.compile(_REASON).fullmatch

#: Serial numbers of the floor's and the user's trust.toml, of the floor's and the user's revocations.toml; 0: no file.
type Serials = tuple[int, int, int, int]


class RecordKind(StrEnum):
    """What happened."""

    ADMISSION = "admission"
    REFUSAL = "refusal"
    CREATION = "creation"
    START = "start"
    END = "end"
    EXEC = "exec"
    PAUSE = "pause"
    RESUME = "resume"
    SHELL = "shell"
    COPY = "copy"
    RECOVERY = "recovery"
    #: An anchor could not be handed a checkpoint; by the name that such a record had first, so that old logs verify.
    ANCHOR = "witness"
    NEW_LOG = "new-log"
    RESTART = "restart"
    NETWORK = "network"
    SNAPSHOT = "snapshot"


#: What a record of each kind must say; the rest may be missing.
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    RecordKind.ADMISSION: ("plan", "policy"),
    RecordKind.REFUSAL: ("reasons",),
    RecordKind.CREATION: ("machine", "plan", "policy", "digests"),
    RecordKind.START: ("machine", "plan", "policy"),
    RecordKind.END: ("machine", "plan", "policy"),
    RecordKind.EXEC: ("machine", "plan", "policy", "digests"),
    RecordKind.PAUSE: ("machine", "plan", "policy"),
    RecordKind.RESUME: ("machine", "plan", "policy"),
    RecordKind.SHELL: ("machine", "plan", "policy", "digests"),
    RecordKind.COPY: ("machine", "plan", "policy", "digests"),
    RecordKind.RECOVERY: ("digests",),
    RecordKind.ANCHOR: ("digests", "reasons"),
    RecordKind.NEW_LOG: ("digests",),
    RecordKind.NETWORK: ("machine", "plan", "policy", "reasons"),
    RecordKind.SNAPSHOT: ("machine", "plan", "policy", "digests"),
    RecordKind.RESTART: ("machine", "plan", "policy", "digests", "reasons"),
}
_HEX: Final = "[0-9a-f]{64}"
_INTEGER: Final = "(?:0|[1-9][0-9]{0,15})"
_NAMED: Final = f'"{_DIGEST_NAME}":"{_HEX}"'
#: What `Record.line` writes, by field; what the values of several fields have to do with each other, `_check` says.
_LINE: Final = re.compile(
    r"\{"
    rf'(?:"backend":"(?P<backend>{_BACKEND})",)?'
    rf'(?:"count":(?P<count>{_INTEGER}),)?'
    rf'(?:"digests":\{{(?P<digests>{_NAMED}(?:,{_NAMED})*)\}},)?'
    rf'(?:"exit":(?P<exit_code>{_INTEGER}),)?'
    r'(?:"expires":"(?P<expires>[^"]{20})",)?'
    rf'"kind":"(?P<kind>{"|".join(RecordKind)})"'
    rf'(?:,"machine":"(?P<machine>{_MACHINE})")?'
    rf'(?:,"plan":"(?P<plan>{_HEX})")?'
    rf'(?:,"policy":"(?P<policy>{_HEX})")?'
    rf'(?:,"reasons":\["(?P<reasons>{_REASON}(?:","{_REASON})*)"\])?'
    rf'(?:,"serials":\[(?P<serials>{_INTEGER}(?:,{_INTEGER}){{3}})\])?'
    r',"time":"(?P<time>[^"]{20})"\}'
)


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
    `expires` is the end of the plan's window, in the record of a start: until then its nonce has to be kept.
    """

    kind: RecordKind
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
    expires: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "digests", MappingProxyType(dict(self.digests)))
        # each code once, in the order of the first: a guest cannot make a record long by failing often
        object.__setattr__(self, "reasons", tuple(dict.fromkeys(map(str, self.reasons))))
        if None in {each.tzinfo for each in (self.time, self.expires) if each is not None}:
            raise ValueError("a record's time needs a time zone")
        if self.machine is not None and not _is_machine(self.machine):
            raise ValueError(f"not a machine's id: {self.machine!r}")
        if not all(map(_is_digest_name, self.digests)):
            raise ValueError(f"not digests with short names: {sorted(self.digests)}")
        if not all(map(_is_reason, self.reasons)):
            raise ValueError(f"not reason codes: {self.reasons}")
        if self.backend is not None and not re.fullmatch(_BACKEND, self.backend):
            raise ValueError(f"not a backend: {self.backend!r}")
        _check(
            self.kind,
            [name for name in _REQUIRED[self.kind] if not getattr(self, name)],
            digests=len(self.digests),
            reasons=len(self.reasons),
            exit_code=self.exit_code,
            count=self.count,
            serials=self.serials,
            expires=self.expires is not None,
        )

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
        if self.expires is not None:
            members.append(f'"expires":"{strict.show_time(self.expires)}"')
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
        """Read what `line` wrote. Raises MalformedError for anything else, another spelling of the same included."""
        said = spelled(line)
        named = _named(said["digests"])
        return cls(
            kind=RecordKind(said["kind"]),
            time=strict.parse_time(said["time"]),
            machine=said["machine"],
            plan=_digest(said["plan"]),
            policy=_digest(said["policy"]),
            digests=dict(zip(named[0], map(Digest, named[1]), strict=True)),
            reasons=_codes(said["reasons"]),
            exit_code=_number(said["exit_code"]),
            serials=_serials(said["serials"]),
            count=_number(said["count"]),
            backend=said["backend"],
            expires=None if said["expires"] is None else strict.parse_time(said["expires"]),
        )


def spelled(line: bytes) -> re.Match[str]:
    """What a record's line says, as text by field (None for those that are not there), without making a Record of it.

    There are records by the hundred thousand, and a caller that checks them all needs few fields. Raises
    MalformedError for whatever is not the one spelling of a record.
    """
    said = _LINE.fullmatch(line.decode(errors="replace"))
    if said is None:
        raise MalformedError("record: not in its canonical form")
    try:
        _check_text(said)
    except ValueError as error:
        raise MalformedError(f"record: {error}") from error
    return said


def _check_text(said: re.Match[str]) -> None:
    """Raise ValueError unless what matches the grammar is a record."""
    for time in (said["time"], *([] if said["expires"] is None else [said["expires"]])):
        strict.parse_time(time)
    names, codes = _named(said["digests"])[0], _codes(said["reasons"])
    if names != sorted(set(names)) or len(set(codes)) != len(codes):
        raise ValueError("its digests are not in order, or something is listed twice")
    _check(
        said["kind"],
        [name for name in _REQUIRED[said["kind"]] if said[name] is None],
        digests=len(names),
        reasons=len(codes),
        exit_code=_number(said["exit_code"]),
        count=_number(said["count"]),
        serials=_serials(said["serials"]),
        expires=said["expires"] is not None,
    )


def _check(
    kind: str,
    missing: Sequence[str],
    *,
    digests: int,
    reasons: int,
    exit_code: int | None,
    count: int | None,
    serials: tuple[int, ...] | None,
    expires: bool,
) -> None:
    """Raise ValueError unless these may stand in one record; of digests and reasons it is told how many there are."""
    if missing:
        raise ValueError(f"a record of kind {kind} needs {', '.join(missing)}")
    if digests > MAX_DIGESTS or reasons > MAX_REASONS:
        raise ValueError(f"more than {MAX_DIGESTS} digests or {MAX_REASONS} reason codes")
    if exit_code is not None and (kind != RecordKind.END or not 0 <= exit_code <= 255):
        raise ValueError(f"not an exit code of an end: {exit_code}")
    if serials is not None and (len(serials) != 4 or not 0 <= min(serials) <= max(serials) <= strict.MAX_INTEGER):
        raise ValueError(f"not the four serial numbers of a policy's record: {serials}")
    if count is not None and (kind != RecordKind.REFUSAL or not 1 <= count <= strict.MAX_INTEGER):
        raise ValueError(f"not a count of a refusal's record: {count}")
    if expires and kind != RecordKind.START:
        raise ValueError(f"a record of kind {kind} has no end of a plan's window")


class Indexed(Protocol):
    """What a log says of a record that is in it."""

    @property
    def index(self) -> int:
        """The record's number, from 0 on."""


class Journal(Protocol):
    """Where starts, ends and refusals are recorded; `AuditLog` is one."""

    def append(self, record: Record) -> Indexed:
        """Put it there durably, or raise RefusedError or MvmnixError."""

    def vouch(self, record: Record) -> bytes:
        """A signed note that says that the log has this record, which was appended or handed out before."""

    def about(self, machine: str) -> tuple[Record, ...]:
        """A machine's records, from the last one back to its start, or to its creation without one.

        Raises RefusedError.
        """


def _named(text: str | None) -> tuple[list[str], list[str]]:
    """The names and the digests in hexadecimal: `"name":"hex","name":"hex"`, which has each in quotes."""
    parts = [] if text is None else text.split('"')
    return parts[1::4], parts[3::4]


def _codes(text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(text.split('","'))


def _digest(text: str | None) -> Digest | None:
    return None if text is None else Digest(text)


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _serials(text: str | None) -> Serials | None:
    if text is None:
        return None
    floor, user, revoked_by_floor, revoked_by_user = map(int, text.split(","))
    return floor, user, revoked_by_floor, revoked_by_user
