"""Reads a commit out of a git repository as plain data; runs no filter, hook or monitor, believes no object's name.

A repository is as hostile as the flake in it: its configuration names programs, its objects can lie under names that
their bytes don't hash to, and small objects can stand for endless trees. So whatever could be run is switched off,
every object is hashed (git(1): gitformat-pack, "object names"), and everything is counted.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mvmnix import nar, process
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.sandbox.trusted_executables import GIT, locate

#: Bounds on a tree: directories and files in it, levels.
MAX_ENTRIES: Final = 200_000
MAX_DEPTH: Final = 100

#: Git as a reader of objects: no hooks, no monitor, no user or system configuration, no prompts, no downloads, and no
#: other object in place of the one that was asked for (git-replace(1)).
_OPTIONS: Final = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "--no-optional-locks")
_ENVIRONMENT: Final = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "LC_ALL": "C",
}
#: The bits of a mode that say what an entry is.
_TYPE: Final = 0o170000
_FILTERS: Final = r"^filter\..*\.(clean|smudge|process|required)$"

#: A directory while it is put together.
type _Entries = dict[bytes, nar.Node | _Entries]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line of a tree object: type and permissions, the object's name in hexadecimal, the path from the root."""

    mode: int
    oid: str
    path: tuple[bytes, ...]


class WorkTree:
    """The git work tree around a directory. Raises RefusedError FLAKE_UNSUPPORTED where there is none."""

    def __init__(self, where: Path) -> None:
        self._where = where
        try:
            self.top = Path(os.fsdecode(self._git("rev-parse", "--show-toplevel").removesuffix(b"\n")))
            self.commit = self._git("rev-parse", "--verify", "HEAD^{commit}").decode().strip()
        except process.ProcessError as error:
            why = f"it is not a git work tree with a commit: {error.done.stderr.decode(errors='replace').strip()}"
            raise self._unsupported(why, f"commit it, or take it as an uncommitted copy: path:{where}") from error
        if not where.is_relative_to(self.top):
            raise self._unsupported(f"its git configuration says that it is part of {self.top}", "unset core.worktree")

    def changes(self) -> tuple[str, ...]:
        """The names of tracked files that differ from the commit, as they lie there or in the index, sorted."""
        arguments = ("--porcelain=v1", "-z", "--no-renames", "--untracked-files=no", "--ignore-submodules=dirty")
        said = self._git("status", *arguments, environment=self._without_filters())
        return tuple(sorted(entry[3:].decode(errors="replace") for entry in said.split(b"\0") if entry))

    def tree(self, limit: int) -> nar.Dir:
        """The tree of the commit, from its objects alone, each hashed. Refuses more than `limit` bytes of files."""
        listed = list(self._listed())
        files = [entry for entry in listed if not _is_directory(entry)]
        for entry in files:
            self._check_mode(entry)
        self._check_sizes(files, limit)
        contents = self._objects("blob", [entry.oid for entry in files])
        root: _Entries = {}
        for entry in listed:
            if _is_directory(entry):
                self._place(root, entry, {})
            else:
                self._place(root, entry, self._node(entry, contents[entry.oid]))
        return self._directory(root)

    def _git(self, *arguments: str, input_: bytes = b"", environment: Mapping[str, str] | None = None) -> bytes:
        return _run(self._where, *arguments, input_=input_, environment=environment)

    def _without_filters(self) -> dict[str, str]:
        """Configuration, by way of the environment, in which the repository's filters (gitattributes(5)) are none."""
        try:
            names = self._git("config", "--null", "--name-only", "--get-regexp", _FILTERS).split(b"\0")
        except process.ProcessError as error:
            if error.done.status == 1:  # git-config(1): nothing matches
                return {}
            raise
        found = sorted({os.fsdecode(name) for name in names if name})
        pairs = [(name, "false" if name.endswith(".required") else "") for name in found]
        settings = {"GIT_CONFIG_COUNT": str(len(pairs))}
        for number, (name, value) in enumerate(pairs):
            settings |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        return settings

    def _listed(self) -> Iterator[_Entry]:
        """All that the tree holds, level by level; a directory comes before what is in it."""
        commit = self._objects("commit", [self.commit])[self.commit]
        root = re.match(rb"tree ([0-9a-f]{40}|[0-9a-f]{64})\n", commit)
        if root is None:
            raise self._unsupported("its commit names no tree", "git fsck")
        level, count = [_Entry(0o40000, root[1].decode(), ())], 0
        for _ in range(MAX_DEPTH):
            objects = self._objects("tree", [entry.oid for entry in level])
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
            head = re.compile(rb"([0-7]{5,6}) ([^\0/]+)\0").match(data, at)
            if head is None or head[2] in {b".", b".."} or head.end() + size > len(data):
                raise self._unsupported("a directory of its tree is malformed", "git fsck")
            at = head.end() + size
            yield _Entry(int(head[1], 8), data[head.end() : at].hex(), (*parent.path, head[2]))

    def _check_sizes(self, files: Sequence[_Entry], limit: int) -> None:
        asked = list(dict.fromkeys(entry.oid for entry in files))
        said = self._git("cat-file", "--batch-check=%(objectsize)", input_=_lines(asked)).splitlines()
        sizes = dict(zip(asked, said, strict=True))
        total = 0
        for entry in files:
            if not sizes[entry.oid].isdigit():
                raise self._unsupported(f"the object of {_text(entry)} is missing", "git fsck")
            total += int(sizes[entry.oid])
        if total > limit:
            hint = "leave build products out of it"
            raise self._unsupported(f"its tree is larger than {limit} bytes", hint)

    def _objects(self, kind: str, oids: Sequence[str]) -> dict[str, bytes]:
        """The bytes of objects by name, hashed; git-cat-file(1) says a line `<oid> <kind> <size>`, them, a newline."""
        wanted = list(dict.fromkeys(oids))
        stream = self._git("cat-file", "--batch", input_=_lines(wanted))
        found, at = {}, 0
        for oid in wanted:
            head = re.compile(rb"%s %s ([0-9]+)\n" % (oid.encode(), kind.encode())).match(stream, at)
            if head is None:
                raise self._unsupported(f"there is no {kind} {oid}, which it names", "git fsck")
            at = head.end() + int(head[1]) + 1
            data = stream[head.end() : at - 1]
            if _name(kind, data, len(oid)) != oid:
                raise self._unsupported(f"the bytes of {kind} {oid} are others than its name says", "git fsck")
            found[oid] = data
        return found

    def _check_mode(self, entry: _Entry) -> None:
        match entry.mode & _TYPE:
            case 0o100000 | 0o120000:
                return
            case 0o160000:
                hint = "vendor the submodule's files, or make it an input of the flake"
                raise self._unsupported(f"{_text(entry)} is a submodule", hint)
            case _:
                raise self._unsupported(f"{_text(entry)} has the unusual git mode {entry.mode:06o}", "git fsck")

    def _node(self, entry: _Entry, content: bytes) -> nar.Node:
        if entry.mode & _TYPE == 0o100000:
            return nar.File.of(content, executable=bool(entry.mode & 0o100))
        try:
            return nar.Symlink(content)
        except ValueError as error:
            raise self._unsupported(f"{_text(entry)}: {error}", "git fsck") from error

    def _place(self, root: _Entries, entry: _Entry, node: "nar.Node | _Entries") -> None:
        here = root
        for name in entry.path[:-1]:
            inner = here[name]
            if not isinstance(inner, dict):
                raise self._unsupported(f"{_text(entry)} lies in a file", "git fsck")
            here = inner
        if entry.path[-1] in here:
            raise self._unsupported(f"{_text(entry)} stands there twice", "git fsck")
        here[entry.path[-1]] = node

    def _directory(self, entries: _Entries) -> nar.Dir:
        return nar.Dir(
            {name: self._directory(node) if isinstance(node, dict) else node for name, node in entries.items()}
        )

    def _unsupported(self, why: str, hint: str) -> RefusedError:
        return refuse(ReasonCode.FLAKE_UNSUPPORTED, str(self._where), why, hint)


def tracked(where: Path) -> tuple[Path, tuple[bytes, ...]]:
    """The top of the work tree around a directory, and the paths from there of the files in its index.

    No commit is needed. Raises RefusedError FLAKE_UNSUPPORTED where there is no work tree.
    """
    try:
        top = Path(os.fsdecode(_run(where, "rev-parse", "--show-toplevel").removesuffix(b"\n")))
        listed = _run(top, "ls-files", "--cached", "-z").split(b"\0")
    except process.ProcessError as error:
        why = f"it is not a git work tree: {error.done.stderr.decode(errors='replace').strip()}"
        raise refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), why, f"take it as a copy: path:{where}") from error
    if not where.is_relative_to(top):
        why = f"its git configuration says that it is part of {top}"
        raise refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), why, "unset core.worktree")
    return top, tuple(sorted({name for name in listed if name}))


def _run(where: Path, *arguments: str, input_: bytes = b"", environment: Mapping[str, str] | None = None) -> bytes:
    env = process.environment((), _ENVIRONMENT | dict(environment or {}))
    return process.run((locate(GIT), *_OPTIONS, "-C", str(where), *arguments), env=env, input_=input_).stdout


def _is_directory(entry: _Entry) -> bool:
    return entry.mode & _TYPE == 0o40000


def _lines(oids: Sequence[str]) -> bytes:
    return "".join(f"{oid}\n" for oid in oids).encode()


def _name(kind: str, data: bytes, digits: int) -> str:
    """An object's name: SHA-1, or SHA-256 in a repository of that format, over `<kind> <size>`, a NUL, the bytes."""
    digest = hashlib.sha256 if digits == 64 else hashlib.sha1
    return digest(b"%s %d\0" % (kind.encode(), len(data)) + data, usedforsecurity=False).hexdigest()


def _text(entry: _Entry) -> str:
    return b"/".join(entry.path).decode(errors="backslashreplace")
