"""Reads flake.lock into a tree of entries and writes one as Nix 2.26 writes it, byte for byte; pure.

Nix keeps a graph with names for its nodes (nix: libflake/lockfile.cc). While it locks, each input is a node of its own,
so what is written is a tree; names are given on the way: an input's own, or `name_2`, `name_3`, ….
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from mvmnix.errors import ReasonCode
from mvmnix.formats import lock, strict
from mvmnix.formats.flake_references import Attributes
from mvmnix.formats.lock import FILE_NAME, InputPath, RawNode

#: Bounds on a lock: how deep inputs of inputs go, and how many there are in all.
MAX_DEPTH: Final = 32
MAX_ENTRIES: Final = 4096

_HINT: Final = "take that flake.lock away, or lock its flake again with Nix 2.26 or `mvm lock`"

type Inputs = Mapping[str, "Entry | InputPath"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One locked input: `locked` is what is fetched, `original` what was asked for; its inputs, or what they follow.

    `parent` is the input in whose tree a relative path lies; None for everything else.
    """

    locked: Attributes
    original: Attributes
    flake: bool = True
    parent: InputPath | None = None
    inputs: Inputs = field(default_factory=dict)


def read(data: bytes | None, where: str = FILE_NAME) -> Inputs:
    """The root's inputs in these bytes; none without a file. Raises RefusedError LOCK_MALFORMED."""
    if data is None:
        return {}
    try:
        root, nodes = lock.read_nodes(data, where)
        return _Reader(nodes).inputs(root, ())
    except strict.MalformedError as error:
        raise error.refused(ReasonCode.LOCK_MALFORMED, where, _HINT) from error
    except ValueError as error:
        raise strict.MalformedError(str(error)).refused(ReasonCode.LOCK_MALFORMED, where, _HINT) from error


class _Reader:
    """Follows the names of nodes. A node that several inputs share is read once; a circle is an error.

    Written as a tree again, such a node stands there once for each of them: so many in all are bounded.
    """

    def __init__(self, nodes: Mapping[str, RawNode]) -> None:
        self._nodes = nodes
        self._read: dict[str, Entry] = {}
        #: By the name of a node, how many entries a tree of it has.
        self._sizes: dict[str, int] = {}

    def inputs(self, name: str, above: tuple[str, ...]) -> Inputs:
        if name in above or len(above) > MAX_DEPTH:
            raise ValueError(f"the node {name!r} is its own input, or nested deeper than {MAX_DEPTH} levels")
        if name not in self._nodes:
            raise ValueError(f"there is no node {name!r}")
        wanted = self._nodes[name].inputs
        found = {
            key: target if isinstance(target, tuple) else self._entry(target, (*above, name))
            for key, target in wanted.items()
        }
        self._sizes[name] = 1 + sum(self._sizes[target] for target in wanted.values() if isinstance(target, str))
        if self._sizes[name] > MAX_ENTRIES:
            raise ValueError(f"the node {name!r} has more than {MAX_ENTRIES} inputs, and those of inputs")
        return found

    def _entry(self, name: str, above: tuple[str, ...]) -> Entry:
        if name not in self._read:
            inputs = self.inputs(name, above)
            node = self._nodes[name]
            if not node.locked or not node.original:
                raise ValueError(f"the node {name!r} is not locked")
            self._read[name] = Entry(node.locked, node.original, node.flake, node.parent, inputs)
        return self._read[name]


def write(inputs: Inputs) -> bytes:
    """The bytes of a flake.lock with these inputs of the root."""
    nodes: dict[str, object] = {}
    _write("root", None, inputs, nodes)
    document = {"nodes": nodes, "root": "root", "version": 7}
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _write(wanted: str, entry: Entry | None, inputs: Inputs, nodes: dict[str, object]) -> str:
    """Put a node and all below it into `nodes`; returns its name there."""
    name, number = wanted, 2
    while name in nodes:
        name, number = f"{wanted}_{number}", number + 1
    node: dict[str, object] = {}
    nodes[name] = node  # before those below it, which may have the same name
    below: dict[str, object] = {}
    for key, target in sorted(inputs.items()):
        below[key] = _write(key, target, target.inputs, nodes) if isinstance(target, Entry) else list(target)
    if below:
        node["inputs"] = below
    if entry is not None:
        node |= {"locked": dict(entry.locked), "original": dict(entry.original)}
        if not entry.flake:
            node["flake"] = False
        if entry.parent is not None:
            node["parent"] = list(entry.parent)
    return name


@dataclass(frozen=True, slots=True)
class LockChange:
    """An input that a new lock has otherwise than an old one: what it was and what it is, None for nothing."""

    input: InputPath
    old: str | None
    new: str | None


def changes(old: Inputs, new: Inputs) -> tuple[LockChange, ...]:
    """What differs between two locks, sorted by input."""
    before, after = dict(_described(old, ())), dict(_described(new, ()))
    return tuple(
        LockChange(path, before.get(path), after.get(path))
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    )


def _described(inputs: Inputs, prefix: InputPath) -> Iterator[tuple[InputPath, str]]:
    for name, target in inputs.items():
        path = (*prefix, name)
        if isinstance(target, Entry):
            yield path, describe(target.locked)
            yield from _described(target.inputs, path)
        else:
            yield path, f"follows {'/'.join(target) or 'the flake itself'}"


def describe(locked: Attributes) -> str:
    """A locked or original reference in one line, for people."""
    kind = str(locked.get("type", "?"))
    match kind:
        case "path":
            where = f"path:{locked.get('path', '')}"
        case "github" | "gitlab" | "sourcehut":
            at = locked.get("rev") or locked.get("ref")
            where = f"{kind}:{locked.get('owner')}/{locked.get('repo')}" + (f"/{at}" if at else "")
        case "git":
            where = f"git+{locked.get('url')}" + (f"?rev={locked['rev']}" if "rev" in locked else "")
        case _:
            where = str(locked.get("url", locked.get("id", kind)))
    directory = f" dir={locked['dir']}" if "dir" in locked else ""
    hashed = f" ({locked['narHash']})" if "narHash" in locked else ""
    return where + directory + hashed
