"""Reads and computes dm-verity hash trees: on-disk format 1, SHA-256, salt first, blocks of 4,096 bytes.

The format is the kernel's (Documentation/admin-guide/device-mapper/verity.rst) and that of cryptsetup's `veritysetup`
(docs of the superblock: cryptsetup wiki, "DMVerity"): data, then one block with the superblock, then the tree, its
highest level first. Each level is the digests of the blocks below, 128 to a block, the last block padded with zeros.
An image with one data block has no level at all: its root is that block's digest. Every function reads the descriptor
it is handed by offset and changes neither the file nor the descriptor's position.
"""

import hashlib
import os
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import batched
from typing import Final

from mvmnix.digest import Digest
from mvmnix.model import Verity

BLOCK: Final = Verity.BLOCK
_SIZE: Final = hashlib.sha256().digest_size
_FAN_OUT: Final = BLOCK // _SIZE
#: What is read at once: the data under one hash block.
_CHUNK: Final = _FAN_OUT * BLOCK
#: signature, version, hash type, UUID, algorithm, data and hash block size, data blocks, salt size, salt, padding.
_SUPERBLOCK: Final = struct.Struct("<8sII16s32sIIQH6x256s168x")


@dataclass(frozen=True, slots=True)
class HashTree:
    """A computed tree: its root, and its blocks as they follow the superblock on disk."""

    root: Digest
    blocks: bytes


def superblock(verity: Verity) -> bytes:
    """The 4,096 bytes that `veritysetup format` writes for these parameters. Raises ValueError for a bad UUID."""
    packed = _SUPERBLOCK.pack(
        b"verity",
        1,
        1,
        uuid.UUID(verity.uuid).bytes,
        b"sha256",
        BLOCK,
        BLOCK,
        verity.data_blocks,
        len(verity.salt),
        verity.salt,
    )
    return packed.ljust(BLOCK, b"\0")


def levels(data_blocks: int) -> tuple[int, ...]:
    """How many hash blocks each level has, the lowest first.

    >>> levels(1), levels(128), levels(129)
    ((), (1,), (2, 1))
    """
    counts = []
    below = data_blocks
    while below > 1:
        below = -(-below // _FAN_OUT)
        counts.append(below)
    return tuple(counts)


def image_size(verity: Verity) -> int:
    """The size in bytes of data, superblock and tree together."""
    return verity.hash_offset + (1 + sum(levels(verity.data_blocks))) * BLOCK


def hash_tree(fd: int, *, data_blocks: int, salt: bytes) -> HashTree:
    """Compute the tree over the file's first `data_blocks` blocks; takes about 1.3 s for a gigabyte.

    Raises ValueError when the file is shorter.
    """
    salted = hashlib.sha256(salt)
    digests = bytearray()
    for offset in range(0, data_blocks * BLOCK, _CHUNK):
        wanted = min(_CHUNK, data_blocks * BLOCK - offset)
        chunk = _read(fd, wanted, offset)
        if len(chunk) != wanted:
            raise ValueError(f"the file ends within its {data_blocks} data blocks")
        digests += b"".join(_digests(chunk, salted))
    stack: list[bytes] = []
    while len(digests) > _SIZE:
        level = bytes(digests).ljust(-(-len(digests) // BLOCK) * BLOCK, b"\0")
        stack.append(level)
        digests = bytearray(b"".join(_digests(level, salted)))
    return HashTree(Digest(digests.hex()), b"".join(reversed(stack)))


def size_problem(fd: int, verity: Verity) -> str | None:
    """Why the file's size does not fit these parameters; None when it does."""
    size = os.fstat(fd).st_size
    wanted = image_size(verity)
    if size != wanted:
        return f"the file has {size} bytes; {verity.data_blocks} data blocks with superblock and tree have {wanted}"
    return None


def superblock_problem(fd: int, verity: Verity) -> str | None:
    """Why the superblock on disk is not the one that these parameters make; None when it is, byte for byte."""
    found = _read(fd, BLOCK, verity.hash_offset)
    expected = superblock(verity)
    if found != expected:
        where = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), len(found))
        return (
            f"the superblock at byte {verity.hash_offset} differs from the signed parameters, first in its byte {where}"
        )
    return None


def root_problem(fd: int, verity: Verity) -> str | None:
    """Why the tree's top block does not hash to the root; None when it does. Reads one block, whatever the size."""
    offset = verity.hash_offset + BLOCK if verity.data_blocks > 1 else 0
    found = _read(fd, BLOCK, offset)
    if len(found) != BLOCK:
        return "the file ends within its top hash block"
    digest = Digest.of(verity.salt + found)
    if digest != verity.root:
        return f"the top hash block hashes to {digest.hex}, the signed root is {verity.root.hex}"
    return None


def find_corruption(fd: int, verity: Verity) -> tuple[int, ...]:
    """The numbers of all data blocks that the kernel would refuse to read (EIO), in order.

    The whole tree is walked, from the root down: where a hash block is wrong, every data block below it is lost.
    An empty result, together with a superblock that fits, means that the file is intact in every byte.
    """
    salted = hashlib.sha256(verity.salt)
    expected: list[bytes | None] = [verity.root.raw]
    offset = verity.hash_offset + BLOCK
    for count in reversed(levels(verity.data_blocks)):
        expected = [digest for block in _verified(fd, offset, count, expected, salted) for digest in _entries(block)]
        offset += count * BLOCK
    good = _verified(fd, 0, verity.data_blocks, expected, salted)
    return tuple(number for number, block in enumerate(good) if block is None)


def _verified(
    fd: int, offset: int, count: int, expected: list[bytes | None], salted: "hashlib._Hash"
) -> Iterator[memoryview | None]:
    """The blocks from `offset` on, None in place of each that does not hash to what is expected of it."""
    for numbers in batched(range(count), _FAN_OUT, strict=False):
        chunk = memoryview(_read(fd, len(numbers) * BLOCK, offset + numbers[0] * BLOCK))
        for index, number in enumerate(numbers):
            block = chunk[index * BLOCK : (index + 1) * BLOCK]
            # where the file ends within a block, no digest of the rest counts: the kernel reads whole ones
            yield block if len(block) == BLOCK and _digest(block, salted) == expected[number] else None


def _entries(block: memoryview | None) -> list[bytes | None]:
    if block is None:
        return [None] * _FAN_OUT
    return [bytes(block[start : start + _SIZE]) for start in range(0, BLOCK, _SIZE)]


def _digests(blocks: bytes | memoryview, salted: "hashlib._Hash") -> Iterator[bytes]:
    view = memoryview(blocks)
    for start in range(0, len(view), BLOCK):
        yield _digest(view[start : start + BLOCK], salted)


def _digest(block: memoryview, salted: "hashlib._Hash") -> bytes:
    state = salted.copy()
    state.update(block)
    return state.digest()


def _read(fd: int, size: int, offset: int) -> bytes:
    """Up to `size` bytes; fewer at the end of the file only."""
    parts = []
    while part := os.pread(fd, size, offset):
        parts.append(part)
        size -= len(part)
        offset += len(part)
    return b"".join(parts)
