"""The Nix archive format: file trees to the one byte stream that Nix hashes, and back; pure, no I/O.

Nix manual, "Nix Archive (NAR) Format". A NAR knows regular files with an executable bit, symbolic links and
directories; no owner, time or other mode. Entries are sorted by the bytes of their names, so a tree has one NAR.

>>> digest, size = nar_hash(nar_of_tree(Dir({b"hello": File.of(b"hi")})))
>>> digest.sri, size
('sha256-vcvDDv89d1+qXJq/tRFxfMuHDAROYpMdPm3tFfvnzKg=', 288)
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self, assert_never

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError
from mvmnix.formats.strict import MalformedError

_ALIGNMENT = 8
#: Files, links and directories of all archives of one export.
MAX_NODES = 1 << 20
#: Levels of directories that are read.
_MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class File:
    """A regular file of `size` bytes; `open` gives them in chunks of any size, from the start at each call."""

    size: int
    open: Callable[[], Iterable[bytes]]
    executable: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.size < 2**63:
            raise ValueError(f"no file has {self.size} bytes")

    @classmethod
    def of(cls, data: bytes, *, executable: bool = False) -> Self:
        """A file with these bytes."""
        return cls(len(data), lambda: (data,), executable)


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link; `target` is kept as it is and never followed."""

    target: bytes

    def __post_init__(self) -> None:
        if not self.target or b"\0" in self.target:
            raise ValueError(f"not the target of a symbolic link: {self.target!r}")


@dataclass(frozen=True, slots=True)
class Dir:
    """A directory: names (bytes of one path component each) and what they stand for; iterates in the order of a NAR."""

    entries: "Mapping[bytes, Node]"

    def __post_init__(self) -> None:
        for name in self.entries:
            if not name or name in {b".", b".."} or b"/" in name or b"\0" in name:
                raise ValueError(f"not a name in a directory: {name!r}")
        object.__setattr__(
            self, "entries", MappingProxyType(dict(sorted(self.entries.items(), key=lambda entry: entry[0])))
        )


type Node = File | Symlink | Dir
#: What an archive may hold at its top: any node.
type Tree = Node


def nar_of_tree(tree: Tree) -> Iterator[bytes]:
    """The archive of a tree, in chunks. Raises MvmnixError when a file's bytes are not as many as its size says."""
    yield _MAGIC
    yield from _node(tree)


def nar_of_file(size: int, chunks: Iterable[bytes], *, executable: bool = False) -> Iterator[bytes]:
    """The archive of a single regular file. Raises MvmnixError when `chunks` hold more or less than `size` bytes."""
    yield from nar_of_tree(File(size, lambda: chunks, executable))


def nar_hash(chunks: Iterable[bytes | memoryview]) -> tuple[Digest, int]:
    """The digest (Nix's narHash) and size in bytes (NarSize) of an archive."""
    hasher = hashlib.sha256()
    size = 0
    for chunk in chunks:
        hasher.update(chunk)
        size += len(chunk)
    return Digest(hasher.hexdigest()), size


def tree_of_paths(files: "Iterable[tuple[Sequence[bytes], Node]]") -> Dir:
    """Return the tree of nodes at these paths, of one component at least. Raises ValueError where one lies in a file.

    >>> tree_of_paths([((b"a", b"b"), Symlink(b"c"))]) == Dir({b"a": Dir({b"b": Symlink(b"c")})})
    True
    """
    root: _Entries = {}
    for path, node in files:
        here = root
        for name in path[:-1]:
            inner = here.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ValueError(f"{path!r} lies in a file")  # noqa: TRY004 - a path is wrong, no type
            here = inner
        here[path[-1]] = node
    return _directory(root)


#: A directory while it is put together.
type _Entries = dict[bytes, Node | _Entries]


def _directory(entries: _Entries) -> Dir:
    return Dir({name: _directory(node) if isinstance(node, dict) else node for name, node in entries.items()})


def tree_of_nar(archive: bytes) -> Tree:
    """The tree in an archive, whose files keep its bytes. Raises MalformedError for one that Nix would not write.

    >>> tree_of_nar(b"".join(nar_of_tree(Dir({b"a": Symlink(b"b")})))) == Dir({b"a": Symlink(b"b")})
    True
    """
    reader = Reader(archive)
    reader.expect(_MAGIC)
    tree = reader.node(0)
    reader.expect_end()
    return tree


def _padding(size: int) -> bytes:
    return bytes(-size % _ALIGNMENT)


def text(data: bytes) -> bytes:
    """Return `str(s)` of the grammar: length as 64 bits little-endian, bytes, zeros up to a multiple of 8."""
    return len(data).to_bytes(8, "little") + data + _padding(len(data))


def _strings(*parts: bytes) -> bytes:
    return b"".join(map(text, parts))


_MAGIC = text(b"nix-archive-1")
_FILE = _strings(b"(", b"type", b"regular", b"contents")
_EXECUTABLE = _strings(b"(", b"type", b"regular", b"executable", b"", b"contents")
_SYMLINK = _strings(b"(", b"type", b"symlink", b"target")
_DIRECTORY = _strings(b"(", b"type", b"directory")
_ENTRY = _strings(b"entry", b"(", b"name")
_VALUE = text(b"node")
_CLOSE = text(b")")


def _node(node: Node) -> Iterator[bytes]:
    match node:
        case File():
            yield (_EXECUTABLE if node.executable else _FILE) + node.size.to_bytes(8, "little")
            yield from _contents(node)
            yield _padding(node.size) + _CLOSE
        case Symlink():
            yield _SYMLINK + text(node.target) + _CLOSE
        case Dir():
            yield _DIRECTORY
            for name, child in node.entries.items():
                yield _ENTRY + text(name) + _VALUE
                yield from _node(child)
                yield _CLOSE
            yield _CLOSE
        case _:
            assert_never(node)


def _contents(file: File) -> Iterator[bytes]:
    left = file.size
    for chunk in file.open():
        left -= len(chunk)
        if left < 0:
            raise _changed(file, "more")
        yield chunk
    if left:
        raise _changed(file, f"{left} fewer")


def _changed(file: File, kind: str) -> MvmnixError:
    return MvmnixError(
        f"a file of {file.size} bytes gave {kind} bytes while it was read", hint="keep it still, and try again"
    )


class Reader:
    """Reads an archive, or what else is written as one, from its beginning, one token after the other.

    All methods raise MalformedError where something else follows than they read.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0
        self._nodes = 0

    def archive(self) -> memoryview:
        """Read a whole archive, of which nothing is kept in memory."""
        begin = self._at
        self.expect(_MAGIC)
        self._pass_node(0)
        return self._data[begin : self._at]

    def _pass_node(self, depth: int) -> None:
        self._nodes += 1
        if depth > _MAX_DEPTH:
            raise MalformedError(f"it is nested deeper than {_MAX_DEPTH} directories")
        if self._nodes > MAX_NODES:
            raise MalformedError(f"it has more than {MAX_NODES} files")
        if self._took(_DIRECTORY):
            last = b""
            while self._took(_ENTRY):
                last = self._entry_name(last)
                self.expect(_VALUE)
                self._pass_node(depth + 1)
                self.expect(_CLOSE)
        elif self._took(_EXECUTABLE) or self._took(_FILE):
            self._pass_string()
        else:
            self._symlink()
        self.expect(_CLOSE)

    def node(self, depth: int) -> Node:
        """Read a node of an archive, at this depth in it."""
        if depth > _MAX_DEPTH:
            raise MalformedError(f"it is nested deeper than {_MAX_DEPTH} directories")
        executable = self._took(_EXECUTABLE)
        if executable or self._took(_FILE):
            return self._closed(File.of(self.string(), executable=executable))
        if self._took(_DIRECTORY):
            return Dir(dict(self._entries(depth)))
        return self._closed(self._symlink())

    def _symlink(self) -> Symlink:
        self.expect(_SYMLINK)
        try:
            return Symlink(self.string())
        except ValueError as error:
            raise MalformedError(str(error)) from error

    def _entries(self, depth: int) -> Iterator[tuple[bytes, Node]]:
        last = b""
        while self._took(_ENTRY):
            last = self._entry_name(last)
            self.expect(_VALUE)
            yield last, self._closed(self.node(depth + 1))
        self.expect(_CLOSE)

    def _entry_name(self, last: bytes) -> bytes:
        name = self.string()
        if name <= last or name in {b".", b".."} or b"/" in name or b"\0" in name:
            raise MalformedError(f"a directory has the entry {name[:300]!r} after {last[:300]!r}")
        return name

    def _closed[T](self, node: T) -> T:
        self.expect(_CLOSE)
        return node

    def plain_file(self) -> bytes:
        """Read an archive that is a file which isn't executable."""
        self.expect(_MAGIC + _FILE)
        return self._closed(self.string())

    def number(self) -> int:
        """Read a number: 64 bits, little-endian."""
        begin = self._at
        self._at += 8
        if self._at > len(self._data):
            raise MalformedError(f"it is cut off in the number at byte {begin}")
        return int.from_bytes(self._data[begin : self._at], "little")

    def expect(self, token: bytes) -> None:
        """Read this token."""
        if not self._took(token):
            raise MalformedError(f"it is not an archive at byte {self._at}")

    @property
    def is_at_end(self) -> bool:
        """Whether nothing is left to read."""
        return self._at == len(self._data)

    def expect_end(self) -> None:
        """Read the end."""
        if not self.is_at_end:
            raise MalformedError(f"something follows its end at byte {self._at}")

    def _took(self, token: bytes) -> bool:
        found = self._data[self._at : self._at + len(token)] == token
        self._at += len(token) if found else 0
        return found

    def string(self) -> bytes:
        """Read a text: its length, its bytes, and zeros up to a multiple of 8."""
        return bytes(self._pass_string())

    def _pass_string(self) -> memoryview:
        begin = self._at + 8
        end = begin + self.number()
        if end > len(self._data):
            raise MalformedError(f"it is cut off in the string at byte {begin - 8}")
        self._at = end
        self.expect(_padding(end - begin))
        return self._data[begin:end]
