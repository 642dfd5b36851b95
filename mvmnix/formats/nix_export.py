"""Reads what `nix-store --export` writes of paths that are plain files; pure, no I/O.

nix: libstore/export-import.cc. For each path the number 1, its archive, a magic number, the path, how many paths it
refers to and these, its deriver, and the number 0; at the end a 0. References and deriver are whatever the exporting
side says, and are read past.
"""

from collections.abc import Iterator
from typing import Final

from mvmnix.formats import nar
from mvmnix.formats.strict import MalformedError
from mvmnix.model import StorePath

_MAGIC: Final = b"NIXE\0\0\0\0"


def read_plain_files(export: bytes) -> Iterator[tuple[StorePath, bytes]]:
    """Read paths and the bytes of the files that they are said to be. Raises MalformedError for anything else."""
    reader = nar.Reader(export)
    while (more := reader.number()) == 1:
        content = reader.plain_file()
        reader.expect(_MAGIC)
        try:
            path = StorePath.parse(reader.string().decode("ascii", "replace"))
        except ValueError as error:
            raise MalformedError(str(error)) from error
        for _ in range(reader.number()):
            reader.string()
        reader.string()
        reader.expect(bytes(8))
        yield path, content
    if more:
        raise MalformedError(f"it goes on with the number {more}")
    reader.expect_end()
