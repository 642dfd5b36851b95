"""The Merkle tree of RFC 6962, section 2.1, in the form that can be appended to without its leaves; pure.

>>> CompactRange().append(leaf_hash(b"")).root().hex()
'6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d'
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

HASH_SIZE: Final = 32


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || data): the prefix keeps a leaf from being taken for a node."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class CompactRange:
    """A tree of `size` leaves, kept as the roots of its complete subtrees, the largest (leftmost) first.

    There is one for each 1 in the binary form of `size`, so the state grows with the logarithm of the tree. Two of
    the same size and root are equal, unless SHA-256 has a collision: a caller with a signed root can check a compact
    range from an untrusted file by its root alone.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.size < 2**63 or len(self.hashes) != self.size.bit_count():
            raise ValueError(f"a tree of {self.size} leaves does not have {len(self.hashes)} complete subtrees")
        if not {*map(len, self.hashes)} <= {HASH_SIZE}:
            raise ValueError("a hash of the tree has 32 bytes")

    def append(self, leaf: bytes) -> "CompactRange":
        """The tree with one more leaf, given by its hash."""
        return self.extend_hashed((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> "CompactRange":
        """The tree with more leaves, given by their data, not their hashes."""
        return self.extend_hashed(map(leaf_hash, leaves))

    def extend_hashed(self, leaves: Iterable[bytes]) -> "CompactRange":
        """The tree with more leaves, given by their hashes."""
        size, hashes = self.size, list(self.hashes)
        for leaf in leaves:
            carry = size
            while carry & 1:  # each trailing 1 is a complete subtree as large as what we hold: they become one
                leaf = node_hash(hashes.pop(), leaf)  # noqa: PLW2901 - it grows into the subtree
                carry >>= 1
            hashes.append(leaf)
            size += 1
        return CompactRange(size, tuple(hashes))

    def root(self) -> bytes:
        """The Merkle tree hash; that of the empty tree is SHA-256 of nothing."""
        if not self.hashes:
            return hashlib.sha256(b"").digest()
        *lefts, found = self.hashes
        for left in reversed(lefts):
            found = node_hash(left, found)
        return found
