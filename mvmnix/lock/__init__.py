"""Reads flake.lock: bytes in, typed nodes that are all locked by a hash out; pure parsers."""

from mvmnix.lock.file import LockedFlake, parse
from mvmnix.lock.node import FILE_NAME, LockedNode, NodeKind, RelativeNode

__all__ = ["FILE_NAME", "LockedFlake", "LockedNode", "NodeKind", "RelativeNode", "parse"]
