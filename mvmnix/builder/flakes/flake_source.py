"""Takes the root tree of a flake as the user named it, a clean commit or an explicit copy, without evaluating it."""

import os
from dataclasses import dataclass
from pathlib import Path

from mvmnix.arguments import is_subdirectory
from mvmnix.builder.flakes.git import WorkTree
from mvmnix.builder.flakes.repository import copy_of
from mvmnix.errors import MvmnixError, ReasonCode, refuse
from mvmnix.formats import nar
from mvmnix.formats.escaping import shell_command
from mvmnix.model import Digest, FlakeRef, StorePath, store_name
from mvmnix.system.fs_tree import tree_of_directory

#: A root tree larger than this is refused, in bytes; it is held in memory while it is sent.
LIMIT = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FlakeSource:
    """A root tree, taken once: its NAR in memory, and where in it the flake stands.

    `uri` labels it for provenance; `commit` is the git commit in hexadecimal, None for an uncommitted copy; `lock`
    the bytes of flake.lock, None where the flake has none.
    """

    uri: str
    commit: str | None
    archive: bytes
    nar: Digest
    directory: str
    lock: bytes | None

    @property
    def store_path(self) -> StorePath:
        """Where Nix puts the tree."""
        return StorePath.recursive("source", self.nar)


def take_flake(reference: FlakeRef) -> FlakeSource:
    """The root tree of a flake.

    Raises RefusedError FLAKE_DIRTY for a git tree with changes, FLAKE_UNSUPPORTED for what a tree may not hold.
    """
    where = Path(reference.directory).resolve()
    if not where.is_dir():
        raise MvmnixError(f"{reference.directory} is not a directory", hint="name the directory of a flake.nix")
    return _copied(where, reference.subdirectory) if reference.copy else _committed(where)


def source_of(tree: nar.Dir, *, uri: str, commit: str | None, directory: str) -> FlakeSource:
    """A source from a tree in memory; refuses one without a flake.nix where it should stand."""
    if _file(tree, directory, b"flake.nix") is None:
        where = f"{directory or 'the top'} of {uri}"
        raise refuse(ReasonCode.FLAKE_UNSUPPORTED, where, "there is no flake.nix", "name the directory of a flake.nix")
    archive = bytearray()
    for chunk in nar.nar_of_tree(tree) if _size(tree) <= LIMIT else ():
        archive += chunk
        if len(archive) > LIMIT:
            break
    if not 0 < len(archive) <= LIMIT:
        hint = "leave build products out of it, or refer to a git work tree instead of path:"
        raise refuse(ReasonCode.FLAKE_UNSUPPORTED, uri, f"its tree is larger than {LIMIT} bytes", hint)
    data = bytes(archive)
    return FlakeSource(uri, commit, data, Digest.of(data), directory, _file(tree, directory, b"flake.lock"))


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


def _committed(where: Path) -> FlakeSource:
    work = WorkTree(where)
    directory = "" if where == work.top else str(where.relative_to(work.top))
    tree = work.tree(LIMIT)  # bounded; git compares only what is
    if changed := work.changes():
        why = f"the git tree has uncommitted changes: {', '.join(changed[:5])}{' …' if len(changed) > 5 else ''}"
        hint = f"commit or stash them, or take the tree as an uncommitted copy: {copy_of(where)}"
        raise refuse(ReasonCode.FLAKE_DIRTY, str(where), why, hint)
    if not is_subdirectory(directory):
        raise refuse(
            ReasonCode.FLAKE_UNSUPPORTED, str(where), "its path has unusual characters", "rename the directory"
        )
    if _file(tree, directory, b"flake.nix") is None and (where / "flake.nix").is_file():
        add = shell_command("git", "-C", str(where), "add", "flake.nix")
        hint = f"{add}, and commit it; or take the tree as an uncommitted copy: {copy_of(where)}"
        why = "there is no flake.nix in the commit; the one in the directory is not tracked by git"
        raise refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), why, hint)
    uri = f"git+file:{store_name(work.top.name)}?rev={work.commit}"
    return source_of(tree, uri=uri, commit=work.commit, directory=directory)


def _file(tree: nar.Dir, directory: str, name: bytes) -> bytes | None:
    node: nar.Node = tree
    for part in (*directory.encode().split(b"/"), name) if directory else (name,):
        if not isinstance(node, nar.Dir) or part not in node.entries:
            return None
        node = node.entries[part]
    return b"".join(node.open()) if isinstance(node, nar.File) else None
