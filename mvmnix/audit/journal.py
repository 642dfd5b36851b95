"""Where a host writes down what happens, as a port: what is asked of an audit log; types alone."""

from typing import Protocol

from mvmnix.audit.record import Record


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
