"""Audit paths and consistency paths of RFC 6962, sections 2.1.1 and 2.1.2: how they are made, and checked; pure.

Checking follows RFC 9162, sections 2.1.3.2 and 2.1.4.2, which spell the algorithms out for the same paths.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from mvmnix.audit.merkle import CompactRange, node_hash
from mvmnix.plural import counted

#: A tree of 2^63 leaves has paths of so many hashes; a consistency path may have one more.
LONGEST: Final = 64


class PathError(ValueError):
    """A path does not prove what it should."""


def inclusion_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """PATH(m, D[n]): from the leaf to the root, the subtree beside it; `leaves` are hashes. Raises IndexError."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"there is no record {index}, but {counted(len(leaves), 'record')}")
    if len(leaves) == 1:
        return ()
    half = _half(len(leaves))
    if index < half:
        return (*inclusion_path(leaves[:half], index), _root(leaves[half:]))
    return (*inclusion_path(leaves[half:], index - half), _root(leaves[:half]))


def consistency_path(leaves: Sequence[bytes], old: int) -> tuple[bytes, ...]:
    """PROOF(m, D[n]) for the tree of the first `old` leaves. Raises IndexError for a larger one.

    Of no or of all leaves there is nothing to prove: the path is empty.
    """
    if not 0 <= old <= len(leaves):
        raise IndexError(f"there never was a log of {counted(old, 'record')}, but of {len(leaves)} at most")
    return _subproof(leaves, old, whole=True) if old else ()


def root_by_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root of a tree of `size` leaves in which this leaf has this path. Raises PathError for a wrong length."""
    if not 0 <= index < size:
        raise PathError(f"record {index} is not in a tree of {size}")
    root = leaf
    for beside, is_left in _climb(path, index, size - 1):
        root = node_hash(beside, root) if is_left else node_hash(root, beside)
    return root


def roots_by_consistency(old: int, old_root: bytes, size: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The roots of `old` leaves and of `size` that this path connects, to be compared. Raises PathError."""
    if not 0 < old <= size:
        raise PathError(f"a tree of {size} does not go on from one of {old}")
    if old == size:
        if path:
            raise PathError("the path is too long")
        return old_root, old_root
    hashes = [old_root, *path] if old.bit_count() == 1 else list(path)
    if not hashes:
        raise PathError("the path is too short")
    position, last = old - 1, size - 1
    while position % 2:
        position, last = position >> 1, last >> 1
    older = newer = hashes[0]
    for beside, is_left in _climb(hashes[1:], position, last):
        if is_left:
            older = node_hash(beside, older)
        newer = node_hash(beside, newer) if is_left else node_hash(newer, beside)
    return older, newer


def _climb(path: Sequence[bytes], position: int, last: int) -> Iterator[tuple[bytes, bool]]:
    """From a node to the root: the hash beside it at each level, and whether it stands on the left. Raises PathError.

    `position` counts the nodes of the level from 0 on, `last` is the last one's: where that has no brother, its level
    is passed over.
    """
    for beside in path:
        if last == 0:
            raise PathError("the path is too long")
        is_left = bool(position % 2) or position == last
        yield beside, is_left
        while is_left and position % 2 == 0 and position:
            position, last = position >> 1, last >> 1
        position, last = position >> 1, last >> 1
    if last:
        raise PathError("the path is too short")


def _subproof(leaves: Sequence[bytes], old: int, *, whole: bool) -> tuple[bytes, ...]:
    """SUBPROOF(m, D[n], b); `whole` says that the subtree of the old leaves is a tree that the checker knows."""
    if old == len(leaves):
        return () if whole else (_root(leaves),)
    half = _half(len(leaves))
    if old <= half:
        return (*_subproof(leaves[:half], old, whole=whole), _root(leaves[half:]))
    return (*_subproof(leaves[half:], old - half, whole=False), _root(leaves[:half]))


def _half(count: int) -> int:
    """The largest power of two below a number above 1."""
    return int(1 << (count - 1).bit_length() - 1)


def _root(leaves: Sequence[bytes]) -> bytes:
    return CompactRange().extend_hashed(leaves).root()
