"""What CONFIG says of shares: the bytes of that list, both ways; no I/O."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mvmnix.launch.agent.encoding import ChannelProtocolError, Reader, Writer
from mvmnix.plan.share import MOST_SHARES, ShareKind

_TAG: Final = re.compile(r"[a-z0-9]{1,16}")
_LONGEST: Final = 4096
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


def read(reader: Reader) -> tuple[Mount, ...]:
    """Take the list apart. Raises ChannelProtocolError."""
    count = reader.number("I")
    if not 1 <= count <= MOST_SHARES:
        raise ChannelProtocolError(f"{count} shares")
    return tuple(_mount(reader) for _ in range(count))


def _mount(reader: Reader) -> Mount:
    tag, place, number, read_only = reader.string(16), reader.string(_LONGEST), reader.number("B"), reader.number("B")
    kind = next((kind for kind, known in _NUMBERS.items() if known == number), None)
    if kind is None or read_only > 1:
        raise ChannelProtocolError(f"a share of a kind that is not known: {number}, {read_only}")
    try:
        return Mount(tag, place, kind, bool(read_only))
    except ValueError as error:
        raise ChannelProtocolError(str(error)) from error
