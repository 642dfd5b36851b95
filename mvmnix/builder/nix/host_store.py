"""Puts kept sources into the host's Nix store as the fixed outputs that Nix expects, so that it fetches nothing."""

import os
import tempfile
from collections.abc import Iterable, Sequence
from itertools import batched
from pathlib import Path
from typing import assert_never

from mvmnix.builder.nix import nix_commands
from mvmnix.builder.nix.host_nix import HostNix
from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError, refuse
from mvmnix.formats import nar
from mvmnix.formats.strict import MalformedError
from mvmnix.model import HashMode, Source, StorePath
from mvmnix.system.store import Store

#: Files per child: their copies lie in a temporary directory meanwhile.
_BATCH = 64
#: The only NAR here is the seed's: a directory with one executable.
_NAR_LIMIT = 64 << 20


def add_to_nix(host: HostNix, sources: Iterable[Source], store: Store) -> tuple[StorePath, ...]:
    """Make these sources valid in the host's store; returns what had to be added. What is valid already is skipped.

    Raises RefusedError [source-mismatch] when a kept file was changed, or Nix computes another path than the source's,
    [source-unusable] for an archive that Nix would not write.
    """
    wanted = {source.store_path: source for source in sources}
    invalid = _invalid(host, list(wanted))
    for mode in HashMode:
        for batch in batched([path for path in invalid if wanted[path].mode is mode], _BATCH, strict=False):
            _add(host, [wanted[path] for path in batch], mode, store)
    return tuple(invalid)


def _invalid(host: HostNix, paths: Sequence[StorePath]) -> list[StorePath]:
    if not paths:
        return []
    printed = host.run(nix_commands.host_invalid(host.nix_store, paths)).decode().split()
    return [StorePath.parse(line) for line in printed]


def _add(host: HostNix, sources: Sequence[Source], mode: HashMode, store: Store) -> None:
    """One child for all: each source is a file of its own name in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-nix-") as name:
        files = _lay_out_all(sources, Path(name), store)
        found = host.run(nix_commands.host_add(host.nix_store, mode, *files)).decode().split()
    if len(found) != len(sources):
        raise MvmnixError(f"nix-store added {len(found)} of {len(sources)} files", hint=host.store.check)
    pairs = zip(sources, found, strict=True)
    wrong = [(source, path) for source, path in pairs if path != str(source.store_path)]
    if wrong:
        raise RefusedError(*(_mismatch(source, path) for source, path in wrong))


def _lay_out_all(sources: Sequence[Source], directory: Path, store: Store) -> list[str]:
    """Raises RefusedError with every kept file that was changed."""
    files: list[str] = []
    reasons: list[Reason] = []
    for index, source in enumerate(sources):
        try:
            files.append(_lay_out(source, directory / str(index), store))
        except RefusedError as error:
            reasons += error.reasons
    if reasons:
        raise RefusedError(*reasons)
    return files


def _lay_out(source: Source, directory: Path, store: Store) -> str:
    directory.mkdir()
    target = directory / source.name
    match source.mode:
        case HashMode.FLAT:
            with target.open("wb") as file:
                store.copy(source.digest, file.write)
        case HashMode.NAR:
            _write(_tree(source, store.read(source.digest, limit=_NAR_LIMIT)), target)
    return str(target)


def _tree(source: Source, archive: bytes) -> nar.Tree:
    try:
        return nar.tree_of_nar(archive)
    except MalformedError as error:
        why = f"it is not an archive that Nix would write: {error}"
        raise refuse(ReasonCode.SOURCE_UNUSABLE, source.uri, why, "find out who wrote it") from error


def _write(node: nar.Node, path: Path) -> None:
    """A tree at a path where nothing is, in a directory that only this user can change."""
    match node:
        case nar.File():
            with path.open("xb") as file:
                file.writelines(node.open())
            path.chmod(0o555 if node.executable else 0o444)
        case nar.Symlink():
            path.symlink_to(os.fsdecode(node.target))
        case nar.Dir():
            path.mkdir()
            for name, child in node.entries.items():
                _write(child, path / os.fsdecode(name))
        case _:
            assert_never(node)


def _mismatch(source: Source, path: str) -> Reason:
    why = f"Nix put it at {path} instead of {source.store_path}, so its bytes are others"
    return Reason(ReasonCode.SOURCE_MISMATCH, source.uri, why, "mvm pin fetch")
