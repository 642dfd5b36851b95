"""Builds the first builder image with the host's own Nix, from this tool's own pinned flake and no other.

It is the one place where the host evaluates Nix; its provenance says `host-nix`, and policy admits that for the builder
image alone. The tree is this installation's own flake (bootstrap.py).
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from mvmnix.builder import bootstrap
from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.flakes.flake_source import FlakeSource
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.nix.host_nix import HostNix
from mvmnix.builder.nix.host_store import add_to_nix
from mvmnix.builder.session.build import BuildRecord
from mvmnix.builder.session.closure import Closure, read_closure
from mvmnix.builder.session.exec import Progress
from mvmnix.builder.session.import_outputs import OUTPUTS, OutputImport
from mvmnix.builder.session.session import BuildInputs
from mvmnix.errors import MvmnixError
from mvmnix.formats import strict
from mvmnix.formats.derivation import SUFFIX
from mvmnix.model import HashMode, Image, Source, StorePath
from mvmnix.system.store import Store

_CHUNK = 1 << 20
_VERSION = "mvm is tested with Nix 2.26; see nix --version"


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
            self._host.run(nix_commands.host_evaluate(self._host.nix, flake.store_path, flake.nar, bootstrap.ATTRIBUTE))
        )
        found = closure_on_host(self._host, derivation)
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


def closure_on_host(host: HostNix, derivation: StorePath) -> Closure:
    """Return a derivation of the host's store, and all that it is made from. Raises ProcessError, RefusedError."""
    named = host.run(nix_commands.host_requisites(host.nix_store, derivation)).decode().split()
    derivations = [StorePath.parse(path) for path in named if path.endswith(SUFFIX)]
    return read_closure(host.run(nix_commands.host_export(host.nix_store, derivations)), [derivation])


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
