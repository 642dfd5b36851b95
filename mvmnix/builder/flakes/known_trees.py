"""Remembers which tree a commit has, and finds that tree in a work tree without git; writes to mvm's cache alone.

git's objects are read in a sandbox, and each is hashed (git.py). Of a commit for which that was done, while work tree
and index had its files, an entry says: the commit's name, the digest of the index, the NAR digest of the tree, the
paths of its files. From then on the tree is found where

1. HEAD names that commit (`Found.head`),
2. the index has the bytes that it had, and
3. the files at those paths, read now and through no link, make a tree with that NAR digest.

An entry is a hint. Whatever it says, a tree that is found is one of the bytes that lie in the work tree now: a forged
entry has uncommitted files pass for a commit's, and nothing else pass for them. So a tree that is found serves to look
for a finished image of it, and to nothing that names its commit: a build reads the objects.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mvmnix.builder.flakes.file_reader import FileReader
from mvmnix.builder.flakes.repository import found_repository
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError
from mvmnix.formats import nar
from mvmnix.system.private_dirs import Directory

#: Bytes of an entry; that of 1,900 files takes 80 KiB. There are 256 entries at most: a repository has the one whose
#: name is the beginning of its path's digest, and shares it with those whose digests begin alike.
_MAX_ENTRY: Final = 16 << 20
_NAME: Final = 2
#: How an entry begins: commit, digest of the index, NAR digest, bytes of all files. Paths follow, each with a NUL.
_HEAD: Final = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{64}) ([0-9a-f]{64}) ([0-9]{1,9})\n")


@dataclass(frozen=True, slots=True)
class Entry:
    """A commit's tree, when its objects were hashed, and work tree and index had the same files.

    `index` is the digest of the index (`Found.index`), `digest` the NAR digest of the tree; `size` are the bytes of all
    its files, `paths` their paths.
    """

    commit: str
    index: Digest
    digest: Digest
    size: int
    paths: tuple[bytes, ...]

    @classmethod
    def of(cls, commit: str, index: Digest, digest: Digest, tree: nar.Dir) -> Self:
        """The entry of a commit's tree, which has this NAR digest."""
        files = dict(_nodes(tree, b""))
        size = sum(node.size for node in files.values() if isinstance(node, nar.File))
        return cls(commit, index, digest, size, tuple(files))

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        """Return what an entry's file says; None where it is broken."""
        head = _HEAD.match(data)
        if head is None or not data.endswith(b"\0"):
            return None
        commit, index, digest, size = (text.decode() for text in head.groups())
        return cls(commit, Digest(index), Digest(digest), int(size), tuple(data[head.end() : -1].split(b"\0")))

    def to_bytes(self) -> bytes:
        """Return what its file says."""
        head = f"{self.commit} {self.index.hex} {self.digest.hex} {self.size}\n".encode()
        return head + b"".join(path + b"\0" for path in self.paths)


@dataclass(frozen=True, slots=True)
class FoundTree:
    """The tree that was found in the work tree `top`, in memory, and its NAR digest."""

    top: Path
    tree: nar.Dir
    digest: Digest


class KnownTrees:
    """The entries in a directory of mvm's cache."""

    def __init__(self, directory: Directory) -> None:
        """The directory belongs to the caller, who closes it."""
        self._directory = directory

    def note(self, top: Path, entry: Entry) -> None:
        """Keep the entry of the repository with this work tree; it takes the place of an older one."""
        data = entry.to_bytes()
        if len(data) <= _MAX_ENTRY:
            self._directory.write_atomic(_name(top), data)

    def find(self, where: Path) -> FoundTree | None:
        """The tree of HEAD's commit, in the work tree around an absolute directory; None where git has to say.

        Raises RefusedError [flake-unsupported] where there is no repository.
        """
        with found_repository(where) as repository:
            entry = self._entry(repository.top)
            # 1. HEAD, 2. the index
            if entry is None or (entry.commit, entry.index) != (repository.head(), repository.index):
                return None
            # 3. the files
            tree = _read(repository.tree, entry)
            return None if tree is None else FoundTree(repository.top, tree, entry.digest)

    def _entry(self, top: Path) -> Entry | None:
        try:
            return Entry.parse(self._directory.read(_name(top), _MAX_ENTRY))
        except (FileNotFoundError, MvmnixError):
            return None


def _read(top: int, entry: Entry) -> nar.Dir | None:
    """3. What lies at the entry's paths beneath a directory, where it is the entry's tree."""
    try:
        tree = nar.tree_of_paths(_files(top, entry))
    except (OSError, ValueError):  # what can't be read, or has no place in a tree
        return None
    digest, _ = nar.nar_hash(nar.nar_of_tree(tree))
    return tree if digest == entry.digest else None


def _files(top: int, entry: Entry) -> Iterator[tuple[list[bytes], nar.Node]]:
    """The entry's files, of no more bytes than they had together. Raises OSError."""
    left = entry.size
    with FileReader(top) as reader:
        for path in entry.paths:
            parts = path.split(b"/")
            node = reader.read(parts, left)
            left -= node.size if isinstance(node, nar.File) else 0
            yield parts, node


def _name(top: Path) -> str:
    return Digest.of(os.fsencode(top)).hex[:_NAME]


def _nodes(node: nar.Dir, above: bytes) -> Iterator[tuple[bytes, nar.Node]]:
    """All files and symbolic links in a directory, by their paths after `above`."""
    for name, inner in node.entries.items():
        if isinstance(inner, nar.Dir):
            yield from _nodes(inner, above + name + b"/")
        else:
            yield above + name, inner
