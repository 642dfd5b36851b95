"""Reads and writes what `nix-store --export` writes: store paths with their archives; pure, no I/O.

nix: libstore/export-import.cc. For each path the number 1, its archive, a magic number, the path, how many paths it
refers to and these, its deriver, and the number 0; at the end a 0. What a path refers to is what the exporting side
says, and counts only where something else follows from it; its deriver counts for nothing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from mvmnix.formats import nar
from mvmnix.formats.strict import MalformedError
from mvmnix.model import StorePath

#: References of all paths that are read at once.
MAX_REFERENCES: Final = 1 << 16
_MAGIC: Final = b"NIXE\0\0\0\0"
_END: Final = bytes(8)
_MORE: Final = (1).to_bytes(8, "little")


@dataclass(frozen=True, slots=True)
class Exported[T]:
    """One path, what it is said to be, and what it is said to refer to."""

    path: StorePath
    content: T
    references: tuple[StorePath, ...]


def read_files(export: bytes) -> Iterator[tuple[StorePath, bytes]]:
    """Read paths that are plain files, with their bytes. Raises MalformedError for anything else."""
    reader = nar.Reader(export)
    while _has_more(reader):
        content, path = reader.plain_file(), _said_path(reader)
        for _ in range(reader.number()):
            reader.string()
        _end_path(reader)
        yield path, content
    reader.expect_end()


def read_archives(exports: memoryview) -> Iterator[Exported[memoryview]]:
    """Read the paths of one export or several, with their archives, which are parts of these bytes.

    Raises MalformedError for anything else, and for more references than MAX_REFERENCES.
    """
    reader, left = nar.Reader(exports), MAX_REFERENCES
    while True:
        while _has_more(reader):
            content, path = reader.archive(), _said_path(reader)
            if (number := reader.number()) > left:
                raise MalformedError(f"its paths refer to more than {MAX_REFERENCES} others")
            left -= number
            references = tuple(_path(reader) for _ in range(number))
            _end_path(reader)
            yield Exported(path, content, references)
        if reader.is_at_end:
            return


def _has_more(reader: nar.Reader) -> bool:
    if (more := reader.number()) > 1:
        raise MalformedError(f"it goes on with the number {more}")
    return bool(more)


def _said_path(reader: nar.Reader) -> StorePath:
    reader.expect(_MAGIC)
    return _path(reader)


def _end_path(reader: nar.Reader) -> None:
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
