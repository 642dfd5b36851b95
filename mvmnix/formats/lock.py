"""Reads flake.lock, version 7: bytes in, typed nodes that are all locked by a hash out; pure.

The format is Nix's own (Nix manual, `nix flake`, "Lock files"; nix: libflake/lockfile.cc). A node with a `narHash`
names a tree by its content. A relative `path` node has none: it lies in the root tree, whose hash covers it. What was
locked is held against what flake.nix asked for, beyond which only a policy's pairs reach.
"""

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from mvmnix.arguments import GitRef, is_subdirectory
from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.formats import strict
from mvmnix.formats.flake_references import (
    FORGES,
    Attributes,
    Forge,
    Git,
    Local,
    NodeKind,
    Place,
    Web,
    place,
)
from mvmnix.model import HashMode, Source, StorePath

#: The names of inputs from the root, one after another; empty for the root itself.
type InputPath = tuple[str, ...]
#: The edges that leave a node: names of nodes, or paths of inputs from the root (`follows`).
type Edges = Mapping[str, str | InputPath]
#: Patterns (fnmatch) of the original and of the locked reference, both in URL form.
type Pair = tuple[str, str]

#: Where the lock file lies in a flake's directory.
FILE_NAME: Final = "flake.lock"
_NAME: Final = r"[^\x00-\x1f\x7f]{1,255}"
_LONGEST_PATH: Final = 64
_TEXT: Final = r"[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]{0,4096}"
#: What to do about most problems.
HINT: Final = "look at flake.lock, and lock the flake again with `mvm lock`"

_NO_USER: Final = "take user name and password out of the URL, and name them in config.toml, [[credentials]]"
_COMMON: Final = frozenset({"type", "narHash", "lastModified", "dir", "rev", "revCount", "ref", "name", "__final"})
#: What makes a tree depend on more than a commit, or promises a check: each with the reason why it is refused.
_UNSUPPORTED: Final = {
    "submodules": "its submodules would come from places that no lock names",
    "lfs": "its large files would come from a place that no lock names",
    "exportIgnore": "git archive's attributes are not applied",
    "verifyCommit": "signatures of commits are not verified",
    "keytype": "signatures of commits are not verified",
    "publicKey": "signatures of commits are not verified",
    "publicKeys": "signatures of commits are not verified",
}
#: What Nix writes of a tree with changes that are not committed: refused for a reason of its own.
_DIRTY: Final = frozenset({"dirtyRev", "dirtyShortRev"})
_KNOWN: Final[Mapping[NodeKind, frozenset[str]]] = {
    **dict.fromkeys(FORGES, _COMMON | {"owner", "repo", "host", "treeHash"}),
    NodeKind.GIT: _COMMON | {"url", "shallow", "allRefs", *_UNSUPPORTED},
    NodeKind.TARBALL: _COMMON | {"url"},
    NodeKind.FILE: _COMMON | {"url"},
}


@dataclass(frozen=True, slots=True)
class OriginalInput:
    """What flake.nix asked for: a place, and a directory in the tree that is there."""

    place: Place
    directory: str = ""

    @property
    def uri(self) -> str:
        """The flake reference."""
        return self.place.uri


@dataclass(frozen=True, slots=True)
class LockedNode:
    """A tree that is named by content: `nar` is the SHA-256 of its Nix archive; `place` where it was locked from.

    `directory` is where the flake lies in that tree, "" for its top; `flake` whether it is one.
    """

    name: str
    place: Forge | Git | Web
    nar: Digest
    directory: str
    flake: bool
    asked: OriginalInput

    @property
    def uri(self) -> str:
        """The place as a flake reference, without user information."""
        return self.place.uri

    @property
    def original(self) -> str:
        """What flake.nix asked for, as a flake reference."""
        return self.asked.uri

    @property
    def source(self) -> Source:
        """The tree as a file that may enter a build; Nix calls every such tree `source`."""
        return Source(self.uri, "source", self.nar, HashMode.NAR)

    @property
    def store_path(self) -> StorePath:
        """Where Nix puts the tree."""
        return self.source.store_path


@dataclass(frozen=True, slots=True)
class RelativeNode:
    """A directory in the tree of its parent node (path of input names from the root; empty for the root itself)."""

    name: str
    path: str
    parent: tuple[str, ...]
    asked: OriginalInput
    directory: str = ""

    @property
    def place(self) -> Local:
        """The path as a place."""
        return Local(self.path)

    @property
    def uri(self) -> str:
        """The path as a flake reference."""
        return self.place.uri

    @property
    def original(self) -> str:
        """What flake.nix asked for, as a flake reference."""
        return self.asked.uri


@dataclass(frozen=True, slots=True)
class RawNode:
    """A node as it stands in the file: `locked` is what is fetched, `original` what flake.nix asked for.

    One that is missing is empty; `parent` is None where the file has none.
    """

    name: str
    locked: Attributes
    original: Attributes
    flake: bool = True
    parent: InputPath | None = None
    inputs: Edges = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The fetcher's name as the file has it, "" when the node is not locked."""
        return str(self.locked.get("type", ""))


def relative_node(node: RawNode) -> RelativeNode:
    """The typed node of a relative path that has no reasons against it."""
    locked = node.locked
    return RelativeNode(node.name, str(locked["path"]), node.parent or (), _asked(node), str(locked.get("dir", "")))


def locked_node(node: RawNode) -> LockedNode:
    """The typed node of a tree that has no reasons against it."""
    attributes = node.locked
    where = place(attributes)
    if not isinstance(where, Forge | Git | Web):
        raise TypeError(f"no place to fetch from: {where}")
    nar = Digest.from_sri(str(attributes["narHash"]))
    return LockedNode(node.name, where, nar, str(attributes.get("dir", "")), node.flake, _asked(node))


def tree_node(name: str, attributes: Attributes) -> LockedNode:
    """The node of a tree that is locked by these attributes. Raises RefusedError with every reason against it."""
    node = RawNode(name, attributes, attributes)
    found = list(reasons(node))
    if node.kind == "path" and not found:
        why, hint = "it is not a tree of its own", "take it out of the tree that it lies in"
        found = [Reason(ReasonCode.LOCK_NODE_UNSUPPORTED, f"{FILE_NAME}: node {name!r}", why, hint)]
    if found:
        raise RefusedError(*found)
    return locked_node(node)


def original_place(name: str, attributes: Attributes) -> Forge | Git | Web:
    """The place that an unlocked reference names, if it is one to fetch from. Raises RefusedError with every reason."""
    what = f"input {name}"
    found, where = list(_text_reasons(what, attributes, {})), place(attributes)
    if not isinstance(where, Forge | Git | Web):
        why, hint = f"{where.uri} is not a fixed source", f"use one of {', '.join(NodeKind)}, or a relative path"
        raise RefusedError(*found, Reason(ReasonCode.LOCK_NODE_UNSUPPORTED, what, why, hint))
    found += _attribute_reasons(what, NodeKind(str(attributes["type"])), attributes)
    if found:
        raise RefusedError(*found)
    return where


def _asked(node: RawNode) -> OriginalInput:
    return OriginalInput(place(node.original), str(node.original.get("dir", "")))


def reasons(node: RawNode) -> Iterator[Reason]:
    """Everything for which a node is refused."""
    what = f"{FILE_NAME}: node {node.name!r}"
    locked = node.locked
    if "type" not in locked:
        yield Reason(ReasonCode.FLAKE_UNLOCKED, what, "it is not locked", "run `mvm lock`")
        return
    if "indirect" in {node.original.get("type"), node.kind}:
        hint = "write the input's whole URL into flake.nix, and lock it again"
        yield Reason(
            ReasonCode.LOCK_NODE_UNSUPPORTED, what, "it names a registry entry, which is not a fixed source", hint
        )
    if not _DIRTY.isdisjoint(locked):
        yield Reason(ReasonCode.FLAKE_DIRTY, what, "it was locked from a dirty tree", "commit there, and lock again")
    yield from _text_reasons(what, locked, node.original)
    if node.kind == "path":
        yield from _path_reasons(what, locked)
    elif node.kind in set(NodeKind):
        yield from _tree_reasons(what, NodeKind(node.kind), locked)
    elif node.kind != "indirect":
        why = f"its type {node.kind!r} is not known"
        hint = f"use one of {', '.join(NodeKind)}, or a relative path"
        yield Reason(ReasonCode.LOCK_NODE_UNSUPPORTED, what, why, hint)


def _text_reasons(what: str, locked: Attributes, original: Attributes) -> Iterator[Reason]:
    """What would make a reference's URL form another one than Nix's, or hide in a message."""
    for where, attributes in (("locked", locked), ("original", original)):
        strange = sorted(
            name for name, value in attributes.items() if isinstance(value, str) and not re.fullmatch(_TEXT, value)
        )
        if strange:
            yield Reason(ReasonCode.LOCK_MALFORMED, what, f"unusual text in its {where} {', '.join(strange)}", HINT)
    for where, attributes in (("locked", locked), ("original", original)):
        if not is_subdirectory(str(attributes.get("dir", ""))):
            yield Reason(ReasonCode.LOCK_MALFORMED, what, f"its {where} dir does not lead downwards", HINT)
    if re.match(r"[^/?#]*//[^/?#]*@", str(original.get("url", ""))):
        yield Reason(ReasonCode.LOCK_NODE_UNSUPPORTED, what, "its original URL carries user information", _NO_USER)


def _path_reasons(what: str, locked: Attributes) -> Iterator[Reason]:
    path = locked.get("path")
    if not isinstance(path, str) or not re.fullmatch(r"[^\x00-\x1f\x7f]{1,4096}", path):
        yield Reason(ReasonCode.LOCK_MALFORMED, what, "it has no path", HINT)
    elif path.startswith("/"):
        hint = "refer to it by a relative path in the same tree, or by git"
        yield Reason(ReasonCode.LOCK_NODE_UNSUPPORTED, what, f"it names a place on one machine, {path}", hint)
    yield from _unknown(what, locked, frozenset({"type", "path", "lastModified", "dir"}))


def _tree_reasons(what: str, kind: NodeKind, locked: Attributes) -> Iterator[Reason]:
    if "narHash" not in locked:
        yield Reason(ReasonCode.FLAKE_UNLOCKED, what, "it has no narHash", "run `mvm lock`")
    elif _nar(locked) is None:
        why = f"its narHash is not a SHA-256 in SRI form: {str(locked['narHash'])[:80]!r}"
        yield Reason(ReasonCode.LOCK_MALFORMED, what, why, HINT)
    if kind in {*FORGES, NodeKind.GIT}:
        rev = str(locked.get("rev", ""))
        if not rev:
            yield Reason(ReasonCode.FLAKE_UNLOCKED, what, "it names no commit", "run `mvm lock`")
        elif not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", rev):
            yield Reason(ReasonCode.LOCK_MALFORMED, what, f"{rev[:80]!r} is not a commit", HINT)
    yield from _attribute_reasons(what, kind, locked)


def _attribute_reasons(what: str, kind: NodeKind, locked: Attributes) -> Iterator[Reason]:
    for name in sorted(_UNSUPPORTED.keys() & locked.keys()):
        if locked[name] not in {False, ""}:
            hint = "lock it without, or fetch it from somewhere else"
            yield Reason(ReasonCode.LOCK_NODE_UNSUPPORTED, what, f"{name}: {_UNSUPPORTED[name]}", hint)
    yield from _unknown(what, locked, _KNOWN[kind] | _DIRTY)
    yield from _place_reasons(what, kind, locked)


def _place_reasons(what: str, kind: NodeKind, locked: Attributes) -> Iterator[Reason]:
    if (ref := str(locked.get("ref", ""))) and (problem := GitRef.problem(ref)):
        yield Reason(ReasonCode.LOCK_MALFORMED, what, f"its ref is invalid: {ref[:80]!r}: {problem}", HINT)
    if kind in FORGES:
        for name in ("owner", "repo"):
            if not re.fullmatch(r"[A-Za-z0-9._~%+-]{1,255}", str(locked.get(name, ""))):
                yield Reason(ReasonCode.LOCK_MALFORMED, what, f"it has no proper {name}", HINT)
        if not re.fullmatch(r"[A-Za-z0-9.:-]{1,255}", str(locked.get("host", "default"))):
            yield Reason(ReasonCode.LOCK_MALFORMED, what, "it has no proper host", HINT)
        return
    url = str(locked.get("url", ""))
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if not re.fullmatch(r"[\x21-\x7e]{1,4096}", url) or not parts.scheme:
        yield Reason(ReasonCode.LOCK_MALFORMED, what, f"its URL is not one: {url[:80]!r}", HINT)
    elif parts.scheme == "file":
        hint = "publish it where others can fetch it, or refer to it by a relative path"
        yield Reason(ReasonCode.LOCK_NODE_UNSUPPORTED, what, "it names a place on one machine", hint)
    elif "@" in parts.netloc:
        yield Reason(ReasonCode.LOCK_NODE_UNSUPPORTED, what, "its URL carries user information", _NO_USER)


def _unknown(what: str, locked: Attributes, known: frozenset[str] | set[str]) -> Iterator[Reason]:
    unknown = sorted(set(locked) - known)
    if unknown:
        why = f"it has attributes that mvm does not know: {', '.join(unknown)}"
        yield Reason(ReasonCode.LOCK_NODE_UNSUPPORTED, what, why, "lock it with a Nix that mvm knows (2.26), or ask")


def _nar(locked: Attributes) -> Digest | None:
    try:
        return Digest.from_sri(str(locked["narHash"]))
    except (KeyError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class LockedFlake:
    """What a flake's lock file says; `digest` is that of its bytes, None when the flake has no lock file.

    Without a lock file a flake has no inputs: one that has some does not evaluate with `--no-update-lock-file`.
    """

    digest: Digest | None
    locked: tuple[LockedNode, ...] = field(default=())
    relative: tuple[RelativeNode, ...] = field(default=())


def parse(data: bytes | None) -> LockedFlake:
    """The typed nodes of these bytes of flake.lock, or of a flake without one.

    Raises RefusedError with all reasons at once: LOCK_MALFORMED, LOCK_NODE_UNSUPPORTED, FLAKE_UNLOCKED, FLAKE_DIRTY.
    """
    if data is None:
        return LockedFlake(None)
    try:
        root, nodes = read_nodes(data)
        _follow_all(root, nodes)
    except strict.MalformedError as error:
        raise error.refused(ReasonCode.LOCK_MALFORMED, FILE_NAME, HINT) from error
    inputs = [node for name, node in sorted(nodes.items()) if name != root]
    found = [reason for node in inputs for reason in reasons(node)]
    if found:
        raise RefusedError(*found)
    trees = tuple(locked_node(node) for node in inputs if node.kind != "path")
    return LockedFlake(Digest.of(data), trees, tuple(relative_node(node) for node in inputs if node.kind == "path"))


def local_paths(data: bytes | None, directory: str) -> frozenset[str]:
    """Return where the flake in `directory` of the root tree and its relative inputs lie there; "" is the whole tree.

    An input with an unknown parent, or above the tree, counts as the whole tree. Raises RefusedError as `parse` does.
    """
    inputs = parse(data).relative
    if data is None or not inputs:
        return frozenset({directory})
    root, nodes = read_nodes(data)
    found = (_local_path(node.name, root, nodes, directory) for node in inputs)
    return frozenset({directory, *(path for path in found if path is not None)})


def _local_path(name: str, root: str, nodes: Mapping[str, RawNode], directory: str) -> str | None:
    """Return where a relative input lies in the root tree, None for one in the tree of another input."""
    steps: list[str] = []  # from the input upwards
    here = name
    for _ in nodes:
        node = nodes[here]
        if node.kind != "path":
            return None
        steps += [str(node.locked.get("dir", ""))] if steps else []
        steps.append(str(node.locked["path"]))
        try:
            here = _follow(node.parent or (), root, nodes, {})
        except (ValueError, RecursionError):
            return ""
        if here == root:
            path = posixpath.normpath(posixpath.join(directory, *reversed(steps)))
            return "" if path.split("/")[0] in {".", ".."} else path
    return ""


def read_nodes(data: bytes, where: str = FILE_NAME) -> tuple[str, Mapping[str, RawNode]]:
    """The name of the root's node, and all nodes, as they stand in the file. Raises strict.MalformedError."""
    return strict.read(strict.parse_json(data), where, _file)


def _file(record: strict.Record) -> tuple[str, Mapping[str, RawNode]]:
    record.integer("version", 7, 7)
    root = record.text("root", _NAME)
    nodes = record.child("nodes", _nodes)
    if root not in nodes:
        raise ValueError(f"the root node {root!r} is missing")
    return root, nodes


def _nodes(record: strict.Record) -> Mapping[str, RawNode]:
    return {name: record.child(name, partial(_node, name)) for name in record.names()}


def _node(name: str, record: strict.Record) -> RawNode:
    if not re.fullmatch(_NAME, name):
        raise ValueError("not the name of a node")
    return RawNode(
        name,
        record.child("locked", parse_attributes) if record.has("locked") else {},
        record.child("original", parse_attributes) if record.has("original") else {},
        record.flag("flake") if record.has("flake") else True,
        record.texts("parent", _NAME) if record.has("parent") else None,
        record.child("inputs", _edges) if record.has("inputs") else {},
    )


def _edges(record: strict.Record) -> Edges:
    result: dict[str, str | InputPath] = {}
    for name in record.names():
        if not re.fullmatch(_NAME, name):
            raise ValueError("not the name of an input")
        is_name = isinstance(record.value(name), str)
        result[name] = record.text(name, _NAME) if is_name else record.texts(name, _NAME, _LONGEST_PATH)
    return result


def parse_attributes(record: strict.Record) -> Attributes:
    """The attributes of a flake reference (Nix manual, `nix flake`, "Flake references").

    Keys for signatures of commits, the only list that there is, are True: nothing that has them is taken.
    """
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


def _follow_all(root: str, nodes: Mapping[str, RawNode]) -> None:
    """Follow every edge. Raises MalformedError with each one that leads nowhere or in a circle."""
    known: dict[InputPath, str | None] = {}
    problems = []
    for node in nodes.values():
        for name, target in node.inputs.items():
            try:
                _follow(target, root, nodes, known)
            except (ValueError, RecursionError) as error:
                problems.append(f"input {name!r} of node {node.name!r}: {error}")
    if problems:
        raise strict.MalformedError(*problems)


def _follow(
    target: str | InputPath, root: str, nodes: Mapping[str, RawNode], known: dict[InputPath, str | None]
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
