"""A guest's memory in memfds: the one that a template leaves behind, and the sealed copy that machines start from.

Two memfds, never one. What the template's hypervisor mapped, another user's process may have mapped writable, too: so
it is read once and closed. The copy was writable in this process alone until it was sealed, and what is sealed is
hashed afterwards (memfd_create(2), fcntl(2) F_ADD_SEALS).
"""

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Final

from mvmnix.digest import Digest
from mvmnix.launch.templates.sealed_stream import PlainStream
from mvmnix.system import store
from mvmnix.system.descriptors import reopen

#: Bytes of the pieces in which memory is kept; those that hold nothing but zeros are left out.
BLOCK: Final = 65536
_ZEROS: Final = bytes(BLOCK)
#: Blocks of zeros that one step of `first_blocks` reads.
_TURN: Final = 100
#: Bytes of the offset that precedes each block in a stream.
_OFFSET: Final = 8
_ANOTHER: Final = "the memory is not what was kept"


def make_shared(size: int, name: str) -> int:
    """Return a memfd of so many zeros that a hypervisor under any uid may open and write."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        os.fchmod(fd, 0o666)
    except BaseException:
        os.close(fd)
        raise
    return fd


def placeholder_disk() -> int:
    """Return a descriptor, for reading, of memory that no process can change: a disk of zeros, which no guest reads."""
    memory = store.sealed_memory(_ZEROS, name="mvmnix-placeholder")
    try:
        return reopen(memory)
    finally:
        os.close(memory)


def sealed_state(data: bytes) -> int:
    """Return a descriptor, for reading, of the state of devices, which any uid may read and no process can change."""
    fd = store.sealed_memory(data, name="mvmnix-saved-state")
    try:
        os.fchmod(fd, 0o444)
        return reopen(fd)
    finally:
        os.close(fd)


def blocks(fd: int) -> Iterator[tuple[int, bytes]]:
    """Yield offsets and bytes of the blocks that hold anything, in order."""
    for at, data in _written_blocks(fd, os.fstat(fd).st_size):
        if data != _ZEROS[: len(data)]:
            yield at, data


def first_blocks(fd: int, size: int) -> Iterator[tuple[int, bytes]]:
    """The same of the first `size` bytes of a file that another process may write; a multiple of BLOCK.

    Of blocks of zeros that aren't holes each hundredth in a row is yielded too, so that a step ends soon whatever was
    written. Raises ValueError for a file that has become shorter.
    """
    zeros = 0
    for at, data in _written_blocks(fd, size):
        if len(data) != BLOCK:
            raise ValueError("memory or data disk was cut off")
        zeros = zeros + 1 if data == _ZEROS else 0
        if zeros % _TURN == 0:
            yield at, data
    if os.fstat(fd).st_size < size:
        raise ValueError("memory or data disk was cut off")


def _written_blocks(fd: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield offsets and bytes of all blocks that are no holes, in order."""
    at = 0
    while (at := _next_data(fd, at, size)) < size:
        yield at, os.pread(fd, BLOCK, at)
        at += BLOCK


def _next_data(fd: int, at: int, size: int) -> int:
    """Return where the first block from `at` on begins that is not a hole; `size` without one."""
    try:
        return os.lseek(fd, at, os.SEEK_DATA) // BLOCK * BLOCK
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return size


def digest(pieces: Iterable[tuple[int, bytes]]) -> Digest:
    """SHA-256 over the offset, 8 bytes in big-endian order, and the bytes of each block of `blocks`."""
    found = hashlib.sha256()
    for offset, data in pieces:
        found.update(offset.to_bytes(_OFFSET, "big"))
        found.update(data)
    return Digest(found.hexdigest())


def pack(pieces: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """Yield blocks as a stream has them, each behind its offset: the bytes that `digest` is over."""
    return (offset.to_bytes(_OFFSET, "big") + data for offset, data in pieces)


def unpack(stream: PlainStream, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield the blocks of a memory of `size` bytes from what is left of a stream of `pack`.

    Raises ValueError for a stream that ends within a block, or has a block that isn't within the memory.
    """
    while head := stream.most(_OFFSET):
        offset = int.from_bytes(head, "big")
        if len(head) != _OFFSET or offset >= size or offset % BLOCK:
            raise ValueError("it has a block that is not within the memory")
        yield offset, stream.exactly(min(BLOCK, size - offset))


def sealed_copy(pieces: Iterable[tuple[int, bytes]], size: int, expected: Digest, name: str) -> int:
    """Return a memfd that holds these blocks, which no process can change, and any uid may read.

    Raises ValueError where what was sealed has another digest; OSError, also EBUSY where
    another process has mapped it for writing.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, size)
        for offset, data in pieces:
            os.pwrite(fd, data, offset)
        store.seal(fd)
        _must_have(fd, size)
        _must_be(digest(blocks(fd)), expected)
        os.fchmod(fd, 0o444)
    except BaseException:
        os.close(fd)
        raise
    return fd


def shared_copy(pieces: Iterable[tuple[int, bytes]], size: int, name: str) -> int:
    """Return a memfd with these blocks that a hypervisor under any uid may open and write, as that of `make_shared`.

    No other user can open it before the last block is there. Raises OSError, and what `pieces` does.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, size)
        for offset, data in pieces:
            os.pwrite(fd, data, offset)
        os.fchmod(fd, 0o666)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _must_have(fd: int, size: int) -> None:
    if os.fstat(fd).st_size != size:
        raise ValueError(_ANOTHER)


def _must_be(found: Digest, expected: Digest) -> None:
    if found != expected:
        raise ValueError(_ANOTHER)
