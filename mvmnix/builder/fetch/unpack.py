"""Turns a downloaded archive into the NAR of its tree, in the jail; nothing of an archive is read outside of it.

Nix itself unpacks (nix-prefetch-url(1), `--unpack`), so that the tree is the one that fetchzip and its kin have: where
the archive holds one directory and nothing beside it, that directory's contents.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final

from mvmnix.builder.fetch.jail import WORK, Jail

_ARCHIVE: Final = "/archive"
_SCRIPT: Final = """
nix-prefetch-url --unpack --print-path --name source "file://$1" >printed
nix-store --dump "$2/store$(tail -n 1 printed)"
"""
#: One at a time: a tree lies in memory while it is unpacked.
_ONE: Final = threading.Lock()


@contextmanager
def unpacked(archive: Path, jail: Jail) -> Iterator[IO[bytes]]:
    """The NAR of what is in an archive, as a file at its first byte. Raises process.ProcessError, MvmnixError."""
    inside = Jail({_ARCHIVE: archive}, bounds=jail.bounds)
    with TemporaryFile(prefix="mvmnix-unpack-") as nar:
        with _ONE:
            inside.script(_SCRIPT, _ARCHIVE, WORK, output=nar)
        nar.seek(0)
        yield nar
