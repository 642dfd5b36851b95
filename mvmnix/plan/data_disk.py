"""The disk for data that a plan may give a machine, which ends with it: how large, and where in the guest; pure.

docs/reference/data-disks.md describes it. The agent makes its file system, in steps of 16 MiB (modules/agent/ext4.h).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from mvmnix.formats.strict import Record
from mvmnix.plan.backend import Backend
from mvmnix.plan.share import Share, check_place, is_within

STEP_MIB: Final = 16
MOST_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class DataDisk:
    """A disk of a machine's own, at `path`, of `size_mib` with its file system's own part. Raises ValueError."""

    size_mib: int
    path: str

    def __post_init__(self) -> None:
        if not STEP_MIB <= self.size_mib <= MOST_MIB or self.size_mib % STEP_MIB:
            why = f"a multiple of {STEP_MIB}, up to {MOST_MIB}, not {self.size_mib}"
            raise ValueError(f"the MiB of a data disk are {why}")
        check_place(self.path)

    def shown(self) -> Mapping[str, object]:
        """As it stands in a plan's predicate."""
        return {"sizeMiB": self.size_mib, "path": self.path}

    @classmethod
    def read(cls, record: Record) -> Self:
        """The field `data` of a plan's predicate. Raises ValueError."""
        return cls(record.integer("sizeMiB", STEP_MIB, MOST_MIB), record.text("path"))


def check(disk: DataDisk | None, shares: Sequence[Share], backend: Backend) -> None:
    """Raises ValueError for a backend that has none, and where disk and share would lie over one another."""
    if disk is None:
        return
    if backend is not Backend.QEMU:
        raise ValueError(f"with the backend {backend} there is no data disk in this version")
    for share in shares:
        if is_within(share.guest, disk.path) or is_within(disk.path, share.guest):
            raise ValueError(f"the data disk and a share lie over one another: {disk.path} and {share.guest}")
