"""Parses flake.lock, version 7, into typed nodes, refuses what no hash locks, and holds it to flake.nix; pure.

The format is Nix's own (Nix manual, `nix flake`, "Lock files"; nix: libflake/lockfile.cc). A node with a `narHash`
names a tree by its content. A relative `path` node has none: it lies in the root tree, whose hash covers it. What was
locked is held against what flake.nix asked for, beyond which only a policy's pairs reach.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Final

from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.formats import strict
from mvmnix.formats.lock import node as nodes_of
from mvmnix.formats.lock.node import FILE_NAME, HINT, LockedNode, RawNode, RelativeNode
from mvmnix.formats.lock.reference import Attributes, differences
from mvmnix.model import Digest

_NAME: Final = r"[^\x00-\x1f\x7f]{1,255}"
_LONGEST_PATH: Final = 64

type Inputs = Mapping[str, str | tuple[str, ...]]
#: Patterns (fnmatch) of the original and of the locked reference, both in URL form.
type Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class LockedFlake:
    """What a flake's lock file says; `digest` is that of its bytes, None when the flake has no lock file.

    Without a lock file a flake has no inputs: one that has some does not evaluate with `--no-update-lock-file`.
    """

    digest: Digest | None
    locked: tuple[LockedNode, ...] = field(default=())
    relative: tuple[RelativeNode, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Node:
    """A node and the edges that leave it: names of nodes, or paths of inputs from the root (`follows`)."""

    raw: RawNode
    inputs: Inputs


def parse(data: bytes | None) -> LockedFlake:
    """The typed nodes of these bytes of flake.lock, or of a flake without one.

    Raises RefusedError with all reasons at once: LOCK_MALFORMED, LOCK_NODE_UNSUPPORTED, FLAKE_UNLOCKED, FLAKE_DIRTY.
    """
    if data is None:
        return LockedFlake(None)
    try:
        root, nodes = strict.read(strict.parse_json(data), FILE_NAME, _file)
        _follow_all(root, nodes)
    except strict.MalformedError as error:
        raise error.refused(ReasonCode.LOCK_MALFORMED, FILE_NAME, HINT) from error
    inputs = [node.raw for name, node in sorted(nodes.items()) if name != root]
    reasons = [reason for node in inputs for reason in nodes_of.reasons(node)]
    if reasons:
        raise RefusedError(*reasons)
    locked = tuple(nodes_of.locked(node) for node in inputs if node.kind != "path")
    relative = tuple(nodes_of.relative(node) for node in inputs if node.kind == "path")
    return LockedFlake(Digest.of(data), locked, relative)


def _file(record: strict.Record) -> tuple[str, Mapping[str, _Node]]:
    record.integer("version", 7, 7)
    root = record.text("root", _NAME)
    nodes = record.child("nodes", _nodes)
    if root not in nodes:
        raise ValueError(f"the root node {root!r} is missing")
    return root, nodes


def _nodes(record: strict.Record) -> Mapping[str, _Node]:
    return {name: record.child(name, partial(_node, name)) for name in record.names()}


def _node(name: str, record: strict.Record) -> _Node:
    if not re.fullmatch(_NAME, name):
        raise ValueError("not the name of a node")
    raw = RawNode(
        name,
        record.child("locked", _attributes) if record.has("locked") else {},
        record.child("original", _attributes) if record.has("original") else {},
        record.flag("flake") if record.has("flake") else True,
        record.texts("parent", _NAME) if record.has("parent") else (),
    )
    return _Node(raw, record.child("inputs", _inputs) if record.has("inputs") else {})


def _inputs(record: strict.Record) -> Inputs:
    result: dict[str, str | tuple[str, ...]] = {}
    for name in record.names():
        if isinstance(record.value(name), str):
            result[name] = record.text(name, _NAME)
        else:
            result[name] = record.texts(name, _NAME, _LONGEST_PATH)
    return result


def _attributes(record: strict.Record) -> Attributes:
    result: dict[str, str | int | bool] = {}
    for name in record.names():
        match record.value(name):
            case str() | int() as value:  # bool is an int
                result[name] = value
            case list() if name == "publicKeys":
                result[name] = True
            case _:
                raise ValueError(f"{name!r} is neither text, number nor truth value")
    return result


def _follow_all(root: str, nodes: Mapping[str, _Node]) -> None:
    """Follow every edge. Raises MalformedError with each one that leads nowhere or in a circle."""
    known: dict[tuple[str, ...], str | None] = {}
    problems = []
    for node in nodes.values():
        for name, target in node.inputs.items():
            try:
                _follow(target, root, nodes, known)
            except (ValueError, RecursionError) as error:
                problems.append(f"input {name!r} of node {node.raw.name!r}: {error}")
    if problems:
        raise strict.MalformedError(*problems)


def _follow(
    target: str | tuple[str, ...], root: str, nodes: Mapping[str, _Node], known: dict[tuple[str, ...], str | None]
) -> str:
    """The node that an input means. `known` has the paths that were followed, None for one that still is.

    Each path is followed once: paths that name paths, 64 deep and 64 wide, would otherwise never end.
    """
    if isinstance(target, str):
        if target not in nodes:
            raise ValueError(f"there is no node {target!r}")
        return target
    if target in known:
        done = known[target]
        if done is None:
            raise ValueError(f"it follows {'/'.join(target)!r}, which leads in a circle or nowhere")
        return done
    known[target] = None
    here = root
    for step in target:
        if step not in nodes[here].inputs:
            raise ValueError(f"it follows {'/'.join(target)!r}, but node {here!r} has no input {step!r}")
        here = _follow(nodes[here].inputs[step], root, nodes, known)
    known[target] = here
    return here


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
