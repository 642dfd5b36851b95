"""Applies layers to a tree in memory, as the OCI image specification says; no file is made, so none can be escaped.

1. A name is relative and has no `..`; its directory is found in the tree alone, where symbolic links lead nowhere else.
2. Whiteouts hide what lower layers have, before anything of their own layer is added (image-spec, layer.md).
3. A hard link names a regular file that is there. Devices and FIFOs are refused; beneath /dev, which every guest gets
   anew, everything is left out.
4. Set-user-ID and set-group-ID bits and extended attributes are dropped: a guest's workload could never use them.
5. Entries, bytes of names and depth are bounded.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, assert_never

from modules.oci.tarball import Entry, Kind, LayerError

MAX_NODES: Final = 300_000
MAX_TEXT: Final = 64 << 20
MAX_DEPTH: Final = 256
MAX_NAME: Final = 255
MAX_HOPS: Final = 40
_WHITEOUT: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"
_PERMISSIONS: Final = 0o777
_STICKY: Final = 0o1000

type Path = tuple[bytes, ...]


@dataclass(slots=True, eq=False)
class Directory:
    """A directory of the merged tree."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    children: "dict[bytes, Node]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class File:
    """A regular file: `size` bytes at `offset` of the spool with that number. Hard links are the same object."""

    mode: int
    uid: int
    gid: int
    spool: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Symlink:
    """A symbolic link; `target` is kept as it is."""

    target: bytes
    uid: int
    gid: int


type Node = Directory | File | Symlink


def show(path: Path) -> str:
    """A path for a message."""
    return repr(b"/".join(path)[:200])


def parts_of(name: bytes) -> Path:
    """The components of a name. Raises LayerError for one that could lead out."""
    if name.startswith(b"/"):
        raise LayerError(f"{name[:200]!r}: an absolute name")
    parts = tuple(part for part in name.split(b"/") if part not in {b"", b"."})
    if b".." in parts:
        raise LayerError(f"{name[:200]!r}: a name with ..")
    if any(len(part) > MAX_NAME for part in parts):
        raise LayerError(f"{name[:80]!r}…: a name longer than {MAX_NAME} bytes")
    return parts


class Merge:
    """The tree that layers make, from the lowest to the highest."""

    def __init__(self, *, max_nodes: int = MAX_NODES, max_text: int = MAX_TEXT) -> None:
        self.root = Directory()
        self._nodes = max_nodes
        self._text = max_text

    def apply(self, spool: int, entries: Iterable[Entry]) -> None:
        """Apply one layer, whose archive is the spool with that number. Raises LayerError."""
        hidden, added = self._sorted(entries)
        directories = frozenset(path for path, entry in added if entry.kind is Kind.DIRECTORY)
        for path in hidden:
            self._hide(path, directories)
        for path, entry in added:
            self._add(path, entry, spool)

    def directory(self, path: Path) -> Directory:
        """The directory at exactly this path, made where it is missing. Raises LayerError for anything else there."""
        here = self.root
        for depth, part in enumerate(path):
            if part not in here.children:
                here.children[part] = self._new_directory()
            child = here.children[part]
            if not isinstance(child, Directory):
                raise LayerError(f"{show(path[: depth + 1])}: a directory is needed there")
            here = child
        return here

    def walk(self, path: Path, *, create: bool) -> Directory | None:
        """The directory that this path leads to, links followed within the root; None if it is missing and not made."""
        here, todo, hops = [self.root], list(reversed(path)), 0
        while todo:
            part = todo.pop()
            if part == b"..":
                del here[max(1, len(here) - 1) :]
                continue
            if part not in here[-1].children and create:
                here[-1].children[part] = self._new_directory()
            match here[-1].children.get(part):
                case None:
                    return None
                case Directory() as node:
                    here.append(node)
                case Symlink(target=target):
                    hops += 1
                    if target.startswith(b"/"):
                        del here[1:]
                    todo += [step for step in reversed(target.split(b"/")) if step not in {b"", b"."}]
                case File():
                    raise LayerError(f"{show(path)}: a file is on the way to it")
                case node:
                    assert_never(node)
            if hops > MAX_HOPS or len(here) > MAX_DEPTH:
                raise LayerError(f"{show(path)}: too deep, or too many symbolic links on the way to it")
        return here[-1]

    def file(self, path: Path) -> File | None:
        """The regular file that this path leads to, links followed within the root."""
        for _ in range(MAX_HOPS):
            parent = self.walk(path[:-1], create=False) if path else None
            match parent.children.get(path[-1]) if parent is not None else None:
                case File() as found:
                    return found
                case Symlink(target=target):
                    start = () if target.startswith(b"/") else path[:-1]
                    path = (*start, *(step for step in target.split(b"/") if step not in {b"", b"."}))
                case _:
                    return None
            if path and path[-1] == b"..":
                return None
        return None

    def _count(self, text: int) -> None:
        # 5. bounds
        self._nodes -= 1
        self._text -= text
        if self._nodes < 0 or self._text < 0:
            raise LayerError("the image has too many entries, or too long names")

    def _new_directory(self) -> Directory:
        self._count(0)
        return Directory()

    def _sorted(self, entries: Iterable[Entry]) -> tuple[list[Path], list[tuple[Path, Entry]]]:
        """A layer's whiteouts, and its other entries; each path once, but for directories."""
        hidden: list[Path] = []
        added: list[tuple[Path, Entry]] = []
        seen: dict[Path, Kind] = {}
        for entry in entries:
            self._count(len(entry.name) + len(entry.link))
            path = parts_of(entry.name)
            if len(path) > MAX_DEPTH:
                raise LayerError(f"{show(path)}: nested deeper than {MAX_DEPTH} directories")
            if path[:1] == (b"dev",) and len(path) > 1:
                continue
            if path in seen and {seen[path], entry.kind} != {Kind.DIRECTORY}:
                raise LayerError(f"{show(path)}: listed twice in one layer")
            seen[path] = entry.kind
            if any(part.startswith(_WHITEOUT) for part in path):
                _check_whiteout(path, entry)
                hidden.append(path)
            else:
                added.append((path, entry))
        return hidden, added

    def _hide(self, path: Path, directories: frozenset[Path]) -> None:
        # 2. whiteouts
        parent = self._beneath(path[:-1], directories)
        if parent is None:
            return
        if path[-1] == _OPAQUE:
            parent.children.clear()
        else:
            parent.children.pop(path[-1].removeprefix(_WHITEOUT), None)

    def _beneath(self, path: Path, directories: frozenset[Path]) -> Directory | None:
        """The lower layers' directory at a path. A link that this very layer replaces by a directory hides nothing."""
        here = self.root
        for depth, part in enumerate(path):
            match here.children.get(part):
                case Directory() as node:
                    here = node
                case Symlink() if path[: depth + 1] not in directories:
                    raise LayerError(f"{show(path)}: a whiteout behind a symbolic link")
                case _:
                    return None
        return here

    def _add(self, path: Path, entry: Entry, spool: int) -> None:
        if not path:
            if entry.kind is not Kind.DIRECTORY:
                raise LayerError("the root is not a directory")
            _dress(self.root, entry)
            return
        # 1. names
        parent = self.walk(path[:-1], create=True)
        if parent is None:
            raise LayerError(f"{show(path)}: has no directory to lie in")
        name, there = path[-1], parent.children.get(path[-1])
        match entry.kind:
            case Kind.DIRECTORY:
                directory = there if isinstance(there, Directory) else Directory()
                _dress(directory, entry)
                parent.children[name] = directory
            case Kind.FILE:
                mode = entry.mode & _PERMISSIONS  # 4. no set-ID bits
                parent.children[name] = File(mode, entry.uid, entry.gid, spool, entry.offset, entry.size)
            case Kind.SYMLINK:
                parent.children[name] = Symlink(entry.link, entry.uid, entry.gid)
            case Kind.HARD_LINK:
                parent.children[name] = self._linked(path, entry.link)
            case Kind.CHARACTER_DEVICE | Kind.BLOCK_DEVICE | Kind.FIFO:
                raise LayerError(f"{show(path)}: a {entry.kind.name.lower().replace('_', ' ')}")
            case _:
                assert_never(entry.kind)

    def _linked(self, path: Path, link: bytes) -> File:
        # 3. hard links
        target = parts_of(link)
        parent = self.walk(target[:-1], create=False) if target else None
        found = parent.children.get(target[-1]) if parent is not None else None
        if not isinstance(found, File):
            raise LayerError(f"{show(path)}: a hard link to {show(target)}, which is not a regular file of the image")
        return found


def _check_whiteout(path: Path, entry: Entry) -> None:
    name, hidden = path[-1], path[-1].removeprefix(_WHITEOUT)
    known = name == _OPAQUE or (hidden not in {b"", b".", b".."} and not hidden.startswith(_WHITEOUT))
    above = any(part.startswith(_WHITEOUT) for part in path[:-1])
    if above or not known or entry.kind is not Kind.FILE or entry.size:
        raise LayerError(f"{show(path)}: a whiteout of another form than an empty file .wh.NAME")


def _dress(directory: Directory, entry: Entry) -> None:
    directory.mode = entry.mode & (_PERMISSIONS | _STICKY)
    directory.uid, directory.gid = entry.uid, entry.gid


def nodes(root: Directory) -> Iterator[tuple[Path, Node]]:
    """Everything in a tree, parents first, sorted by name."""
    waiting: list[tuple[Path, Node]] = [((), root)]
    while waiting:
        path, node = waiting.pop()
        yield path, node
        if isinstance(node, Directory):
            waiting += [((*path, name), node.children[name]) for name in sorted(node.children, reverse=True)]
