"""Reads and writes what `nix-store --export` writes: store paths with their archives; pure, no I/O.

nix: libstore/export-import.cc. For each path the number 1, its archive, a magic number, the path, how many paths it
refers to and these, its deriver, and the number 0; at the end a 0. What a path refers to is what the exporting side
says, and counts only where something else follows from it; its deriver counts for nothing.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from mvmnix.formats import nar
from mvmnix.formats.strict import MalformedError
from mvmnix.model import StorePath

_MAGIC: Final = b"NIXE\0\0\0\0"
_END: Final = bytes(8)
_MORE: Final = (1).to_bytes(8, "little")


@dataclass(frozen=True, slots=True)
class Exported[T]:
    """One path, what it is said to be, and what it is said to refer to."""

    path: StorePath
    content: T
    references: tuple[StorePath, ...]


def read_files(export: bytes) -> Iterator[Exported[bytes]]:
    """Read paths that are plain files, with their bytes. Raises MalformedError for anything else."""
    reader = nar.Reader(export)
    return _read(reader, reader.plain_file)


def read_archives(export: memoryview) -> Iterator[Exported[memoryview]]:
    """Read paths with their archives, which are parts of the export. Raises MalformedError for anything else."""
    reader = nar.Reader(export)
    return _read(reader, reader.archive)


def _read[T](reader: nar.Reader, content: Callable[[], T]) -> Iterator[Exported[T]]:
    while (more := reader.number()) == 1:
        found = content()
        reader.expect(_MAGIC)
        yield Exported(_path(reader), found, tuple(_references(reader)))
    if more:
        raise MalformedError(f"it goes on with the number {more}")
    reader.expect_end()


def _references(reader: nar.Reader) -> Iterator[StorePath]:
    for _ in range(reader.number()):
        yield _path(reader)
    reader.string()
    reader.expect(_END)


def _path(reader: nar.Reader) -> StorePath:
    try:
        return StorePath.parse(reader.string().decode("ascii", "replace"))
    except ValueError as error:
        raise MalformedError(str(error)) from error


def write_files(files: Iterable[Exported[bytes]]) -> Iterator[bytes]:
    """Write paths that are plain files, in chunks, for `nix-store --import`: each stands behind what it refers to."""
    for it in files:
        yield _MORE
        yield from nar.nar_of_file(len(it.content), (it.content,))
        yield _MAGIC + nar.text(str(it.path).encode()) + len(it.references).to_bytes(8, "little")
        yield b"".join(nar.text(str(path).encode()) for path in it.references) + nar.text(b"") + _END
    yield _END
