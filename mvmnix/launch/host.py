"""What a machine is given by its host, as one record of ports; nothing is done here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from mvmnix.audit.record import Record
from mvmnix.launch.accelerator import KvmProbe, Notice
from mvmnix.launch.hypervisor import Hypervisor
from mvmnix.launch.loop import Loop
from mvmnix.state import Directory

#: Makes a bundle of a statement's bytes, with the host's key.
type Sign = Callable[[bytes], bytes]


class Indexed(Protocol):
    """What a log says of a record that is in it."""

    @property
    def index(self) -> int:
        """The record's number, from 0 on."""


class Journal(Protocol):
    """Where starts, ends and refusals are recorded; `AuditLog` is one."""

    def append(self, record: Record) -> Indexed:
        """Put it there durably, or raise RefusedError or MvmnixError."""


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The ports of a host. `machines` holds the machines' directories; `notice` takes a line of prose for the user."""

    hypervisor: Hypervisor
    kvm: KvmProbe
    journal: Journal
    sign: Sign
    machines: Directory
    notice: Notice
    clock: Callable[[], datetime] = now
    loop: Loop = field(default_factory=Loop)
