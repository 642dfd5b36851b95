"""Takes compressed streams apart, chunk by chunk, and never into more bytes than were promised; no file."""

import bz2
import lzma
import zlib
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final, Protocol

from mvmnix.strict import MalformedError

#: Bytes that are put out at a time, whatever the ratio.
_CHUNK: Final = 1 << 20
#: An xz stream may ask for as much memory as its dictionary needs; `xz -9` takes 65 MiB.
_XZ_MEMORY: Final = 256 << 20


class Compression(StrEnum):
    """How a binary cache packs an archive (narinfo field Compression); others are refused by name."""

    NONE = "none"
    XZ = "xz"
    BZIP2 = "bzip2"
    GZIP = "gzip"


class _Machine(Protocol):
    """What lzma and bz2 offer."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


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

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class Expander:
    """Feed it a packed stream, get what was packed, at most `limit` bytes in all. One stream, nothing behind it."""

    def __init__(self, compression: Compression, limit: int) -> None:
        self._left = limit
        self._machine = _machine(compression)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes out of these bytes. Raises MalformedError when it is too much, or isn't of that kind."""
        if self._machine is None:
            yield self._counted(data)
            return
        while data or not (self._machine.needs_input or self._machine.eof):
            if self._machine.eof:
                raise MalformedError("something follows the end of its packed stream")
            try:
                out = self._machine.decompress(data, _CHUNK)
            except (OSError, ValueError, lzma.LZMAError, zlib.error, MemoryError) as error:
                raise MalformedError(f"it can't be unpacked: {error}") from error
            data = self._machine.unused_data
            yield self._counted(out)

    def close(self) -> None:
        """The packed stream has ended. Raises MalformedError when it is not complete."""
        if self._machine is not None and not self._machine.eof:
            raise MalformedError("its packed stream is cut off")

    def _counted(self, out: bytes) -> bytes:
        self._left -= len(out)
        if self._left < 0:
            raise MalformedError("it unpacks to more bytes than it may")
        return out


def expand(compression: Compression, chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """All that was packed into these chunks; raises as Expander does."""
    expander = Expander(compression, limit)
    for chunk in chunks:
        yield from expander.feed(chunk)
    expander.close()


def _machine(compression: Compression) -> _Machine | None:
    match compression:
        case Compression.NONE:
            return None
        case Compression.XZ:
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        case Compression.BZIP2:
            return bz2.BZ2Decompressor()
        case Compression.GZIP:
            return _Gzip()
