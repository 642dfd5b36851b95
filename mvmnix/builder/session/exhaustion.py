"""Tells a full disk and a want of memory from a failed build, by what the builder VM's kernel says of them; pure.

The guest isn't trusted for more than this: which of three hints its user gets.
"""

import re
from dataclasses import dataclass
from typing import Final

from mvmnix.builder.session.build_errors import last_lines
from mvmnix.errors import MvmnixError
from mvmnix.plural import counted

#: Less room than this is none: KiB; files. Nix tidies up before it says that a build failed, and frees some of both.
_LITTLE: Final = (1024, 1024)
#: The last line of a Nix that had no room itself: it tidies up all then. What a builder says never comes last.
_STUCK: Final = re.compile(r"(?:.*\n)?error: [^\n]*: No space left on device", re.DOTALL)
_MORE_ROOM: Final = "give it more: mvm build --disk MIB"


@dataclass(frozen=True, slots=True)
class Pressure:
    """Room left for the build, in KiB and in files, None where that isn't counted; processes killed for memory."""

    room_kib: int | None
    files: int | None
    killed: int


def read(said: bytes) -> Pressure:
    """What `nix.pressure()` printed: two tables of df(1) in POSIX form, and lines of /proc/vmstat."""
    rooms = re.findall(rb"^\S+ +([0-9]+) +[0-9]+ +([0-9]+) +[0-9-]+%? ", said, re.MULTILINE)
    killed = re.search(rb"^oom_kill ([0-9]{1,18})$", said, re.MULTILINE)
    left = [int(room[:18]) if int(total[:18]) else None for total, room in rooms[:2]]
    left += [None] * (2 - len(left))
    return Pressure(left[0], left[1], int(killed[1]) if killed else 0)


def failure(it: Pressure, where: str, log: str) -> MvmnixError | None:
    """Why a build failed, if it was for want of room or memory; None otherwise."""
    words = f"its last words:\n{last_lines(log)}"
    if it.killed:
        why = f"the builder VM ran out of memory, and its kernel killed {counted(it.killed, 'process', 'processes')}"
        return MvmnixError(f"{where}: {why}; {words}", hint="give it more: mvm build --memory MIB")
    for left, little, what in ((it.room_kib, _LITTLE[0], "KiB"), (it.files, _LITTLE[1], "files")):
        if left is not None and left < little:
            why = f"the builder VM's disk is full: there is room for {left} {what}"
            return MvmnixError(f"{where}: {why}; {words}", hint=_MORE_ROOM)
    if _STUCK.fullmatch(log.rstrip()):
        return MvmnixError(f"{where}: the builder VM's disk is full, and Nix gave up; {words}", hint=_MORE_ROOM)
    return None
