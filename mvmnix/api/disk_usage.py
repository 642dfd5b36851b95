"""Measures the room on the disk that this user's images, machines, logs and downloads take."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mvmnix.system.roots import Roots

#: Bytes of a block in the kernel's count of them (stat(2)).
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Room that a directory takes: of files, and bytes as allocated, files with several names once."""

    root: str
    """state, cache, config or data."""
    path: str
    files: int
    size: int


def measure_disk() -> tuple[DiskUsage, ...]:
    """Measure each directory of this user's state, cache, configuration and data; what isn't there is left out."""
    roots = Roots.from_environment(os.environ).paths
    found = [
        _measure(root, each)
        for root, path in roots.items()
        if Path(path).is_dir()
        for each in sorted(os.scandir(path), key=lambda it: it.name)
    ]
    return tuple(found)


def _measure(root: str, entry: os.DirEntry[str]) -> DiskUsage:
    sizes = dict[tuple[int, int], int]()
    for status in _walk(entry):
        sizes[status.st_dev, status.st_ino] = status.st_blocks * _BLOCK
    return DiskUsage(root, entry.path, len(sizes), sum(sizes.values()))


def _walk(entry: os.DirEntry[str]) -> Iterator[os.stat_result]:
    """Yield the status of every file below, following no link; what goes meanwhile, or is closed to us, is left out."""
    try:
        if entry.is_dir(follow_symlinks=False):
            with os.scandir(entry.path) as inner:
                for each in inner:
                    yield from _walk(each)
        else:
            yield entry.stat(follow_symlinks=False)
    except (FileNotFoundError, PermissionError):
        return
