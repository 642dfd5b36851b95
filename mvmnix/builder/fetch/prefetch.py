"""Turns a downloaded archive into the NAR that fetchzip would make of it, in the sandbox; nothing reads it outside.

Nix unpacks it onto a disk, as fetchzip does (nix-prefetch-url(1), `--unpack`): where the archive holds one directory
and nothing beside it, that directory's contents. Trees of locks go another way (jailed.py), as they do in Nix.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final

from mvmnix.builder import helpers
from mvmnix.sandbox.helper import WORK, Bounds, Sandbox

_ARCHIVE: Final = "/archive"
_SCRIPT: Final = """
nix-prefetch-url --unpack --print-path --name source "file://$1" >printed
exec nix-store --dump "$2/store$(tail -n 1 printed)"
"""
#: One at a time: a tree lies in memory while it is unpacked.
_ONE: Final = threading.Lock()


@contextmanager
def prefetched(archive: Path, bounds: Bounds) -> Iterator[IO[bytes]]:
    """The NAR of what is in an archive, as a file at its first byte. Raises process.ProcessError, MvmnixError."""
    with TemporaryFile(prefix="mvmnix-unpack-") as nar:
        with _ONE:
            Sandbox({_ARCHIVE: archive}, helpers.NIX, bounds=bounds).script(_SCRIPT, _ARCHIVE, WORK, output=nar)
        nar.seek(0)
        yield nar
