"""Tells where in which file system a file lies, whatever path and whatever mount leads to it, by the kernel's word.

A bind mount gives a directory another path, and `..` leads out of it to where it is mounted. What stays the same is the
file system and the path from that file system's own root (proc_pid_mountinfo(5), fields 3 and 4).
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mvmnix import procfs
from mvmnix.launch.plan.share import is_within

#: proc_pid_fdinfo(5): the number of the mount that an open file belongs to.
_MOUNT: Final = re.compile(rb"^mnt_id:\t([0-9]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Location:
    """`device` is the file system's number, major:minor; `path` is absolute, from the file system's own root."""

    device: str
    path: str

    def is_within(self, other: Self) -> bool:
        """Whether it is the other, or lies in it."""
        return self.device == other.device and is_within(self.path, other.path)


@dataclass(frozen=True, slots=True)
class Mount:
    """`root` is what is mounted, `point` where: an absolute path."""

    root: Location
    point: str


class Mounts:
    """What is mounted where."""

    def __init__(self, lines: Sequence[str]) -> None:
        """`lines` are those of /proc/self/mountinfo."""
        self._mounts: dict[str, Mount] = {}
        for mount in procfs.mounts(lines):
            self._mounts[mount.number] = Mount(Location(mount.device, mount.root), mount.point)

    def beneath(self, directory: str) -> Iterator[Mount]:
        """Those on something in a directory, itself left out, and what shows what lies there anyway.

        systemd makes such mounts for a unit (systemd.exec(5), ReadWritePaths).
        """
        for mount in self._mounts.values():
            if mount.point != directory and is_within(mount.point, directory) and not self._shows_the_same(mount):
                yield mount

    def _shows_the_same(self, mount: Mount) -> bool:
        """Whether what is mounted is what lies at its place in the mount that holds this place."""
        above = [
            it for it in reversed(self._mounts.values()) if it.point != mount.point and is_within(mount.point, it.point)
        ]
        holding = max(above, key=lambda it: len(it.point), default=None)
        return holding is not None and mount.root == _below(holding, mount.point)

    def of_descriptor(self, fd: int) -> Location | None:
        """Where an open file lies; None where the kernel doesn't say so, as for one of another mount namespace."""
        with suppress(OSError):
            path = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - a descriptor's
            found = _MOUNT.search(Path(f"/proc/self/fdinfo/{fd}").read_bytes())
            mount = None if found is None else self._mounts.get(found[1].decode())
            if mount is not None and is_within(path, mount.point):
                return _below(mount, path)
        return None

    def of_path(self, path: str) -> Location | None:
        """Where the file lies that a path leads to, links followed; None where there is none, or as above."""
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return self.of_descriptor(fd)
        finally:
            os.close(fd)


def _below(mount: Mount, path: str) -> Location:
    """Where a path at or beneath the point of a mount lies."""
    rest = path[len(mount.point) :].lstrip("/")
    return Location(mount.root.device, f"{mount.root.path.rstrip('/')}/{rest}".rstrip("/") or "/")
