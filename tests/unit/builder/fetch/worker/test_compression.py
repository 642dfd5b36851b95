"""Packed streams, whole, cut off, followed by something, and bombs: as the worker unpacks them, and by a lane of it."""

import bz2
import gzip
import lzma
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest

from mvmnix.builder.fetch.lanes import Lanes
from mvmnix.builder.fetch.parsing import expand
from mvmnix.builder.fetch.resumable import DownloadError
from mvmnix.builder.fetch.worker.compression import BadStreamError, Expander
from mvmnix.builder.fetch.worker.packets import Compression
from mvmnix.formats.strict import MalformedError
from tests.patience import EVENT_PATIENCE

DATA = bytes(range(256)) * 1000
PACK: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.XZ: lzma.compress,
    Compression.BZIP2: bz2.compress,
    Compression.GZIP: gzip.compress,
    Compression.NONE: bytes,
}
PACKED = [kind for kind in Compression if kind is not Compression.NONE]


@pytest.fixture(scope="module")
def lanes() -> Iterator[Lanes]:
    lanes = Lanes("", stall=EVENT_PATIENCE, idle=1)
    yield lanes
    lanes.rest()


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def unpacked(lanes: Lanes, kind: Compression, data: bytes, limit: int, size: int = 1000) -> bytes:
    return b"".join(expand(lanes, kind, pieces(data, size), limit))


@pytest.mark.parametrize("kind", Compression)
@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_what_was_packed_comes_out(lanes: Lanes, kind: Compression, size: int) -> None:
    assert unpacked(lanes, kind, PACK[kind](DATA), len(DATA), size) == DATA


@pytest.mark.parametrize("kind", Compression)
def test_no_more_than_promised(lanes: Lanes, kind: Compression) -> None:
    with pytest.raises(MalformedError, match="more bytes than it may"):
        unpacked(lanes, kind, PACK[kind](DATA), len(DATA) - 1)


@pytest.mark.parametrize("kind", PACKED)
def test_a_stream_that_is_cut_off(lanes: Lanes, kind: Compression) -> None:
    with pytest.raises(MalformedError, match="cut off"):
        unpacked(lanes, kind, PACK[kind](DATA)[:-4], len(DATA))


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_stream_with_something_behind_it(lanes: Lanes, kind: Compression, size: int) -> None:
    with pytest.raises(MalformedError, match="follows the end"):
        unpacked(lanes, kind, PACK[kind](DATA) * 2, 2 * len(DATA), size)


@pytest.mark.parametrize("kind", PACKED)
def test_a_stream_of_another_kind(lanes: Lanes, kind: Compression) -> None:
    with pytest.raises(MalformedError, match="can't be unpacked"):
        unpacked(lanes, kind, DATA, len(DATA))


@pytest.mark.parametrize("kind", PACKED)
def test_a_bomb_is_not_unpacked_to_its_end(lanes: Lanes, kind: Compression) -> None:
    with pytest.raises(MalformedError, match="more bytes than it may"):
        unpacked(lanes, kind, PACK[kind](bytes(64 << 20)), 1 << 20, 1 << 20)


def with_dictionary(size: int) -> bytes:
    """A stream whose block says that its dictionary is so large: its code in xz-file-format, 3.1 and 5.3.1."""
    data = bytearray(lzma.compress(DATA))
    end = 12 + 4 * (data[12] + 1)
    data[16] = size
    data[end - 4 : end] = zlib.crc32(data[12 : end - 4]).to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize("size", [32, 40])
def test_an_xz_stream_that_asks_for_more_memory_than_it_may(lanes: Lanes, size: int) -> None:
    """256 MiB and a little more than those, and 4 GiB."""
    with pytest.raises(MalformedError, match="Memory usage limit exceeded"):
        unpacked(lanes, Compression.XZ, with_dictionary(size), len(DATA))


def test_an_xz_stream_that_asks_for_as_much_as_it_may(lanes: Lanes) -> None:
    """192 MiB are the next smaller size that there is."""
    assert unpacked(lanes, Compression.XZ, with_dictionary(31), len(DATA)) == DATA


def test_gzip_is_gzip_with_the_largest_window(lanes: Lanes) -> None:
    far = random.Random(1).randbytes(20_000) * 2
    assert unpacked(lanes, Compression.GZIP, gzip.compress(far), len(far)) == far
    for other in (zlib.compress(far), zlib.compress(far, wbits=-15)):
        with pytest.raises(MalformedError, match="can't be unpacked"):
            unpacked(lanes, Compression.GZIP, other, len(far))


@pytest.mark.parametrize("kind", PACKED)
def test_a_bomb_takes_little_memory(kind: Compression) -> None:
    bomb = PACK[kind](bytes(64 << 20))
    expander = Expander(kind, 1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(BadStreamError, match="more bytes than it may"):
            for _ in expander.feed(bomb):
                pass
        assert tracemalloc.get_traced_memory()[1] < 16 << 20  # of 64; xz keeps 8 to look back at
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", PACKED)
def test_without_a_worker_nothing_is_taken_for_unpacked(kind: Compression) -> None:
    closed = Lanes("", stall=EVENT_PATIENCE, idle=1)
    closed.close()
    with pytest.raises(DownloadError, match="closed"):
        unpacked(closed, kind, PACK[kind](DATA), len(DATA))


def test_exactly_as_much_as_it_may() -> None:
    packed = zlib.compress(b"x" * 100, wbits=31)
    assert b"".join(Expander(Compression.GZIP, 100).feed(packed)) == b"x" * 100
    with pytest.raises(BadStreamError, match="more bytes than it may"):
        list(Expander(Compression.GZIP, 99).feed(packed))
