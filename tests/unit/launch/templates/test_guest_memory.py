"""A guest's memory in memfds: what its digest is over, and that what is sealed is what was kept, for good."""

import errno
import fcntl
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from mvmnix.digest import Digest
from mvmnix.launch.templates import guest_memory
from mvmnix.launch.templates.guest_memory import BLOCK, blocks, digest, pack, sealed_copy, unpack
from mvmnix.launch.templates.sealed_stream import PlainStream
from mvmnix.system import store
from tests.descriptors import nothing_left_open

SIZE = 8 * BLOCK
PIECES = ((BLOCK, b"\1" * BLOCK), (5 * BLOCK, bytes(BLOCK - 1) + b"\2"))
NAME = "of-a-test"


@contextmanager
def memory(*written: tuple[int, bytes], size: int = SIZE) -> Iterator[int]:
    """A memfd in which this was written."""
    fd = guest_memory.make_shared(size, NAME)
    try:
        for offset, data in written:
            os.pwrite(fd, data, offset)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def copied(pieces: Sequence[tuple[int, bytes]] = PIECES, size: int = SIZE) -> Iterator[int]:
    fd = sealed_copy(pieces, size, digest(pieces), NAME)
    try:
        yield fd
    finally:
        os.close(fd)


def test_a_hypervisor_under_any_uid_may_write_what_it_is_saved_to() -> None:
    with memory() as fd:
        status = os.fstat(fd)
        assert (status.st_size, status.st_mode & 0o777) == (SIZE, 0o666)


def test_blocks_that_hold_nothing_are_left_out_be_they_holes_or_zeros() -> None:
    with memory(*PIECES) as holes, memory((0, bytes(SIZE)), *PIECES) as zeros:
        assert os.fstat(holes).st_blocks < os.fstat(zeros).st_blocks, "one of them has holes"
        assert tuple(blocks(holes)) == tuple(blocks(zeros)) == PIECES
        assert digest(blocks(holes)) == digest(blocks(zeros)) == digest(PIECES)


def test_a_byte_in_the_midst_of_a_block_brings_the_whole_block() -> None:
    with memory((3 * BLOCK + 4097, b"\7")) as fd:
        assert tuple(blocks(fd)) == ((3 * BLOCK, bytes(4097) + b"\7" + bytes(BLOCK - 4098)),)


def test_memory_without_anything_in_it() -> None:
    with memory() as fd:
        assert tuple(blocks(fd)) == ()


def test_the_last_block_may_be_a_part_of_one() -> None:
    size = BLOCK + 100
    with memory((BLOCK, b"\3" * 100), size=size) as fd:
        pieces = tuple(blocks(fd))
        assert pieces == ((BLOCK, b"\3" * 100),)
    with copied(pieces, size) as fd:
        assert (os.fstat(fd).st_size, tuple(blocks(fd))) == (size, pieces)


@pytest.mark.parametrize(
    "others",
    [(), PIECES[:1], ((0, PIECES[0][1]), PIECES[1]), (PIECES[0], (5 * BLOCK, b"\2" * BLOCK))],
    ids=["nothing", "one less", "elsewhere", "other bytes"],
)
def test_the_digest_is_over_where_and_what(others: Sequence[tuple[int, bytes]]) -> None:
    assert digest(others) != digest(PIECES)


def test_what_is_sealed_has_all_seals_and_may_be_read_by_any_uid() -> None:
    with copied() as fd:
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == seals
        assert os.fstat(fd).st_mode & 0o777 == 0o444
        assert store.is_sealed(fd)
        assert tuple(blocks(fd)) == PIECES


def _write(fd: int) -> None:
    os.pwrite(fd, b"\7", 0)


def _map(fd: int) -> None:
    mmap.mmap(fd, SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE).close()


def _punch(fd: int) -> None:
    os.posix_fallocate(fd, 0, SIZE + 1)


@pytest.mark.parametrize(
    "change",
    [_write, _map, _punch, lambda fd: os.ftruncate(fd, SIZE - 1), lambda fd: os.ftruncate(fd, SIZE + 1)],
    ids=["write", "map", "allocate", "shrink", "grow"],
)
def test_nothing_changes_what_is_sealed_not_even_who_opens_it_for_writing(change: Callable[[int], None]) -> None:
    with copied() as fd:
        os.fchmod(fd, 0o600)  # its owner can, and it doesn't help
        again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
        try:
            with pytest.raises(PermissionError):
                change(again)
            with pytest.raises(PermissionError):
                change(fd)
        finally:
            os.close(again)
        assert tuple(blocks(fd)) == PIECES


@pytest.mark.parametrize(
    ("pieces", "size"),
    [
        (PIECES[:1], SIZE),
        ((*PIECES, (0, b"\1")), SIZE),
        ((PIECES[0], (6 * BLOCK, PIECES[1][1])), SIZE),
        ((*PIECES, (SIZE, b"\1")), SIZE),
        ((*PIECES, (SIZE + BLOCK, b"\1")), SIZE),
    ],
    ids=["one less", "one more", "elsewhere", "at its end", "beyond it"],
)
def test_what_is_not_what_was_kept(pieces: Sequence[tuple[int, bytes]], size: int) -> None:
    with nothing_left_open(), pytest.raises(ValueError, match="the memory is not what was kept"):
        sealed_copy(pieces, size, digest(PIECES), NAME)


def test_what_is_written_meanwhile_is_found_out_since_what_is_sealed_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = store.seal

    def seal(fd: int) -> None:
        os.pwrite(fd, b"\7", 0)  # as another process of the user's could, up to here
        real(fd)

    monkeypatch.setattr(store, "seal", seal)
    with nothing_left_open(), pytest.raises(ValueError, match="the memory is not what was kept"):
        sealed_copy(PIECES, SIZE, digest(PIECES), NAME)


def test_memory_that_another_process_could_still_write_is_not_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mapping for writing holds for ever: the kernel seals no memory that has one."""
    held, real = list[mmap.mmap](), os.ftruncate

    def truncate(fd: int, size: int) -> None:
        real(fd, size)
        held.append(mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE))

    monkeypatch.setattr(os, "ftruncate", truncate)
    monkeypatch.setattr(store, "_TRIES", 1)
    try:
        with pytest.raises(OSError) as caught:
            sealed_copy(PIECES, SIZE, digest(PIECES), NAME)
    finally:
        held[0].close()
    assert caught.value.errno == errno.EBUSY


def test_what_is_sealed_memory_and_what_is_not() -> None:
    read, write = os.pipe()
    try:
        assert not store.is_sealed(read)
    finally:
        os.close(read)
        os.close(write)
    with memory() as fd:
        assert not store.is_sealed(fd)
    partly = os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(partly, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    try:
        assert not store.is_sealed(partly), "more seals could be added"
    finally:
        os.close(partly)


def test_what_was_packed_is_unpacked_and_has_the_digest_of_its_blocks() -> None:
    packed = b"".join(pack(PIECES))
    assert Digest.of(packed) == digest(PIECES)
    assert tuple(unpack(PlainStream([packed[:7], packed[7:]]), SIZE)) == PIECES


@pytest.mark.parametrize(
    "packed",
    [
        bytes(7),
        bytes(8) + bytes(BLOCK - 1),
        SIZE.to_bytes(8, "big") + bytes(BLOCK),
        (2**64 - BLOCK).to_bytes(8, "big") + bytes(BLOCK),
        (1).to_bytes(8, "big") + bytes(BLOCK),
    ],
)
def test_a_block_that_is_cut_off_or_elsewhere(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"ends too early|not within the memory"):
        tuple(unpack(PlainStream([packed]), SIZE))
