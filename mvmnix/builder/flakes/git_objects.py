"""Reads the tree of a commit out of one conversation with `git cat-file`, each object by its hash; starts nothing."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import IO, Final

from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.formats import nar
from mvmnix.sandbox import git

#: Bounds on a tree: directories and files in it, levels, bytes of its directories together.
MAX_ENTRIES: Final = 200_000
MAX_DEPTH: Final = 100
MAX_DIRECTORIES: Final = 64 << 20
#: Bytes of a commit.
MAX_COMMIT: Final = 1 << 20
#: Questions at a time, and as many ahead; so many fit into a pipe, whose reader then never waits for one that waits
#: for it.
_QUESTIONS: Final = 500
#: What objects of a kind are, for messages.
_WORDS: Final = {"commit": "lines of its commit", "tree": "directories", "blob": "files"}
#: A line of its answers is no longer, in bytes.
_LINE: Final = 256
#: What precedes an object's name in a tree object: mode in octal, a space, the name, a NUL.
_LISTED: Final = re.compile(rb"([0-7]{5,6}) ([^\0/]+)\0")
#: The bits of a mode that say what an entry is.
_TYPE: Final = 0o170000

#: A directory while it is put together.
type _Entries = dict[bytes, nar.Node | _Entries]


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One line of a tree object: type and permissions, the object's name in hexadecimal, the path from the root."""

    mode: int
    oid: str
    path: tuple[bytes, ...]

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link, whose target its object holds."""
        return self.mode & _TYPE == 0o120000

    @property
    def is_executable(self) -> bool:
        """Whether it is a file that its owner may execute; git knows no other permissions."""
        return not self.is_link and bool(self.mode & 0o100)


class ObjectReader:
    """Reads the tree of a commit out of one conversation with `git cat-file --batch-command --buffer`; starts nothing.

    A repository's objects can lie under names that their bytes don't hash to, and small objects can stand for endless
    trees. So no object's name is trusted: each object is hashed (git(1): gitformat-pack, "object names"), its size is
    asked before it is read, and everything is counted.
    """

    def __init__(self, to: IO[bytes], heard: IO[bytes], where: str) -> None:
        """`to` is its standard input, unbuffered, and `heard` its standard output; `where` is for messages."""
        self._to, self._heard, self._where = to, heard, where

    def head(self) -> bytes:
        """What git says of HEAD: the line `<oid> <kind> <size>`, or another. Raises EOFError where git gave up."""
        self._ask("info", ("HEAD",))
        return self._line()

    def tree(self, commit: str, limit: int, seen: Callable[[TreeEntry, bytes], None]) -> nar.Dir:
        """The tree of a commit. Refuses more than `limit` bytes of files; raises EOFError where git gave up.

        `seen` is called with each file and its content, by paths, while git reads the next ones.
        """
        listed = list(self._listed(commit))
        files = sorted((entry for entry in listed if not _is_directory(entry)), key=lambda entry: entry.path)
        for entry in files:
            self._check_mode(entry)
        answers = self._contents("blob", self._checked_sizes(files, limit))
        root: _Entries = {}
        for entry in listed:
            if _is_directory(entry):
                self._place(root, entry, {})
        contents: dict[str, bytes] = {}
        for entry in files:
            while entry.oid not in contents:  # it is the next one that was asked for
                contents.update((next(answers),))
            seen(entry, contents[entry.oid])
            self._place(root, entry, self._node(entry, contents[entry.oid]))
        return self._directory(root)

    def _listed(self, commit: str) -> Iterator[TreeEntry]:
        """All that the tree holds, level by level; a directory comes before what is in it."""
        data = self._objects("commit", [commit], MAX_COMMIT)[commit]
        root = re.match(rb"tree ([0-9a-f]{40}|[0-9a-f]{64})\n", data)
        if root is None:
            raise self._unsupported("its commit names no tree", "git fsck")
        level, count, left = [TreeEntry(0o40000, root[1].decode(), ())], 0, MAX_DIRECTORIES
        for _ in range(MAX_DEPTH):
            objects = self._objects("tree", [entry.oid for entry in level], left, MAX_DIRECTORIES)
            left -= sum(map(len, objects.values()))
            below = []
            for parent in level:
                for entry in self._entries(parent, objects[parent.oid]):
                    count += 1
                    if count > MAX_ENTRIES:
                        raise self._unsupported(f"its tree has more than {MAX_ENTRIES} entries", "use a smaller tree")
                    below.append(entry)
            yield from below
            level = [entry for entry in below if _is_directory(entry)]
            if not level:
                return
        raise self._unsupported(f"its tree is nested deeper than {MAX_DEPTH} directories", "flatten it")

    def _entries(self, parent: TreeEntry, data: bytes) -> Iterator[TreeEntry]:
        """What a tree object lists: mode in octal, a space, the name, a NUL, the object's name in bytes."""
        size, at = len(parent.oid) // 2, 0
        while at < len(data):
            head = _LISTED.match(data, at)
            if head is None or head[2] in {b".", b".."} or head.end() + size > len(data):
                raise self._unsupported("a directory of its tree is malformed", "git fsck")
            at = head.end() + size
            yield TreeEntry(int(head[1], 8), data[head.end() : at].hex(), (*parent.path, head[2]))

    def _checked_sizes(self, files: Sequence[TreeEntry], limit: int) -> dict[str, int]:
        """By name, the sizes of the files' objects, in the order of the files; together not more than `limit` bytes."""
        sizes = self._sizes("blob", [entry.oid for entry in files])
        found: dict[str, int] = {}
        total = 0
        for entry in files:
            size = sizes[entry.oid]
            if size is None:
                raise self._unsupported(f"the object of {_entry_path(entry)} is missing", "git fsck")
            found[entry.oid] = size
            total += size
        if total > limit:
            raise self._unsupported(f"its tree is larger than {limit} bytes", "leave build products out of it")
        return found

    def _sizes(self, kind: str, oids: Iterable[str]) -> dict[str, int | None]:
        """By name, the size of an object of that kind; None where there is none."""
        found: dict[str, int | None] = {}
        for oid in self._asked("info", oids):
            found[oid] = self._head(kind, oid)
        return found

    def _objects(self, kind: str, oids: Iterable[str], limit: int, most: int = 0) -> dict[str, bytes]:
        """The bytes of objects by name, hashed. Their sizes are asked first: together not more than `limit` bytes.

        `most` is the bound for messages, where some of it was taken already.
        """
        sizes: dict[str, int] = {}
        for oid, size in self._sizes(kind, oids).items():
            if size is None:
                raise self._missing(kind, oid)
            sizes[oid] = size
        if sum(sizes.values()) > limit:
            raise self._unsupported(f"its {_WORDS[kind]} have more than {most or limit} bytes", "git fsck")
        return dict(self._contents(kind, sizes))

    def _contents(self, kind: str, sizes: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        """The names and bytes of objects with these sizes, each hashed, in this order."""
        for oid in self._asked("contents", sizes):
            size = self._head(kind, oid)
            if size is None or size != sizes[oid]:
                raise self._missing(kind, oid)
            data = self._exactly(size)
            if self._exactly(1) != b"\n" or git.object_name(kind, data, sha256=len(oid) == 64) != oid:
                raise self._unsupported(f"the bytes of {kind} {oid} are others than its name says", "git fsck")
            yield oid, data

    def _asked(self, question: str, oids: Iterable[str]) -> Iterator[str]:
        """Ask about each object once; its answer is the next to be read. git is never without a question meanwhile."""
        left = batched(dict.fromkeys(oids), _QUESTIONS, strict=False)
        now = self._ask(question, next(left, ()))
        while now:
            ahead = self._ask(question, next(left, ()))
            yield from now
            now = ahead

    def _ask(self, question: str, oids: tuple[str, ...]) -> tuple[str, ...]:
        if oids:
            self._to.write(b"".join(f"{question} {oid}\n".encode() for oid in oids) + b"flush\n")
        return oids

    def _head(self, kind: str, oid: str) -> int | None:
        """The line `<oid> <kind> <size>`: the size, None for one of another kind or none."""
        match self._line().split(b" "):
            case [name, what, size] if (name, what) == (oid.encode(), kind.encode()) and size.isdigit():
                return int(size)
        return None

    def _line(self) -> bytes:
        line = self._heard.readline(_LINE)
        if not line.endswith(b"\n"):
            raise EOFError("git gave up")
        return line[:-1]

    def _exactly(self, size: int) -> bytes:
        data = self._heard.read(size)
        if len(data) != size:
            raise EOFError("git gave up")
        return data

    def _missing(self, kind: str, oid: str) -> RefusedError:
        return self._unsupported(f"there is no {kind} {oid}, which it names", "git fsck")

    def _check_mode(self, entry: TreeEntry) -> None:
        match entry.mode & _TYPE:
            case 0o100000 | 0o120000:
                return
            case 0o160000:
                hint = "vendor the submodule's files, or make it an input of the flake"
                raise self._unsupported(f"{_entry_path(entry)} is a submodule", hint)
            case _:
                raise self._unsupported(f"{_entry_path(entry)} has the unusual git mode {entry.mode:06o}", "git fsck")

    def _node(self, entry: TreeEntry, content: bytes) -> nar.Node:
        if entry.mode & _TYPE == 0o100000:
            return nar.File.of(content, executable=bool(entry.mode & 0o100))
        try:
            return nar.Symlink(content)
        except ValueError as error:
            raise self._unsupported(f"{_entry_path(entry)}: {error}", "git fsck") from error

    def _place(self, root: _Entries, entry: TreeEntry, node: "nar.Node | _Entries") -> None:
        here = root
        for name in entry.path[:-1]:
            inner = here[name]
            if not isinstance(inner, dict):
                raise self._unsupported(f"{_entry_path(entry)} lies in a file", "git fsck")
            here = inner
        if entry.path[-1] in here:
            raise self._unsupported(f"{_entry_path(entry)} is listed twice", "git fsck")
        here[entry.path[-1]] = node

    def _directory(self, entries: _Entries) -> nar.Dir:
        return nar.Dir(
            {name: self._directory(node) if isinstance(node, dict) else node for name, node in entries.items()}
        )

    def _unsupported(self, why: str, hint: str) -> RefusedError:
        return refuse(ReasonCode.FLAKE_UNSUPPORTED, self._where, why, hint)


def _is_directory(entry: TreeEntry) -> bool:
    return entry.mode & _TYPE == 0o40000


def _entry_path(entry: TreeEntry) -> str:
    return b"/".join(entry.path).decode(errors="backslashreplace")
