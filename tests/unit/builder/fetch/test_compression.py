"""Packed streams, whole, cut off, followed by something, and bombs."""

import bz2
import gzip
import lzma
import tracemalloc
from collections.abc import Callable

import pytest

from mvmnix.builder.fetch.compression import Compression, Expander, expand
from mvmnix.strict import MalformedError

DATA = bytes(range(256)) * 1000
PACK: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.XZ: lzma.compress,
    Compression.BZIP2: bz2.compress,
    Compression.GZIP: gzip.compress,
    Compression.NONE: bytes,
}
PACKED = [kind for kind in Compression if kind is not Compression.NONE]


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def unpacked(kind: Compression, data: bytes, limit: int, size: int = 1000) -> bytes:
    return b"".join(expand(kind, pieces(data, size), limit))


@pytest.mark.parametrize("kind", Compression)
@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_what_was_packed_comes_out(kind: Compression, size: int) -> None:
    assert unpacked(kind, PACK[kind](DATA), len(DATA), size) == DATA


@pytest.mark.parametrize("kind", Compression)
def test_no_more_than_promised(kind: Compression) -> None:
    with pytest.raises(MalformedError, match="more bytes than it may"):
        unpacked(kind, PACK[kind](DATA), len(DATA) - 1)


@pytest.mark.parametrize("kind", PACKED)
def test_a_stream_that_is_cut_off(kind: Compression) -> None:
    with pytest.raises(MalformedError, match="cut off"):
        unpacked(kind, PACK[kind](DATA)[:-4], len(DATA))


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_stream_with_something_behind_it(kind: Compression, size: int) -> None:
    with pytest.raises(MalformedError, match="follows the end"):
        unpacked(kind, PACK[kind](DATA) * 2, 2 * len(DATA), size)


@pytest.mark.parametrize("kind", PACKED)
def test_a_stream_of_another_kind(kind: Compression) -> None:
    with pytest.raises(MalformedError, match="can't be unpacked"):
        unpacked(kind, DATA, len(DATA))


@pytest.mark.parametrize("kind", PACKED)
def test_a_bomb_takes_little_memory(kind: Compression) -> None:
    bomb = PACK[kind](bytes(64 << 20))
    expander = Expander(kind, 1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedError, match="more bytes than it may"):
            for _ in expander.feed(bomb):
                pass
        assert tracemalloc.get_traced_memory()[1] < 16 << 20  # of 64; xz keeps 8 to look back at
    finally:
        tracemalloc.stop()
