"""Asks git, in the sandbox, about a repository of the user's: its commit, its changes, its tree; nothing is written.

A repository is as hostile as the flake in it: its configuration names programs, so git doesn't get it (repository.py),
and its objects are read by their hash alone (`ObjectReader`). git works where nothing can be reached.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import IO, Final

from mvmnix.builder.flakes.repository import Found, copy_of, found_repository
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.formats import nar
from mvmnix.sandbox import git
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import Bounds
from mvmnix.sandbox.trusted_executables import GIT, locate
from mvmnix.system import process
from mvmnix.system.child_causes import Cause

#: Bounds on a tree: directories and files in it, levels, bytes of its directories together.
MAX_ENTRIES: Final = 200_000
MAX_DEPTH: Final = 100
MAX_DIRECTORIES: Final = 64 << 20
#: Bytes of a commit.
MAX_COMMIT: Final = 1 << 20
#: Questions at a time; so many fit into a pipe, whose reader then never waits for one that waits for it.
_QUESTIONS: Final = 500
#: git-cat-file(1): what answers the questions here.
CONVERSATION: Final = ("cat-file", "--batch-command", "--buffer")
#: What objects of a kind are, for messages.
_WORDS: Final = {"commit": "lines of its commit", "tree": "directories", "blob": "files"}
#: A line of its answers is no longer, in bytes.
_LINE: Final = 256
#: What precedes an object's name in a tree object: mode in octal, a space, the name, a NUL.
_LISTED: Final = re.compile(rb"([0-7]{5,6}) ([^\0/]+)\0")
#: The bits of a mode that say what an entry is.
_TYPE: Final = 0o170000

_MIB: Final = 1 << 20
#: git maps packs, and takes objects apart in memory; a repository that needs more is refused.
_BOUNDS: Final = Bounds(seconds=300, room=256 * _MIB, memory=2048 * _MIB, output=64 * _MIB)
#: Prints what HEAD is: name, type, size.
_LOOK: Final = "printf 'HEAD\\n' | git cat-file --batch-check"
#: $1 the commit. The index has its own time again, for git compares the contents of files that are as new. A submodule
#: that it lists differs from the commit, which has none, and is taken out of the copy: git would enter it, and read its
#: configuration. An index also says which files are unchanged, by flags and by their times, so the files that are there
#: are compared with the commit once more, by their contents: by an index that knows nothing of them.
_CHANGES: Final = r"""
cd "$GIT_WORK_TREE"
if [ -e "$GIT_DIR/index" ]; then
  cp "$GIT_DIR/index" "$TMPDIR/index"
  touch -d "@$INDEX_TIME" "$TMPDIR/index"
  export GIT_INDEX_FILE="$TMPDIR/index"
fi
git ls-files --stage -z | sed -nz 's/^160000 [0-9a-f]* [0-3]\t//p' >"$TMPDIR/submodules"
if [ -s "$TMPDIR/submodules" ]; then
  sed -z 's/^/A  /' "$TMPDIR/submodules"
  git update-index -z --force-remove --stdin <"$TMPDIR/submodules"
fi
git status --porcelain=v1 -z --no-renames --untracked-files=no
export GIT_INDEX_FILE="$TMPDIR/new"
git read-tree "$1"
git status --porcelain=v1 -z --no-renames --untracked-files=no >"$TMPDIR/changes"
exec sed -z 's/^ D / M?/' "$TMPDIR/changes"
"""
#: What it puts before a file that the second index doesn't find there, as in a sparse checkout.
_NOT_FOUND: Final = b" M?"
_LIST: Final = r"""
cd "$GIT_WORK_TREE"
exec git ls-files --cached -z
"""
#: What no component of a tracked path is, in small letters (git: read-cache.c, verify_path).
_NO_FILES: Final = frozenset({b"", b".", b"..", b".git"})
#: What a repository is to blame for: git says so itself, or it takes more than git may have.
_ITS_OWN: Final = frozenset({Cause.OWN, Cause.MEMORY, Cause.FLOODED, Cause.LATE, Cause.DISK_FULL})
_TALK: Final = 'exec git "$@"'

#: A directory while it is put together.
type _Entries = dict[bytes, nar.Node | _Entries]


class WorkTree:
    """The git work tree around an absolute directory, as git describes it now: its `top`, its `commit`.

    Raises RefusedError [flake-unsupported] where there is none, MvmnixError without git.
    """

    def __init__(self, where: Path) -> None:
        self._where = where
        with found_repository(where) as repository:
            head = _said(repository, where, _LOOK)
        self.top = repository.top
        self.commit = self._committed(head)

    def changes(self) -> tuple[str, ...]:
        """The names (`os.fsdecode`) of tracked files that differ from the commit, in the tree or the index, sorted.

        For a repository whose tree was read: git has no bounds on what a tree stands for.
        """
        why = "git can't compare it with its commit"
        with found_repository(self._where) as repository, _blaming(self._where, why, "git status"):
            said = _sandbox(repository).script(_CHANGES, self.commit).stdout
        names = {
            entry[3:]
            for entry in said.split(b"\0")
            if entry and not (entry.startswith(_NOT_FOUND) and _is_absent(self.top, entry[3:]))
        }
        return tuple(sorted(map(os.fsdecode, names)))

    def tree(self, limit: int) -> nar.Dir:
        """The tree of the commit, from its objects alone, each hashed. Refuses more than `limit` bytes of files."""
        why = f"git can't read its objects, or not within {_BOUNDS.memory >> 20} MiB"
        with (
            found_repository(self._where) as repository,
            _blaming(self._where, why, "git fsck"),
            _sandbox(repository).talk(_TALK, *CONVERSATION) as (to, heard),
        ):
            return ObjectReader(to, heard, str(self._where)).tree(self.commit, limit)

    def _committed(self, head: bytes) -> str:
        match head.decode("ascii", "replace").split():
            case [oid, "commit", size] if int(size) <= MAX_COMMIT:
                return oid
            case [_, "commit", size]:
                hint = "make a commit with a shorter message"
                raise self._unsupported(f"its commit has {size} bytes, more than {MAX_COMMIT}", hint)
            case _:
                why = "it is not a git work tree with a commit: HEAD names none"
                raise self._unsupported(why, f"commit it, or take it as an uncommitted copy: {copy_of(self._where)}")

    def _unsupported(self, why: str, hint: str) -> RefusedError:
        return refuse(ReasonCode.FLAKE_UNSUPPORTED, str(self._where), why, hint)


def tracked_files(where: Path) -> tuple[Path, tuple[bytes, ...]]:
    """The top of the work tree around a directory, and the paths from there of the files in its index.

    No commit is needed. Raises RefusedError [flake-unsupported] where there is no work tree, and for paths that lead
    elsewhere or into a repository: git itself looks at a path when it is added, and takes an index as it is.
    """
    with found_repository(where) as repository:
        listed = _said(repository, where, _LIST)
    names = tuple(sorted({name for name in listed.split(b"\0") if name}))
    if (bad := next((name for name in names if _NO_FILES & {*name.lower().split(b"/")}), None)) is not None:
        why = f"its index lists {_text(bad)}, which is not a file of a work tree"
        raise refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), why, "make the index anew: git read-tree HEAD")
    return repository.top, names


def _said(repository: Found, where: Path, script: str) -> bytes:
    hint = f"commit it, or take it as an uncommitted copy: {copy_of(where)}"
    with _blaming(where, "it is not a git work tree with a commit", hint, frozenset({Cause.OWN})):
        return _sandbox(repository).script(script).stdout


@contextmanager
def _blaming(where: Path, why: str, hint: str, kinds: frozenset[Cause] = _ITS_OWN) -> Iterator[None]:
    """Refuse a repository for a git that fails in one of these ways."""
    try:
        yield
    except process.ProcessError as error:
        if error.kind not in kinds:
            raise
        cause = error.cause.strip() or f"it ended with status {error.done.status}, without a word"
        raise refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), f"{why}: {cause}", hint) from error


def _sandbox(repository: Found) -> Sandbox:
    locate(GIT)  # or it says what to install
    return Sandbox(repository.files, repository.environment, bounds=_BOUNDS)


def _is_absent(top: Path, name: bytes) -> bool:
    """Whether a file is simply missing: nothing stands in for it, as a link on the way does for what it leads to."""
    here = os.fsencode(top)
    for part in name.split(b"/"):
        here += b"/" + part
        try:
            if not stat.S_ISDIR(os.lstat(here).st_mode):
                return False
        except FileNotFoundError:
            return True
    return False


def _text(data: bytes) -> str:
    return data.decode(errors="replace").strip()


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line of a tree object: type and permissions, the object's name in hexadecimal, the path from the root."""

    mode: int
    oid: str
    path: tuple[bytes, ...]


class ObjectReader:
    """Reads the tree of a commit out of one conversation with `git cat-file --batch-command --buffer`; starts nothing.

    A repository's objects can lie under names that their bytes don't hash to, and small objects can stand for endless
    trees. So no object's name is trusted: each object is hashed (git(1): gitformat-pack, "object names"), its size is
    asked before it is read, and everything is counted.
    """

    def __init__(self, to: IO[bytes], heard: IO[bytes], where: str) -> None:
        """`to` is its standard input, unbuffered, and `heard` its standard output; `where` is for messages."""
        self._to, self._heard, self._where = to, heard, where

    def tree(self, commit: str, limit: int) -> nar.Dir:
        """The tree of a commit. Refuses more than `limit` bytes of files; raises EOFError where git gave up."""
        listed = list(self._listed(commit))
        files = [entry for entry in listed if not _is_directory(entry)]
        for entry in files:
            self._check_mode(entry)
        self._check_sizes(files, limit)
        contents = self._objects("blob", [entry.oid for entry in files], limit)
        root: _Entries = {}
        for entry in listed:
            if _is_directory(entry):
                self._place(root, entry, {})
            else:
                self._place(root, entry, self._node(entry, contents[entry.oid]))
        return self._directory(root)

    def _listed(self, commit: str) -> Iterator[_Entry]:
        """All that the tree holds, level by level; a directory comes before what is in it."""
        data = self._objects("commit", [commit], MAX_COMMIT)[commit]
        root = re.match(rb"tree ([0-9a-f]{40}|[0-9a-f]{64})\n", data)
        if root is None:
            raise self._unsupported("its commit names no tree", "git fsck")
        level, count, left = [_Entry(0o40000, root[1].decode(), ())], 0, MAX_DIRECTORIES
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

    def _entries(self, parent: _Entry, data: bytes) -> Iterator[_Entry]:
        """What a tree object lists: mode in octal, a space, the name, a NUL, the object's name in bytes."""
        size, at = len(parent.oid) // 2, 0
        while at < len(data):
            head = _LISTED.match(data, at)
            if head is None or head[2] in {b".", b".."} or head.end() + size > len(data):
                raise self._unsupported("a directory of its tree is malformed", "git fsck")
            at = head.end() + size
            yield _Entry(int(head[1], 8), data[head.end() : at].hex(), (*parent.path, head[2]))

    def _check_sizes(self, files: Sequence[_Entry], limit: int) -> None:
        sizes = self._sizes("blob", [entry.oid for entry in files])
        total = 0
        for entry in files:
            size = sizes[entry.oid]
            if size is None:
                raise self._unsupported(f"the object of {_entry_path(entry)} is missing", "git fsck")
            total += size
        if total > limit:
            raise self._unsupported(f"its tree is larger than {limit} bytes", "leave build products out of it")

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
        wanted = list(dict.fromkeys(oids))
        sizes = self._sizes(kind, wanted)
        for oid in wanted:
            if sizes[oid] is None:
                raise self._missing(kind, oid)
        if sum(size or 0 for size in sizes.values()) > limit:
            raise self._unsupported(f"its {_WORDS[kind]} have more than {most or limit} bytes", "git fsck")
        found = {}
        for oid in self._asked("contents", wanted):
            size = self._head(kind, oid)
            if size is None or size != sizes[oid]:
                raise self._missing(kind, oid)
            data = self._exactly(size)
            if self._exactly(1) != b"\n" or git.object_name(kind, data, sha256=len(oid) == 64) != oid:
                raise self._unsupported(f"the bytes of {kind} {oid} are others than its name says", "git fsck")
            found[oid] = data
        return found

    def _asked(self, question: str, oids: Iterable[str]) -> Iterator[str]:
        """Ask about each object once; its answer is the next to be read."""
        for some in batched(dict.fromkeys(oids), _QUESTIONS, strict=False):
            self._to.write(b"".join(f"{question} {oid}\n".encode() for oid in some) + b"flush\n")
            yield from some

    def _head(self, kind: str, oid: str) -> int | None:
        """The line `<oid> <kind> <size>`: the size, None for one of another kind or none."""
        line = self._heard.readline(_LINE)
        if not line.endswith(b"\n"):
            raise EOFError("git gave up")
        match line[:-1].split(b" "):
            case [name, what, size] if (name, what) == (oid.encode(), kind.encode()) and size.isdigit():
                return int(size)
        return None

    def _exactly(self, size: int) -> bytes:
        data = self._heard.read(size)
        if len(data) != size:
            raise EOFError("git gave up")
        return data

    def _missing(self, kind: str, oid: str) -> RefusedError:
        return self._unsupported(f"there is no {kind} {oid}, which it names", "git fsck")

    def _check_mode(self, entry: _Entry) -> None:
        match entry.mode & _TYPE:
            case 0o100000 | 0o120000:
                return
            case 0o160000:
                hint = "vendor the submodule's files, or make it an input of the flake"
                raise self._unsupported(f"{_entry_path(entry)} is a submodule", hint)
            case _:
                raise self._unsupported(f"{_entry_path(entry)} has the unusual git mode {entry.mode:06o}", "git fsck")

    def _node(self, entry: _Entry, content: bytes) -> nar.Node:
        if entry.mode & _TYPE == 0o100000:
            return nar.File.of(content, executable=bool(entry.mode & 0o100))
        try:
            return nar.Symlink(content)
        except ValueError as error:
            raise self._unsupported(f"{_entry_path(entry)}: {error}", "git fsck") from error

    def _place(self, root: _Entries, entry: _Entry, node: "nar.Node | _Entries") -> None:
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


def _is_directory(entry: _Entry) -> bool:
    return entry.mode & _TYPE == 0o40000


def _entry_path(entry: _Entry) -> str:
    return b"/".join(entry.path).decode(errors="backslashreplace")
