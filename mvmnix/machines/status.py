"""What is written about a machine into its status file, and how it is read back; no I/O."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from mvmnix.digest import Digest
from mvmnix.formats.strict import Record, canonical, parse_json, parse_time, read, show_time
from mvmnix.machines.ending import EndReason
from mvmnix.plan import labels
from mvmnix.plan.labels import NO_LABELS, Labels

_ID: Final = re.compile(r"[0-9a-f]{12}")
_EPOCH: Final = parse_time("1970-01-01T00:00:00Z")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class MachineState(StrEnum):
    """How far a machine came."""

    CREATED = "created"
    STARTING = "starting"
    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    ENDED = "ended"

    def may_become(self, state: "MachineState") -> bool:
        """Whether `state` can follow.

        >>> MachineState.STARTING.may_become(MachineState.RUNNING), MachineState.ENDED.may_become(MachineState.RUNNING)
        (True, False)
        """
        return state in _NEXT[self]


#: What can follow each state. Wherever a machine's supervisor may be killed is before, in or after one of these.
#: A machine of `mvm create` whose start came to nothing goes back; one of a pool waits, and ends when it is claimed.
_NEXT: Final[Mapping[MachineState, frozenset[MachineState]]] = {
    MachineState.CREATED: frozenset({MachineState.STARTING}),
    MachineState.STARTING: frozenset(
        {MachineState.CREATED, MachineState.WAITING, MachineState.RUNNING, MachineState.ENDED}
    ),
    MachineState.WAITING: frozenset({MachineState.ENDED}),
    MachineState.RUNNING: frozenset({MachineState.PAUSED, MachineState.STOPPING, MachineState.ENDED}),
    MachineState.PAUSED: frozenset({MachineState.RUNNING, MachineState.STOPPING, MachineState.ENDED}),
    MachineState.STOPPING: frozenset({MachineState.ENDED}),
    MachineState.ENDED: frozenset(),
}


def new_id() -> str:
    """An id that no machine has."""
    return os.urandom(6).hex()


def is_id(text: str) -> bool:
    """Whether this has the form of a machine's id: 12 lower-case hexadecimal digits."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class MachineSource:
    """Where a machine of `mvm create` has its image from: a directory, and a summary's path. Empty: what is kept."""

    image: str = ""
    summary: str = ""


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """What the status file says.

    `name` is the user's choice, or was chosen at random. `manifest` and `provenance` are the digests of the image's
    manifest and bundle, which say what has to be kept for it. `acceleration` is empty until it is known; `reason` and
    `exit_code` (the command's, as the guest reported it) until the end.
    `labels` are the plan's. `origin` stands in those of machines that `mvm create` made, and `started` once one starts.
    """

    machine: str
    name: str
    image: str
    plan: Digest
    policy: Digest
    manifest: Digest
    provenance: Digest
    state: MachineState
    created: datetime
    acceleration: str = ""
    reason: EndReason | None = None
    exit_code: int | None = None
    labels: Labels = field(default_factory=lambda: NO_LABELS)
    origin: MachineSource | None = None
    started: datetime | None = None

    @property
    def waits(self) -> bool:
        """Whether it is one of `mvm create` that was not started yet."""
        return self.state is MachineState.CREATED and self.origin is not None

    @property
    def began(self) -> datetime:
        """When it was started, as its records have it."""
        return self.started or self.created

    def __post_init__(self) -> None:
        if not is_id(self.machine):
            raise ValueError(f"not a machine's id: {self.machine!r}")
        if self.name and (not _NAME.fullmatch(self.name) or is_id(self.name)):
            rule = "1 to 63 letters, digits and _.- without a leading sign, and not of the form of an id"
            raise ValueError(f"not a machine's name: {self.name!r} ({rule})")

    def to_bytes(self) -> bytes:
        """The file's bytes, in canonical JSON."""
        members: dict[str, object] = {
            "machine": self.machine,
            "name": self.name,
            "image": self.image,
            "plan": self.plan.hex,
            "policy": self.policy.hex,
            "manifest": self.manifest.hex,
            "provenance": self.provenance.hex,
            "state": self.state.value,
            "created": show_time(self.created),
            "acceleration": self.acceleration,
        }
        if self.reason is not None:
            members["reason"] = self.reason.value
        if self.exit_code is not None:
            members["exitCode"] = self.exit_code
        if self.labels:
            members["labels"] = dict(self.labels)
        if self.origin is not None:
            members["origin"] = {"image": self.origin.image, "summary": self.origin.summary}
        if self.started is not None:
            members["started"] = show_time(self.started)
        return canonical(members)

    @staticmethod
    def parse(data: bytes) -> "MachineStatus":
        """The status in these bytes. Raises MalformedError, a ValueError."""

        def parse(record: Record) -> "MachineStatus":
            return MachineStatus(
                machine=record.text("machine"),
                name=record.text("name"),
                image=record.text("image"),
                plan=record.digest("plan"),
                policy=record.digest("policy"),
                manifest=record.digest("manifest"),
                provenance=record.digest("provenance"),
                state=record.choice("state", MachineState),
                created=record.parsed("created", parse_time, _EPOCH),
                acceleration=record.text("acceleration"),
                reason=record.choice("reason", EndReason) if record.has("reason") else None,
                exit_code=record.integer("exitCode", 0, 255) if record.has("exitCode") else None,
                labels=record.child("labels", labels.read) if record.has("labels") else NO_LABELS,
                origin=record.child("origin", _origin) if record.has("origin") else None,
                started=record.parsed("started", parse_time, _EPOCH) if record.has("started") else None,
            )

        return read(parse_json(data), "status", parse)


def _origin(record: Record) -> MachineSource:
    return MachineSource(record.text("image", limit=4096), record.text("summary", limit=4096))
