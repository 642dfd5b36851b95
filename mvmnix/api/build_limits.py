"""What a build may use; a module of its own, for callers that start no builder VM, whose launcher imports much."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class BuildLimits:
    """What a build may use, None where it is what the image says: processors, MiB of memory and disk, seconds."""

    vcpus: int | None = None
    memory_mib: int | None = None
    scratch_mib: int | None = None
    seconds: int | None = None


#: A build that says nothing of its time gets a day.
AS_THE_IMAGE_SAYS: Final = BuildLimits()
