"""What is written about a machine into its status file, and how it is read back; no I/O."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from mvmnix.launch.ending import EndReason
from mvmnix.model import Digest
from mvmnix.strict import Record, canonical, parse_json, parse_time, read, show_time

_ID: Final = re.compile(r"[0-9a-f]{12}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class MachineState(StrEnum):
    """How far a machine came."""

    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"

    def may_become(self, state: "MachineState") -> bool:
        """Whether `state` can follow: a machine only goes forward, and from everywhere to its end.

        >>> MachineState.STARTING.may_become(MachineState.RUNNING), MachineState.ENDED.may_become(MachineState.RUNNING)
        (True, False)
        """
        order = list(MachineState)
        return order.index(state) > order.index(self)


def is_id(text: str) -> bool:
    """Whether this has the form of a machine's id: 12 lower-case hexadecimal digits."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """What the status file says.

    `name` is the user's choice, or empty. `acceleration` is empty until it is known; `reason` and `exit_code` (the
    command's, as the guest reported it) until the end. `manifest` and `provenance` are the digests of the image's
    manifest and bundle, which say what has to be kept for it; None in files that mvm wrote before it named them.
    """

    machine: str
    name: str
    image: str
    plan: Digest
    policy: Digest
    state: MachineState
    created: datetime
    acceleration: str = ""
    reason: EndReason | None = None
    exit_code: int | None = None
    manifest: Digest | None = None
    provenance: Digest | None = None

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
            "state": self.state.value,
            "created": show_time(self.created),
            "acceleration": self.acceleration,
        }
        if self.reason is not None:
            members["reason"] = self.reason.value
        if self.exit_code is not None:
            members["exitCode"] = self.exit_code
        if self.manifest is not None:
            members["manifest"] = self.manifest.hex
        if self.provenance is not None:
            members["provenance"] = self.provenance.hex
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
                state=record.choice("state", MachineState),
                created=record.parsed("created", parse_time, parse_time("1970-01-01T00:00:00Z")),
                acceleration=record.text("acceleration"),
                reason=record.choice("reason", EndReason) if record.has("reason") else None,
                exit_code=record.integer("exitCode", 0, 255) if record.has("exitCode") else None,
                manifest=record.digest("manifest") if record.has("manifest") else None,
                provenance=record.digest("provenance") if record.has("provenance") else None,
            )

        return read(parse_json(data), "status", parse)
