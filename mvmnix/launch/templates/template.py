"""A template as machines start from it, and where those that were opened are held."""

import os
from dataclasses import dataclass
from typing import Final, Protocol, override

from mvmnix.digest import Digest
from mvmnix.launch.templates.record import TemplateRecord


@dataclass(frozen=True, slots=True)
class Template:
    """A template that a machine starts from: two sealed memfds, which any process may read and none can change.

    `state` is a descriptor for this machine alone: its reader moves the position in it. `salt` is that of the file
    from which it was opened, which no other one has.
    """

    record: TemplateRecord
    memory: int
    state: int
    salt: bytes

    def close(self) -> None:
        """Close both."""
        os.close(self.memory)
        os.close(self.state)


class Held(Protocol):
    """Templates that were opened before, by the digests of their keys."""

    def take(self, key: Digest) -> Template | None:
        """Return it with descriptors of the caller's own; None where it isn't held."""

    def give(self, template: Template) -> None:
        """Hold it; the descriptors stay the caller's."""

    def drop(self, key: Digest) -> None:
        """Let go of one, wherever it is held: it is of no use any more."""

    def close(self) -> None:
        """Let go of all, in this process."""


class NothingHeld(Held):
    """Where no process outlives this one."""

    @override
    def take(self, key: Digest) -> None:
        """Return None."""

    @override
    def give(self, template: Template) -> None:
        """Do nothing."""

    @override
    def drop(self, key: Digest) -> None:
        """Do nothing."""

    @override
    def close(self) -> None:
        """Do nothing."""


NOTHING_HELD: Final[Held] = NothingHeld()
