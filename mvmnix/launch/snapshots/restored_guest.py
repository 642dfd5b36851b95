"""A guest as a machine begins that goes on from a snapshot."""

import os
from dataclasses import dataclass

from mvmnix.digest import Digest
from mvmnix.launch.agent.frames import Hello
from mvmnix.launch.agent.requests import GuestConfig


@dataclass(frozen=True, slots=True)
class SnapshotOrigin:
    """The snapshot that it is of: its id, and the digest of the signed statement."""

    id: str
    statement: Digest


@dataclass(frozen=True, slots=True)
class RestoredGuest:
    """What is known of it, but for its memory, which is the machine's.

    `state` is a descriptor, for reading, of the state of its devices. `hello` is what its agent said when it booted,
    and `config` what it was told then, without secrets.
    """

    origin: SnapshotOrigin
    state: int
    hello: Hello
    config: GuestConfig

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.state)
