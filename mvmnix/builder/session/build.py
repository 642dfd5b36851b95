"""Builds a closure in a VM of its own, which never saw the text that it was evaluated from; drives a machine.

1. The trees and files that derivations are made from are offered, and mvm's own parts; fixed outputs may be asked for.
2. The VM takes the derivations into its store, and builds; Nix there holds each output path against its derivation.
   What it was given, and what evaluation was given, is the list of what came in.
3. The output comes back as a bounded archive and is hashed, parsed and its verity root recomputed here
   (import_outputs.py). Where it lies follows from the derivation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.session import build_errors
from mvmnix.builder.session.evaluation import Evaluated
from mvmnix.builder.session.exec import BuilderMachine, Progress, Tail, stream_command
from mvmnix.builder.session.import_outputs import OUTPUTS, OutputImport
from mvmnix.builder.session.ledger import Offer
from mvmnix.builder.session.session import BuildInputs, Session
from mvmnix.builder.session.substituter import SourceFetchers
from mvmnix.builder.session.worker_pool import WorkerPool
from mvmnix.digest import Digest
from mvmnix.formats import nar
from mvmnix.model import HashMode, Image, StorePath
from mvmnix.provenance.slsa.provenance import KeptPath, Variation
from mvmnix.system.store import Store


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """What was built and from what. Times are in UTC; the other fields mean what those of Provenance do."""

    request: BuildRequest
    image: Image
    derivation: StorePath
    given: BuildInputs
    nix: str
    started: datetime
    finished: datetime
    from_derivation: bool = False
    variation: Variation | None = None


class Build:
    """One build. `connection` answers the VM's questions; `run` does the rest. `parts` may be asked for besides."""

    def __init__(
        self,
        evaluated: Evaluated,
        *,
        store: Store,
        images: Store,
        fetchers: SourceFetchers,
        workers: WorkerPool,
        progress: Progress,
        parts: Sequence[KeptPath] = (),
        variation: Variation | None = None,
    ) -> None:
        request = evaluated.request
        where = f"{request.flake.uri}#{request.attribute}"
        self._session = Session(where, store=store, fetchers=fetchers, workers=workers, progress=progress)
        self._session.finder.know(parts)
        self._session.finder.know(evaluated.nodes)
        self._session.finder.know(evaluated.closure.sources)
        self._derivations = _as_file(evaluated)
        self._session.ledger.offer((*evaluated.offers, self._derivations))
        self._evaluated = evaluated
        self._images = images
        self._parts = {part.path for part in parts}
        self._variation = variation
        self.connection = self._session.connection

    def run(self, machine: BuilderMachine, *, jobs: int) -> BuildRecord:
        """Build it. Raises RefusedError for what may not be, MvmnixError with the last lines of a failed build."""
        session, evaluated = self._session, self._evaluated
        version = nix_commands.read_version(session.ask(machine, nix_commands.version()))
        if session.fetchers.caches is None:  # a cache may have what they are for
            session.progress.step("fetching sources")
            session.fetchers.sources(evaluated.closure.needed(evaluated.derivation, have=self._parts))
        session.progress.step("building")
        for some in nix_commands.in_batches([*evaluated.closure.trees, self._derivations.path]):
            session.ask(machine, nix_commands.fetch_trees(some))
        session.ask(machine, nix_commands.import_derivations(self._derivations.path))
        session.ask(machine, nix_commands.build([evaluated.derivation], jobs=jobs))
        session.progress.step("receiving")
        image = self._receive(machine, evaluated.closure.output(evaluated.derivation))
        return BuildRecord(
            request=evaluated.request,
            image=image,
            derivation=evaluated.derivation,
            given=evaluated.given | session.given(),
            nix=version,
            started=evaluated.started,
            finished=datetime.now(UTC),
            from_derivation=evaluated.from_derivation,
            variation=self._variation,
        )

    def _receive(self, machine: BuilderMachine, output: StorePath) -> Image:
        log = Tail(self._session.progress.log)
        with OutputImport(self._images) as imported:
            if stream_command(machine, nix_commands.archive(output, OUTPUTS), imported.write, log) != 0:
                raise build_errors.of_output(self._session.where, log.text)
            return imported.image()


def _as_file(evaluated: Evaluated) -> Offer:
    """Return the derivations as one file, an export of Nix's, that a VM may have."""
    data = evaluated.closure.export()
    archive = b"".join(nar.nar_of_file(len(data), (data,)))
    digest = Digest.of(archive)
    path = StorePath.recursive("derivations", digest)
    return Offer.by_content(path, digest, HashMode.NAR, lambda: (archive,))
