"""What a caller and the process that starts a machine for it say to each other, one message in each packet; pure.

The caller sends a `StartRequest` with its descriptors. It is answered `Taken` at once; then come notices, questions and
what is needed of the caller, each answered by the caller, until the machine is `Started` (or `Created`), has `Ended`,
or there is a `Failure`, which is the last word as an end is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mvmnix.errors import Reason
from mvmnix.formats.strict import Record
from mvmnix.launch.agent.operations import MAX_PORTS, MOST_ROWS
from mvmnix.launch.control import codec
from mvmnix.launch.control.failure import Failure, parse_failure, parse_reason
from mvmnix.launch.control.messages import TERM, Stream
from mvmnix.launch.control.own_directories import SHOWN
from mvmnix.launch.control.pool_messages import PoolRequest, PoolsKept, parse_pool_request, parse_pools
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.machines.retention import Retention
from mvmnix.plan import secret_reference
from mvmnix.plan import share as sharing
from mvmnix.plan.secret_reference import SecretReference
from mvmnix.plan.share import Share
from mvmnix.system.log import LEVELS

#: Descriptors of one packet: roots, plan, the files of an exported image and the streams; SCM_MAX_FD is 253.
MOST_DESCRIPTORS: Final = 64
#: Characters of a notice, a question and an answer.
LONGEST_TEXT: Final = 8192
_MACHINE: Final = r"[0-9a-f]{12}"
_DIGEST: Final = r"sha256:[0-9a-f]{64}"
_NAME: Final = r"[A-Za-z0-9._-]{1,64}"
_MOST_FILES: Final = 16


class Mode(StrEnum):
    """What becomes of the machine."""

    ATTACHED = "attached"
    """It runs the plan's command with the caller's streams, and ends with it or with the caller."""
    DETACHED = "detached"
    """It runs the plan's command and goes on without the caller."""
    HELD = "held"
    """It serves callers, runs no command of the plan's, and ends with the caller, unless that detaches it."""
    CREATED = "created"
    """It is verified and registered, and not started."""
    SAVED = "saved"
    """It boots, is saved before it is told anything, and ends: other machines start from what is kept of it."""


@dataclass(frozen=True, slots=True)
class TerminalSize:
    """The terminal of an attached command: its kind, as in TERM, rows and columns."""

    kind: str
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class StartRequest:
    """Start a machine, from a signed plan that comes as a descriptor, or the one that was `created`, by its id.

    `snapshot` is the id of the one that its guest goes on from, "" for a guest that begins anew.

    `image` are the names of the files of an exported image, which come as descriptors in this order; `has_summary`: a
    verifier's summary comes, too. `image_path` and `summary_path` are what a created machine remembers of them.
    `ports` are those at which the caller answers the guest. `is_build` is for a builder VM: no other caller reaches it,
    it is kept as one, and a panic before it is ready begins its boot once more. `can_ask`: the caller can answer
    questions; `log` is the lowest level of what it wants to be told of the log, "" for nothing.
    """

    mode: Mode
    created: str = ""
    snapshot: str = ""
    name: str = ""
    retention: Retention = Retention.ALWAYS
    terminal: TerminalSize | None = None
    image: tuple[str, ...] = ()
    has_summary: bool = False
    image_path: str = ""
    summary_path: str = ""
    ports: tuple[int, ...] = ()
    is_build: bool = False
    can_ask: bool = False
    log: str = ""
    streams: tuple[Stream, ...] = ()

    @property
    def descriptors(self) -> tuple[str, ...]:
        """What each descriptor is, in the order in which they come."""
        plan = () if self.created else ("plan",)
        summary = ("summary",) if self.has_summary else ()
        return (*SHOWN, *plan, *(f"image {name}" for name in self.image), *summary, *self.streams)


# what the caller says later


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a question; a caller that has none sends a `Failure`."""

    text: str


@dataclass(frozen=True, slots=True)
class SharesOpened:
    """Directories for `SharesWanted`: those of `opened`, by their places in the guest, come as descriptors, in order.

    Beside the descriptor of a writable one comes that of a file that was made in it, opened for writing.
    `reasons` say why the others can't be had.
    """

    opened: tuple[str, ...]
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class SecretsResolved:
    """The values for `SecretsWanted`: one descriptor of sealed memory; `sizes` are their bytes, in order."""

    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StopRequest:
    """End the machine, as this signal would; a second one ends it at once."""

    number: int


@dataclass(frozen=True, slots=True)
class TerminalResized:
    """The terminal has so many rows and columns now."""

    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Connect:
    """One descriptor: the end of another connection, on which the machine's control protocol is spoken."""


@dataclass(frozen=True, slots=True)
class Detach:
    """Let the machine go on without this connection. Answered by its end."""


type CallerMessage = Reply | SharesOpened | SecretsResolved | StopRequest | TerminalResized | Connect | Detach | Failure

# what the caller is told


@dataclass(frozen=True, slots=True)
class Taken:
    """The request was read by the process of this id, which answers from here on."""

    process: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A line of prose for the user; it may hold strings from a guest or a server."""

    text: str


@dataclass(frozen=True, slots=True)
class Logged:
    """A line of the log (system/log.py), where the caller asked for them."""

    level: str
    area: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """Ask the user for this secret."""

    text: str


@dataclass(frozen=True, slots=True)
class SharesWanted:
    """The verified plan has these shares: open their directories."""

    shares: tuple[Share, ...]

    def to_value(self) -> Mapping[str, object]:
        """Return its fields as JSON."""
        return {"shares": sharing.to_json(self.shares)}


@dataclass(frozen=True, slots=True)
class SecretsWanted:
    """The verified plan has these secrets: resolve them."""

    secrets: tuple[SecretReference, ...]

    def to_value(self) -> Mapping[str, object]:
        """Return its fields as JSON."""
        return {"secrets": secret_reference.to_json(self.secrets)}


@dataclass(frozen=True, slots=True)
class Started:
    """The machine's guest is ready.

    `accelerator` is what executes it, "" for a container; `plan` and `policy` are the digests under which it was
    verified, `signers` the names of the plan's.
    """

    machine: str
    accelerator: str
    plan: str
    policy: str
    signers: tuple[str, ...]
    backend: str


@dataclass(frozen=True, slots=True)
class Created:
    """The machine is registered under this id."""

    machine: str


@dataclass(frozen=True, slots=True)
class GuestConnected:
    """The guest opened a connection to this port; one descriptor: the caller's end of it, a stream socket."""

    port: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The machine has ended. `exit_code` is what the caller's command exits with.

    `reason` is the end's, `receipt` the digest of the signed receipt, `path` where that lies. `status` is the command's
    end as the guest reported it, None where there was none.
    """

    exit_code: int
    machine: str
    reason: str
    receipt: str
    path: str
    status: ExitStatus | None = None


type StartEvent = (
    Taken
    | Notice
    | Logged
    | Question
    | SharesWanted
    | SecretsWanted
    | Started
    | Created
    | GuestConnected
    | Ended
    | PoolsKept
    | Failure
)


def parse_request(data: bytes) -> StartRequest | PoolRequest:
    """Read the first message of a caller. Raises MalformedError, a ValueError; VersionError."""
    return codec.parse(data, _REQUESTS)


def name_descriptors(request: StartRequest | PoolRequest, descriptors: Sequence[int]) -> dict[str, int]:
    """Return the descriptors of a request by what they are. Raises ValueError where others came than it announces."""
    names = request.descriptors
    if len(names) != len(descriptors) or len(set(names)) != len(names):
        raise ValueError("there are more descriptors than were announced, or fewer, or one of them twice")
    return dict(zip(names, descriptors, strict=True))


def parse_caller(data: bytes) -> CallerMessage:
    """Read a later message of a caller. Raises as `parse_request` does."""
    return codec.parse(data, _CALLER)


def parse_event(data: bytes) -> StartEvent:
    """Read what a caller is told. Raises as `parse_request` does."""
    return codec.parse(data, _EVENTS)


def _request(record: Record) -> StartRequest:
    return StartRequest(
        mode=record.choice("mode", Mode),
        created=record.text("created", rf"({_MACHINE})?"),
        snapshot=record.text("snapshot", rf"({_MACHINE})?"),
        name=record.text("name", limit=256),
        retention=record.choice("retention", Retention),
        terminal=record.child("terminal", _terminal) if record.has("terminal") else None,
        image=record.texts("image", _NAME, _MOST_FILES),
        has_summary=record.flag("hasSummary"),
        image_path=record.text("imagePath", limit=4096),
        summary_path=record.text("summaryPath", limit=4096),
        ports=record.integers("ports", 1, 65535, MAX_PORTS),
        is_build=record.flag("isBuild"),
        can_ask=record.flag("canAsk"),
        log=record.text("log", "|".join(("", *LEVELS))),
        streams=_streams(record),
    )


def _streams(record: Record) -> tuple[Stream, ...]:
    return tuple(map(Stream, record.texts("streams", "|".join(Stream), len(Stream))))


def _terminal(record: Record) -> TerminalSize:
    return TerminalSize(record.text("kind", TERM), *_size(record))


def _size(record: Record) -> tuple[int, int]:
    return record.integer("rows", 1, MOST_ROWS), record.integer("columns", 1, MOST_ROWS)


def _opened(record: Record) -> SharesOpened:
    return SharesOpened(record.texts("opened", limit=sharing.MOST_SHARES), record.each("reasons", parse_reason))


def _sizes(record: Record) -> SecretsResolved:
    most = secret_reference.MOST_SECRETS
    return SecretsResolved(record.integers("sizes", 1, secret_reference.LARGEST_SECRET, most))


def _started(record: Record) -> Started:
    return Started(
        record.text("machine", _MACHINE),
        record.text("accelerator", r"[a-z-]{0,32}"),
        record.text("plan", _DIGEST),
        record.text("policy", _DIGEST),
        record.texts("signers"),
        record.text("backend", limit=64),
    )


def _ended(record: Record) -> Ended:
    return Ended(
        record.integer("exitCode", 0, 255),
        record.text("machine", _MACHINE),
        record.text("reason", r"[a-z-]{1,64}"),
        record.text("receipt", _DIGEST),
        record.text("path", limit=4096),
        record.child("status", ExitStatus.read) if record.has("status") else None,
    )


_REQUESTS: Final[Mapping[str, Callable[[Record], StartRequest | PoolRequest]]] = {
    "startRequest": _request,
    "poolRequest": parse_pool_request,
}
_CALLER: Final[Mapping[str, Callable[[Record], CallerMessage]]] = {
    "reply": lambda record: Reply(record.text("text", limit=LONGEST_TEXT)),
    "sharesOpened": _opened,
    "secretsResolved": _sizes,
    "stopRequest": lambda record: StopRequest(record.integer("number", 1, 64)),
    "terminalResized": lambda record: TerminalResized(*_size(record)),
    "connect": lambda _: Connect(),
    "detach": lambda _: Detach(),
    "failure": parse_failure,
}
_EVENTS: Final[Mapping[str, Callable[[Record], StartEvent]]] = {
    "taken": lambda record: Taken(record.integer("process", 1, 2**22)),
    "notice": lambda record: Notice(record.text("text", limit=LONGEST_TEXT)),
    "logged": lambda record: Logged(
        record.text("level", "|".join(LEVELS)), record.text("area", limit=64), record.text("text", limit=LONGEST_TEXT)
    ),
    "question": lambda record: Question(record.text("text", limit=LONGEST_TEXT)),
    "sharesWanted": lambda record: SharesWanted(sharing.from_record(record)),
    "secretsWanted": lambda record: SecretsWanted(secret_reference.from_record(record)),
    "started": _started,
    "created": lambda record: Created(record.text("machine", _MACHINE)),
    "guestConnected": lambda record: GuestConnected(record.integer("port", 1, 65535)),
    "ended": _ended,
    "poolsKept": parse_pools,
    "failure": parse_failure,
}
