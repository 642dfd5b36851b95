"""What calls of a sandbox return: results of commands, events of streams, machines as they are listed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class Result[T: (bytes, str)]:
    """How a command in the guest ended, and what it printed; the guest's word, and worth what the guest is worth."""

    stdout: T
    stderr: T
    exit_code: int
    """The command's own; 128 + N for signal N."""
    duration: float
    """Seconds from the request to the answer, by this host's clock."""


@dataclass(frozen=True, slots=True)
class OutputEvent:
    """More of what a command prints."""

    stream: Literal["stdout", "stderr"]
    data: bytes


@dataclass(frozen=True, slots=True)
class ExitEvent:
    """The end of a command; nothing follows on it."""

    exit_code: int
    duration: float
    """Seconds, as in `Result`."""


#: What `box.stream` yields.
type StreamEvent = OutputEvent | ExitEvent


@dataclass(frozen=True, slots=True)
class LogPiece:
    """A piece of a machine's log, as the raw bytes that came; a guest chose them: escape them for a terminal."""

    stream: Literal["stdout", "stderr"]
    data: bytes
    missing: int = 0
    """Bytes that are not kept at this place; `data` is empty then."""


@dataclass(frozen=True, slots=True)
class MachineEnd:
    """How a machine ended: the reason by mvm's word for it, such as "stopped" or "timeout"."""

    reason: str
    exit_code: int | None
    """Of the plan's own command, where the machine ran one."""


@dataclass(frozen=True, slots=True)
class MachineInfo:
    """A machine of this user's."""

    id: str
    name: str
    image: str
    state: str
    """How it is doing: created, starting, running, paused, stopping, ended, dead, or cold: cooled, and its snapshot is
    kept, from which none has gone on."""
    labels: Mapping[str, str]
    created: datetime


@dataclass(frozen=True, slots=True)
class Template:
    """A template: a guest that was saved before it was told anything, from which machines start in place of a boot."""

    key: str
    """Digest of what it depends on: image, shape, network or none, hypervisor, this boot of the host."""
    image: str
    """The image's name."""
    vcpus: int
    memory_mib: int
    network: bool
    """Whether it is for machines with a network."""
    shares: int
    """How many read-only shares those machines have."""
    data: bool
    """Whether they have a data disk."""
    machine: str
    """Id of the machine that left it, whose receipt and records say how it came to be."""
    made: datetime
    size: int
    """Bytes of its file."""
