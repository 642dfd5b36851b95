"""Finds what a host's audit log had recorded and that lies outside it: nonces that were spent, and receipts.

Where there are any, there was a log, since a start is recorded as soon as its nonce is kept, and before a receipt is.
"""

from dataclasses import dataclass
from typing import Final, Self

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError
from mvmnix.formats import strict
from mvmnix.launch.gate.nonces import Nonces
from mvmnix.machines.machine_dir import RECEIPT, machine_ids, read_kept
from mvmnix.plural import counted
from mvmnix.system.private_dirs import Directory

#: The names in the state directory.
MACHINES: Final = "machines"
REPLAY: Final = "replay"


@dataclass(frozen=True, slots=True)
class LogTraces:
    """The digests of the nonces and of the receipts that are kept, in order."""

    nonces: tuple[Digest, ...]
    receipts: tuple[Digest, ...]

    @classmethod
    def of(cls, state: Directory) -> Self:
        """Those in a state directory. Raises OSError, RefusedError [state-permissions] for the rooms."""
        return cls(_nonces(state), _receipts(state))

    @property
    def said(self) -> str:
        """How many there are, for a message; empty where there are none."""
        counts = (
            (len(self.nonces), "nonce that was spent", "nonces that were spent"),
            (len(self.receipts), "receipt of a machine", "receipts of machines"),
        )
        return " and ".join(counted(number, one, many) for number, one, many in counts if number)

    @property
    def digests(self) -> dict[str, Digest]:
        """As a record holds them: the digest of each list, in canonical JSON."""
        lists = {"nonces": self.nonces, "receipts": self.receipts}
        return {name: Digest.of(strict.canonical([each.hex for each in found])) for name, found in lists.items()}


def _nonces(state: Directory) -> tuple[Digest, ...]:
    if not state.exists(REPLAY):
        return ()
    with state.existing(REPLAY) as replay:
        return tuple(Nonces(replay).every())


def _receipts(state: Directory) -> tuple[Digest, ...]:
    if not state.exists(MACHINES):
        return ()
    with state.existing(MACHINES) as machines:
        kept = filter(None, (_receipt(machines, machine) for machine in machine_ids(machines)))
        return tuple(sorted(map(Digest.of, kept), key=lambda each: each.hex))


def _receipt(machines: Directory, machine: str) -> bytes | None:
    try:
        return read_kept(machines, machine, RECEIPT)
    except (MvmnixError, OSError):
        return None  # something else lies there
