"""Says what one node of flake.lock names, or for which reasons it is refused; pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from mvmnix.errors import Reason, ReasonCode
from mvmnix.model import Digest, HashMode, Source, StorePath

#: Where the lock file lies in a flake's directory.
FILE_NAME: Final = "flake.lock"
#: What to do about most problems.
HINT: Final = "look at flake.lock, and lock the flake again with `nix flake lock`"

type Attributes = Mapping[str, str | int | bool]


class NodeKind(StrEnum):
    """How Nix fetches a locked tree (nix: libfetchers)."""

    GITHUB = "github"
    GITLAB = "gitlab"
    SOURCEHUT = "sourcehut"
    GIT = "git"
    TARBALL = "tarball"
    FILE = "file"


_FORGES: Final = (NodeKind.GITHUB, NodeKind.GITLAB, NodeKind.SOURCEHUT)
_COMMON: Final = frozenset({"type", "narHash", "lastModified", "dir", "rev", "revCount", "ref", "name", "__final"})
_KNOWN: Final[Mapping[NodeKind, frozenset[str]]] = {
    **dict.fromkeys(_FORGES, _COMMON | {"owner", "repo", "host", "treeHash"}),
    NodeKind.GIT: _COMMON
    | {"url", "submodules", "shallow", "allRefs", "exportIgnore", "lfs"}
    | {"verifyCommit", "keytype", "publicKey", "publicKeys"},
    NodeKind.TARBALL: _COMMON | {"url", "unpack"},
    NodeKind.FILE: _COMMON | {"url", "unpack"},
}


@dataclass(frozen=True, slots=True)
class LockedNode:
    """A tree that is named by content: `uri` without user information, `nar` the SHA-256 of its Nix archive.

    `directory` is where the flake lies in that tree, "" for its top; `flake` whether it is one.
    """

    name: str
    kind: NodeKind
    uri: str
    nar: Digest
    directory: str
    flake: bool

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


@dataclass(frozen=True, slots=True)
class RawNode:
    """A node as it stands in the file: `locked` is what is fetched, `original` what flake.nix asked for."""

    name: str
    locked: Attributes | None
    original: Attributes | None
    flake: bool
    parent: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The fetcher's name as the file has it, "" when the node is not locked."""
        return str((self.locked or {}).get("type", ""))


def relative(node: RawNode) -> RelativeNode:
    """The typed node of a relative path that has no reasons against it."""
    return RelativeNode(node.name, str((node.locked or {})["path"]), node.parent)


def locked(node: RawNode) -> LockedNode:
    """The typed node of a tree that has no reasons against it."""
    attributes = node.locked or {}
    kind = NodeKind(node.kind)
    nar = Digest.from_sri(str(attributes["narHash"]))
    return LockedNode(node.name, kind, _uri(kind, attributes), nar, str(attributes.get("dir", "")), node.flake)


def _uri(kind: NodeKind, attributes: Attributes) -> str:
    """The flake reference in its URL form (Nix manual, `nix flake`, "Types")."""
    if kind in _FORGES:
        host = f"?host={attributes['host']}" if "host" in attributes else ""
        return f"{kind}:{attributes['owner']}/{attributes['repo']}/{attributes['rev']}{host}"
    url = str(attributes["url"])
    match kind:
        case NodeKind.GIT:
            return f"git+{url}{'&' if '?' in url else '?'}rev={attributes['rev']}"
        case NodeKind.FILE:
            return f"file+{url}"
        case _:
            return url


def reasons(node: RawNode) -> Iterator[Reason]:
    """Everything for which a node is refused."""
    what = f"{FILE_NAME}: node {node.name!r}"
    locked = node.locked
    if locked is None or "type" not in locked:
        yield Reason(ReasonCode.FLAKE_UNLOCKED, what, "it is not locked", "run `nix flake lock`")
        return
    if (node.original or {}).get("type") == "indirect" or node.kind == "indirect":
        hint = "write the input's whole URL into flake.nix, and lock it again"
        yield Reason(
            ReasonCode.LOCK_NODE_UNSUPPORTED, what, "it names a registry entry, which is no fixed source", hint
        )
    if "dirtyRev" in locked or "dirtyShortRev" in locked:
        yield Reason(ReasonCode.FLAKE_DIRTY, what, "it was locked from a dirty tree", "commit there, and lock again")
    if node.kind == "path":
        yield from _path_reasons(what, locked)
    elif node.kind in set(NodeKind):
        yield from _tree_reasons(what, NodeKind(node.kind), locked)
    elif node.kind != "indirect":
        why = f"its type {node.kind!r} is not known"
        hint = f"use one of {', '.join(NodeKind)}, or a relative path"
        yield Reason(ReasonCode.LOCK_NODE_UNSUPPORTED, what, why, hint)


def _path_reasons(what: str, locked: Attributes) -> Iterator[Reason]:
    path = locked.get("path")
    if not isinstance(path, str) or not re.fullmatch(r"[^\x00-\x1f\x7f]{1,4096}", path):
        yield Reason(ReasonCode.LOCK_MALFORMED, what, "it has no path", HINT)
    elif path.startswith("/"):
        hint = "refer to it by a relative path in the same tree, or by git"
        yield Reason(ReasonCode.LOCK_NODE_UNSUPPORTED, what, f"it names a place on one machine, {path}", hint)
    yield from _unknown(what, locked, frozenset({"type", "path", "lastModified"}))


def _tree_reasons(what: str, kind: NodeKind, locked: Attributes) -> Iterator[Reason]:
    if "narHash" not in locked:
        yield Reason(ReasonCode.FLAKE_UNLOCKED, what, "it has no narHash", "run `nix flake lock`")
    elif _nar(locked) is None:
        why = f"its narHash is no SHA-256 in SRI form: {str(locked['narHash'])[:80]!r}"
        yield Reason(ReasonCode.LOCK_MALFORMED, what, why, HINT)
    if kind in {*_FORGES, NodeKind.GIT}:
        rev = str(locked.get("rev", ""))
        if not rev:
            yield Reason(ReasonCode.FLAKE_UNLOCKED, what, "it names no commit", "run `nix flake lock`")
        elif not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", rev):
            yield Reason(ReasonCode.LOCK_MALFORMED, what, f"{rev[:80]!r} is no commit", HINT)
    dirty = {name for name in locked if name in {"dirtyRev", "dirtyShortRev"}}  # have their own reason
    yield from _unknown(what, locked, _KNOWN[kind] | dirty)
    yield from _place_reasons(what, kind, locked)


def _place_reasons(what: str, kind: NodeKind, locked: Attributes) -> Iterator[Reason]:
    if kind in _FORGES:
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
        hint = "take user name and password out of the URL, and use a credential helper"
        yield Reason(ReasonCode.LOCK_NODE_UNSUPPORTED, what, "its URL carries user information", hint)


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
