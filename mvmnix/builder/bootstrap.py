"""Builds the first builder image with the host's own Nix, from this tool's own pinned flake and no other.

It is the one place where the host evaluates Nix; its provenance says `host-nix`, and policy admits that for the builder
image alone. The tree is this installation's own flake.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from mvmnix.builder.flakes.flake_source import FlakeSource, source_of
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.nix.host_nix import HostNix
from mvmnix.builder.nix.host_store import add_to_nix
from mvmnix.builder.session import graph
from mvmnix.builder.session.build import BuildRecord
from mvmnix.builder.session.exec import Progress
from mvmnix.builder.session.import_outputs import OUTPUTS, OutputImport
from mvmnix.builder.session.session import BuildInputs, BuildRequest
from mvmnix.errors import MvmnixError
from mvmnix.formats import lock, nar, strict
from mvmnix.model import HashMode, Image, Source, StorePath
from mvmnix.system import own_flake
from mvmnix.system.fs_tree import tree_of_directory
from mvmnix.system.store import Store

#: What of this installation the builder image is made from.
FILES = tuple(map(os.fsencode, own_flake.FILES))
ATTRIBUTE = "builder"
_CHUNK = 1 << 20
_VERSION = "mvm is tested with Nix 2.26; see nix --version"


def request() -> BuildRequest:
    """What the builder image is built from."""
    flake = source_of(nar.Dir(parts(*FILES)), uri="path:mvmnix", commit=None, directory="")
    return BuildRequest(flake, lock.parse(flake.lock), ATTRIBUTE)


def parts(*names: bytes) -> dict[bytes, nar.Node]:
    """These files and directories of this installation's flake, in memory."""
    fd = os.open(own_flake.directory(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return {name: _entry(fd, name) for name in names}
    finally:
        os.close(fd)


def _entry(root: int, name: bytes) -> nar.Node:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except OSError as error:
        missing = own_flake.directory() / name.decode()
        raise MvmnixError(f"{missing} is not there: {error.strerror}", hint="install mvm with its flake") from error
    try:
        if name in {b"modules", b"profiles"}:
            return _loaded(tree_of_directory(fd))
        with os.fdopen(os.dup(fd), "rb") as file:
            return nar.File.of(file.read())
    finally:
        os.close(fd)


def _loaded(tree: nar.Node) -> nar.Node:
    """The same tree, its files in memory; compiled Python that a checkout may hold is no part of it."""
    match tree:
        case nar.Dir():
            kept = {name: node for name, node in tree.entries.items() if name != b"__pycache__"}
            return nar.Dir({name: _loaded(node) for name, node in kept.items()})
        case nar.File():
            return nar.File.of(b"".join(tree.open()), executable=tree.executable)
        case nar.Symlink():
            return tree


class Bootstrap:
    """One build of the builder image on the host."""

    def __init__(
        self,
        wanted: BuildRequest,
        *,
        host: HostNix,
        store: Store,
        images: Store,
        fetch: Callable[[Sequence[Source]], None],
        progress: Progress,
    ) -> None:
        self._request = wanted
        self._store = store
        self._images = images
        self._fetch = fetch
        self._progress = progress
        self._host = host

    def run(self) -> BuildRecord:
        """Build it. Raises ProcessError with Nix's last words when that fails."""
        started = datetime.now(UTC)
        self._add_tree()
        flake = self._request.flake
        self._progress.step("evaluating the builder")
        derivation = _derivation(
            self._host.run(nix_commands.host_evaluate(self._host.nix, flake.store_path, flake.nar, ATTRIBUTE))
        )
        found = graph.parse_graph(self._host.run(nix_commands.host_show(self._host.nix, derivation)))
        self._progress.step("fetching sources")
        self._fetch(found.sources)
        add_to_nix(self._host, found.sources, self._store)
        self._progress.step("building the builder")
        output = _output(self._host.run(nix_commands.host_build(self._host.nix, derivation)))
        self._progress.step("receiving")
        version = nix_commands.read_version(self._host.run(nix_commands.host_version(self._host.nix)))
        image = self._receive(self._host.store.on_host(output))
        return BuildRecord(
            request=self._request,
            image=image,
            derivation=derivation,
            given=BuildInputs(found.sources),
            nix=version,
            started=started,
            finished=datetime.now(UTC),
        )

    def _add_tree(self) -> None:
        """Put the tree into the host's store under the path that its hash makes."""
        flake: FlakeSource = self._request.flake
        with tempfile.TemporaryDirectory(prefix="mvmnix-") as name:
            where = Path(name) / "source"
            self._host.run(nix_commands.host_restore(self._host.nix_store, str(where)), input_=flake.archive)
            added = (
                self._host.run(nix_commands.host_add(self._host.nix_store, HashMode.NAR, str(where))).decode().strip()
            )
        if added != str(flake.store_path):
            why = f"Nix put the tree at {added} instead of {flake.store_path}"
            raise MvmnixError(why, hint=self._host.store.check)

    def _receive(self, output: Path) -> Image:
        with OutputImport(self._images) as imported:
            for name in OUTPUTS:
                incoming = imported.open(name)
                with _opened(output / name) as file:
                    while chunk := file.read(_CHUNK):
                        incoming.write(chunk)
                incoming.close()
            return imported.settle()


def _derivation(said: bytes) -> StorePath:
    try:
        return StorePath.parse(said.decode().strip())
    except ValueError as error:
        raise MvmnixError(f"Nix did not say which derivation the builder is: {error}", hint=_VERSION) from error


def _output(said: bytes) -> StorePath:
    try:
        told: Any = strict.parse_json(said)
        return StorePath.parse(told[0]["outputs"]["out"])
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise MvmnixError(f"Nix did not say where it put the builder: {said[:200]!r}", hint=_VERSION) from error


def _opened(path: Path) -> BinaryIO:
    """A link is followed by no name: in a store of the user's own, its target lies elsewhere than it says."""
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        hint = "the output is not an image: look at profiles/builder.nix"
        raise MvmnixError(f"{path} can't be read: {error.strerror}", hint=hint) from error
