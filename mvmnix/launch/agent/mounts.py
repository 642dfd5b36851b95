"""What CONFIG says of shares: the bytes of that list; no I/O."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mvmnix.launch.agent.encoding import Writer
from mvmnix.plan.share import ShareKind

_TAG: Final = re.compile(r"[a-z0-9]{1,16}")
_NUMBERS: Final = {ShareKind.VIRTIOFS: 1, ShareKind.EROFS: 2}


@dataclass(frozen=True, slots=True)
class Mount:
    """One share as the guest's agent is told it: the device's `tag`, the place in the guest. Raises ValueError."""

    tag: str
    place: str
    kind: ShareKind
    read_only: bool

    def __post_init__(self) -> None:
        if not _TAG.fullmatch(self.tag) or not self.place.startswith("/") or len(self.place) < 2:
            raise ValueError(f"not a share's tag and place: {self.tag!r}, {self.place!r}")


def write(out: Writer, mounts: Sequence[Mount]) -> None:
    """Append the list, which isn't empty."""
    out.pack("I", len(mounts))
    for it in mounts:
        out.string(it.tag).string(it.place).pack("BB", _NUMBERS[it.kind], it.read_only)
