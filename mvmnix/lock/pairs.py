"""Holds what a lock file locked against what flake.nix asked for, beyond which only a policy's pairs reach; pure."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from mvmnix.errors import Reason, ReasonCode
from mvmnix.lock.file import LockedFlake
from mvmnix.lock.node import FILE_NAME, LockedNode, RelativeNode
from mvmnix.lock.reference import differences

#: Patterns (fnmatch) of the original and of the locked reference, both in URL form.
type Pair = tuple[str, str]


def mismatches(lock: LockedFlake, pairs: Sequence[Pair] = ()) -> Iterator[Reason]:
    """Every node that was locked to another place than it names as its original, and that no pair admits.

    Nix trusts a lock file: with an exchanged `locked`, an input that reads `github:NixOS/nixpkgs` can be any tree.
    """
    nodes: tuple[LockedNode | RelativeNode, ...] = (*lock.locked, *lock.relative)
    for node in nodes:
        found = list(_differences(node))
        if found and not any(fnmatchcase(node.original, asked) and fnmatchcase(node.uri, got) for asked, got in pairs):
            why = f"it asks for {node.original} and is locked to {node.uri}: {'; '.join(found)}"
            hint = "lock the flake again, or pair the two in the policy, if that is meant"
            yield Reason(ReasonCode.LOCK_SUBSTITUTED, f"{FILE_NAME}: node {node.name!r}", why, hint)


def _differences(node: LockedNode | RelativeNode) -> Iterator[str]:
    yield from differences(node.asked.place, node.place)
    if node.asked.directory != node.directory:
        yield f"dir {node.asked.directory!r} became {node.directory!r}"
