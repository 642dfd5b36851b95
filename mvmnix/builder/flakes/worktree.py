"""Takes a flake as it lies in its directory, uncommitted changes and all, and writes flake.lock beside its flake.nix.

For `mvm lock` alone: what is built is taken by flake_source.py. Of a git work tree the tracked files count, as Nix has
it; of a directory that is named by `path:`, all. Nothing but flake.lock is ever written, and not through a symbolic
link.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from mvmnix.arguments import is_subdirectory
from mvmnix.builder.flakes.flake_source import FlakeSource, source_of
from mvmnix.builder.flakes.git import tracked_files
from mvmnix.builder.flakes.repository import copy_of
from mvmnix.errors import MvmnixError, ReasonCode, refuse
from mvmnix.formats import nar
from mvmnix.formats.escaping import shell_command
from mvmnix.formats.lock import FILE_NAME
from mvmnix.model import FlakeRef, store_name
from mvmnix.system.fs_tree import tree_of_directory, tree_of_files
from mvmnix.system.output_files import OutputFile

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Draft:
    """A context manager: the tree around a flake, whose files are read when an archive is made of it."""

    def __init__(self, reference: FlakeRef) -> None:
        """Raises RefusedError FLAKE_UNSUPPORTED for what a tree may not hold, or where no flake is."""
        where = Path(reference.directory).resolve()
        if not where.is_dir():
            raise MvmnixError(f"{reference.directory} is not a directory", hint="name the directory of a flake.nix")
        names = None
        self._top, self._directory = where, reference.subdirectory
        if not reference.copy:
            self._top, names = tracked_files(where)
            self._directory = "" if where == self._top else str(where.relative_to(self._top))
        if not is_subdirectory(self._directory):
            why = "its path has unusual characters"
            raise refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), why, "rename the directory")
        self._check_flake(where, names)
        _check_replaceable(self.lock_path)
        self._fd = os.open(self._top, _DIRECTORY)
        try:
            self._tree = tree_of_directory(self._fd) if names is None else tree_of_files(self._fd, names)
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def source(self, lock: bytes | None = None) -> FlakeSource:
        """The tree as a source, with another flake.lock if one is given."""
        tree = self._tree if lock is None else _with(self._tree, self._inner(FILE_NAME).encode().split(b"/"), lock)
        return source_of(tree, uri=f"path:{store_name(self._top.name)}", commit=None, directory=self._directory)

    @property
    def lock_path(self) -> Path:
        """Where its flake.lock lies, or will."""
        return self._top / self._directory / FILE_NAME

    def write(self, lock: bytes) -> Path:
        """Put this flake.lock beside flake.nix, in one step; returns where."""
        _check_replaceable(self.lock_path)
        OutputFile(str(self.lock_path)).write(lock)
        return self.lock_path

    def _check_flake(self, where: Path, names: Sequence[bytes] | None) -> None:
        """Refuses a directory without a flake.nix, before anything is read or booted on its account."""
        inner = self._inner("flake.nix")
        if names is not None and os.fsencode(inner) not in names:
            hint = f"{shell_command('git', 'add', inner)}, or take the directory as it lies there: {copy_of(where)}"
            raise refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), "git tracks no flake.nix there", hint)
        if names is None and not (self._top / inner).is_file():
            hint = "name the directory of a flake.nix; one to begin with: mvm init"
            raise refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), f"there is no {inner}", hint)

    def _inner(self, name: str) -> str:
        return f"{self._directory}/{name}" if self._directory else name


def _check_replaceable(where: Path) -> None:
    """Refuses what is no plain file, before anything is built or locked on its account."""
    if where.is_symlink() or (where.exists() and not where.is_file()):
        hint = f"take it away, and lock the flake again: {shell_command('rm', str(where))}"
        raise refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), "it is not a plain file, and is not replaced", hint)


def _with(tree: nar.Dir, path: list[bytes], data: bytes) -> nar.Dir:
    """The tree with one file's bytes replaced; the directories on the way are there."""
    entries = dict(tree.entries)
    if len(path) == 1:
        entries[path[0]] = nar.File.of(data)
    else:
        inner = entries[path[0]]
        if not isinstance(inner, nar.Dir):
            raise refuse(ReasonCode.FLAKE_UNSUPPORTED, os.fsdecode(path[0]), "it is not a directory", "keep it still")
        entries[path[0]] = _with(inner, path[1:], data)
    return nar.Dir(entries)
