"""Takes the root tree of a flake as the user named it, a clean commit or an explicit copy, without evaluating it."""

import os
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from mvmnix.arguments import is_subdirectory
from mvmnix.builder.flakes.known_trees import Entry, KnownTrees
from mvmnix.builder.flakes.repository import copy_of
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, refuse
from mvmnix.formats import lock, nar
from mvmnix.formats.escaping import escape_bytes, shell_command
from mvmnix.model import FlakeRef, StorePath, store_name
from mvmnix.system.fs_tree import tree_of_directory

#: A root tree larger than this is refused, in bytes; it is held in memory while it is sent.
LIMIT = 512 * 1024 * 1024
#: Symbolic links on the way of one path; Linux follows as many (path_resolution(7)).
_MAX_LINKS = 40
#: Links followed in one tree, and components of their targets; one with more counts as read from top to bottom.
#: Linux's own sources have some 100 links. Entries are looked at once each: git_objects.MAX_ENTRIES at most.
_MAX_STEPS = 10_000
#: Bytes of a path, with a NUL (PATH_MAX). No longer target is followed; a tree with a longer path counts as read whole.
_MAX_PATH = 4096


@dataclass(frozen=True, slots=True)
class FlakeSource:
    """A root tree, taken once: its NAR in memory, and where in it the flake stands.

    `uri` labels it for provenance; `commit` is the git commit in hexadecimal, None for an uncommitted copy; `lock`
    the bytes of flake.lock, None where the flake has none. `changes_elsewhere` names files of the work tree that differ
    from the commit and that the flake doesn't read: the tree is the commit's all the same.
    """

    uri: str
    commit: str | None
    archive: bytes
    nar: Digest
    directory: str
    lock: bytes | None
    changes_elsewhere: tuple[str, ...] = ()

    @property
    def store_path(self) -> StorePath:
        """Where Nix puts the tree."""
        return StorePath.recursive("source", self.nar)


@dataclass(frozen=True, slots=True)
class FoundFlake:
    """A flake in a work tree that has a known tree: the tree's NAR digest, and the rest as in a FlakeSource."""

    nar: Digest
    directory: str
    lock: bytes | None


def find_flake(reference: FlakeRef, known: KnownTrees) -> FoundFlake | None:
    """The flake, where its root tree is known to be a commit's; None where `take_flake` has to look.

    It serves to look for a finished image, and not for a build (known_trees.py). Raises RefusedError
    [flake-unsupported] where there is no repository.
    """
    where = Path(reference.directory).resolve()
    if reference.copy or not where.is_dir() or (found := known.find(where)) is None:
        return None
    directory = _subdirectory(where, found.top)
    if _file(found.tree, directory, b"flake.nix") is None:
        return None
    return FoundFlake(found.digest, directory, _file(found.tree, directory, b"flake.lock"))


def take_flake(reference: FlakeRef, known: KnownTrees | None = None) -> FlakeSource:
    """The root tree of a flake. Where nothing differs from the commit, `known` has the tree from then on.

    Raises RefusedError: FLAKE_DIRTY for a git tree with changes in the flake's directory, in its relative inputs or
    where symbolic links in these lead; FLAKE_UNSUPPORTED for what a tree may not hold; what `lock.parse` raises.
    """
    where = Path(reference.directory).resolve()
    if not where.is_dir():
        raise MvmnixError(f"{reference.directory} is not a directory", hint="name the directory of a flake.nix")
    return _copied(where, reference.subdirectory) if reference.copy else _committed(where, known)


def source_of(tree: nar.Dir, *, uri: str, commit: str | None, directory: str) -> FlakeSource:
    """A source from a tree in memory; refuses one without a flake.nix where it should stand."""
    if _file(tree, directory, b"flake.nix") is None:
        where = f"{directory or 'the top'} of {uri}"
        raise refuse(ReasonCode.FLAKE_UNSUPPORTED, where, "there is no flake.nix", "name the directory of a flake.nix")
    if _size(tree) > LIMIT:
        raise _too_large(uri)
    chunks, size = list[bytes](), 0
    for chunk in nar.nar_of_tree(tree):
        chunks.append(chunk)
        size += len(chunk)
        if size > LIMIT:
            raise _too_large(uri)
    data = b"".join(chunks)
    return FlakeSource(uri, commit, data, Digest.of(data), directory, _file(tree, directory, b"flake.lock"))


def _too_large(uri: str) -> RefusedError:
    hint = "leave build products out of it, or refer to a git work tree instead of path:"
    return refuse(ReasonCode.FLAKE_UNSUPPORTED, uri, f"its tree is larger than {LIMIT} bytes", hint)


def _size(node: nar.Node) -> int:
    """Bytes of all files beneath, unread: a sparse one takes no room on a disk."""
    match node:
        case nar.File(size=size):
            return size
        case nar.Dir(entries=entries):
            return sum(map(_size, entries.values()))
        case _:
            return 0


def _copied(where: Path, directory: str) -> FlakeSource:
    fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return source_of(tree_of_directory(fd), uri=f"path:{store_name(where.name)}", commit=None, directory=directory)
    finally:
        os.close(fd)


def _committed(where: Path, known: KnownTrees | None) -> FlakeSource:
    from mvmnix.builder.flakes.git import read_work_tree  # noqa: PLC0415 - a flake that is found doesn't pay for it

    work = read_work_tree(where, LIMIT)
    directory = _subdirectory(where, work.top)
    if work.changes and (changed := _inside(work.changes, work.tree, directory)):
        why = f"the git tree has uncommitted changes: {first_names(changed)}"
        hint = f"commit or stash them, or take the tree as an uncommitted copy: {copy_of(where)}"
        raise refuse(ReasonCode.FLAKE_DIRTY, str(where), why, hint)
    if _file(work.tree, directory, b"flake.nix") is None and (where / "flake.nix").is_file():
        add = shell_command("git", "-C", str(where), "add", "flake.nix")
        hint = f"{add}, and commit it; or take the tree as an uncommitted copy: {copy_of(where)}"
        why = "there is no flake.nix in the commit; the one in the directory is not tracked by git"
        raise refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), why, hint)
    uri = f"git+file:{store_name(work.top.name)}?rev={work.commit}"
    source = source_of(work.tree, uri=uri, commit=work.commit, directory=directory)
    if known is not None and work.index is not None:
        known.note(work.top, Entry.of(work.commit, work.index, source.nar, work.tree))
    return replace(source, changes_elsewhere=work.changes)


def _subdirectory(where: Path, top: Path) -> str:
    """Where a flake stands in a work tree. Raises RefusedError for what a reference can't name."""
    directory = "" if where == top else str(where.relative_to(top))
    if not is_subdirectory(directory):
        why = "its path has unusual characters"
        raise refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), why, "rename the directory")
    return directory


def first_names(names: Sequence[str]) -> str:
    """The first five of many file names (`os.fsdecode`), escaped for one line."""
    shown = ", ".join(escape_bytes(os.fsencode(name)) for name in names[:5])
    return f"{shown} …" if len(names) > 5 else shown


def _inside(changes: Iterable[str], tree: nar.Dir, directory: str) -> list[str]:
    """Those of the changes that the flake may read: all changes in its own directory, if there are some."""
    own = _below(changes, {directory.encode()})
    if own:  # its lock may be among them
        return own
    paths = lock.local_paths(_file(tree, directory, lock.FILE_NAME.encode()), directory)
    return _below(changes, _reachable(tree, map(os.fsencode, paths)))


def _below(names: Iterable[str], paths: Container[bytes]) -> list[str]:
    """The names that are one of the paths, or lie below one."""
    return [name for name in names if _is_below(os.fsencode(name), paths)]


def _is_below(name: bytes, paths: Container[bytes]) -> bool:
    return any(path in paths for path in (b"", *accumulate(name.split(b"/"), lambda above, part: above + b"/" + part)))


def _reachable(tree: nar.Dir, starts: Iterable[bytes]) -> set[bytes]:
    """The paths in a tree that a reader of `starts` can get to: these, and what symbolic links in them lead to."""
    found: set[bytes] = set()
    left = [iter(starts)]  # lazily: a list of all links of all directories would be their product
    steps = 0
    while left:
        start = next(left[-1], None)
        if start is None:
            left.pop()
            continue
        if len(start) >= _MAX_PATH:
            return {b""}
        for path, node in _resolve(tree, start):
            steps += 1 + (node.target.count(b"/") if isinstance(node, nar.Symlink) else 0)
            if steps > _MAX_STEPS:
                return {b""}
            if not _is_below(path, found):
                found.add(path)
                left.append(_links(node, path, found))
    return found


def _links(node: nar.Node | None, path: bytes, found: Container[bytes]) -> Iterator[bytes]:
    """The paths of the symbolic links below a node, which has this path, and of directories with too long a path.

    What is `found` has been walked already, or is being walked, and is left out.
    """
    for name, inner in node.entries.items() if isinstance(node, nar.Dir) else ():
        if isinstance(inner, nar.File) or (place := (path + b"/" + name).lstrip(b"/")) in found:
            continue
        if isinstance(inner, nar.Symlink) or len(place) >= _MAX_PATH:
            yield place
        else:
            yield from _links(inner, place, found)


def _resolve(tree: nar.Dir, path: bytes) -> Iterator[tuple[bytes, nar.Node | None]]:
    """Walk a path from the top: yields each symbolic link on the way, then what is there, None for nothing.

    A path that leads out of the tree, or through more than `_MAX_LINKS` links, yields no end.
    """
    way: list[tuple[bytes, nar.Dir]] = [(b"", tree)]
    parts, links = path.split(b"/")[::-1], 0
    while parts:
        match parts.pop():
            case b"" | b".":
                continue
            case b"..":
                way.pop()
                if not way:
                    return
                continue
            case name:
                here, directory = way[-1]
        place, node = (here + b"/" + name).lstrip(b"/"), directory.entries.get(name)
        if isinstance(node, nar.Dir):
            way.append((place, node))
            continue
        yield place, node
        if not isinstance(node, nar.Symlink):
            return
        links += 1
        if links > _MAX_LINKS or node.target.startswith(b"/") or len(node.target) >= _MAX_PATH:
            return
        parts += node.target.split(b"/")[::-1]
    yield way[-1]


def _file(tree: nar.Dir, directory: str, name: bytes) -> bytes | None:
    node: nar.Node = tree
    for part in (*directory.encode().split(b"/"), name) if directory else (name,):
        if not isinstance(node, nar.Dir) or part not in node.entries:
            return None
        node = node.entries[part]
    return b"".join(node.open()) if isinstance(node, nar.File) else None
