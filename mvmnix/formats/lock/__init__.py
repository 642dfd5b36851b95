"""Reads flake.lock: bytes in, typed nodes that are all locked by a hash out; pure parsers."""

from mvmnix.formats.lock.file import LockedFlake, Pair, mismatches, parse
from mvmnix.formats.lock.node import FILE_NAME, LockedNode, OriginalInput, RelativeNode, original, tree
from mvmnix.formats.lock.reference import Attributes, Forge, Git, Local, NodeKind, Place, Unknown, Web, place

__all__ = [
    "FILE_NAME",
    "Attributes",
    "Forge",
    "Git",
    "Local",
    "LockedFlake",
    "LockedNode",
    "NodeKind",
    "OriginalInput",
    "Pair",
    "Place",
    "RelativeNode",
    "Unknown",
    "Web",
    "mismatches",
    "original",
    "parse",
    "place",
    "tree",
]
