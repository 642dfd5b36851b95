"""Takes compressed streams apart, chunk by chunk, and never into more bytes than were promised; no file."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, Protocol

from mvmnix.builder.fetch.worker.packets import PIECE_BYTES, Compression

#: An xz stream may ask for as much memory as its dictionary needs; `xz -9` takes 65 MiB.
_XZ_MEMORY: Final = 256 << 20


class BadStreamError(Exception):
    """It is no such stream, or unpacks to more than it may."""


class _Machine(Protocol):
    """What lzma and bz2 offer."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """The same of zlib."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class Expander:
    """Feed it a packed stream, get what was packed, at most `limit` bytes in all. One stream, nothing behind it."""

    def __init__(self, compression: Compression, limit: int) -> None:
        self._left = limit
        self._machine: _Machine = _MACHINES[compression]()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes out of these bytes. Raises BadStreamError when it is too much, or isn't of that kind."""
        while data or not (self._machine.needs_input or self._machine.eof):
            if self._machine.eof:
                raise BadStreamError("something follows the end of its packed stream")
            try:
                out = self._machine.decompress(data, PIECE_BYTES)
            except (OSError, ValueError, lzma.LZMAError, zlib.error, MemoryError) as error:
                raise BadStreamError(f"it can't be unpacked: {error}") from error
            data = self._machine.unused_data
            self._left -= len(out)
            if self._left < 0:
                raise BadStreamError("it unpacks to more bytes than it may")
            yield out

    def close(self) -> None:
        """The packed stream has ended. Raises BadStreamError when it is not complete."""
        if not self._machine.eof:
            raise BadStreamError("its packed stream is cut off")


_MACHINES: Final[Mapping[Compression, Callable[[], _Machine]]] = {
    Compression.XZ: partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
    Compression.BZIP2: bz2.BZ2Decompressor,
    Compression.GZIP: _Gzip,
}
