"""One build in a builder VM: evaluate, ask, receive, build, and take the outputs; drives a machine, starts none.

1. The root tree is offered, and the VM brings it into its store by asking for it.
2. The VM evaluates it, purely, to a derivation. A locked tree is brought when it is asked for, by the lock's hash.
   Where the policy allows it, evaluation builds what it imports: its fixed outputs are found through their derivations,
   and it is evaluated again with them, a bounded number of times.
3. The derivation's closure tells which fixed outputs may be asked for, and which of mvm's own parts it is made of.
4. The VM builds, and asks. What it was given is the list of what came in.
5. The output comes back as a bounded archive and is hashed, parsed and its verity root recomputed here
   (import_outputs.py).
"""

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.session import build_errors, closure
from mvmnix.builder.session.exec import BuilderMachine, Progress, Tail, one_path, stream_command
from mvmnix.builder.session.import_outputs import OUTPUTS, OutputImport
from mvmnix.builder.session.session import BuildInputs, Session
from mvmnix.builder.session.substituter import SourceFetchers
from mvmnix.builder.session.worker_pool import WorkerPool
from mvmnix.errors import MvmnixError, ReasonCode, refuse
from mvmnix.formats import strict
from mvmnix.model import Image, Source, StorePath
from mvmnix.provenance.slsa.provenance import KeptPath, Variation
from mvmnix.system.store import Store

#: So often evaluation may begin anew with what it imports; each time it has to have come further.
MAX_ROUNDS: Final = 32


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


class PartsWantedError(Exception):
    """The build stops before it builds: it is made of parts, among these derivations, that could be kept and aren't."""

    def __init__(self, derivations: Collection[str]) -> None:
        super().__init__("parts are wanted")
        self.derivations = derivations


class Build:
    """One build. `connection` answers the VM's questions; `run` does the rest.

    `parts` may be asked for besides; `lacks` looks at the derivations of the build and says whether it is to stop,
    since some of them are parts that could be kept; `from_derivation` is whether evaluation may build what it imports.
    """

    def __init__(
        self,
        request: BuildRequest,
        *,
        store: Store,
        images: Store,
        fetchers: SourceFetchers,
        workers: WorkerPool,
        progress: Progress,
        parts: Sequence[KeptPath] = (),
        lacks: Callable[[Collection[str]], bool] = lambda _: False,
        from_derivation: bool = False,
        variation: Variation | None = None,
    ) -> None:
        self._session = Session(
            request, store=store, fetchers=fetchers, workers=workers, progress=progress, parts=parts
        )
        self._images = images
        self._parts = {part.path for part in parts}
        self._lacks = lacks
        self._from_derivation = from_derivation
        self._variation = variation
        self._looked_for: set[str] = set()
        self.connection = self._session.connection

    def run(self, machine: BuilderMachine, *, jobs: int) -> BuildRecord:
        """Build it. Raises RefusedError for what may not be, MvmnixError with the last lines of a failed build."""
        session = self._session
        started = datetime.now(UTC)
        version = nix_commands.read_version(session.ask(machine, nix_commands.version()))
        session.progress.step("evaluating")
        derivation = self._evaluate(machine)
        found = session.closure(machine, [derivation])
        self._know(found, derivation)
        session.progress.step("building")
        session.ask(machine, nix_commands.build([derivation], jobs=jobs))
        session.progress.step("receiving")
        image = self._receive(machine, found.output(derivation))
        return BuildRecord(
            request=session.request,
            image=image,
            derivation=derivation,
            given=session.given(),
            nix=version,
            started=started,
            finished=datetime.now(UTC),
            from_derivation=self._from_derivation,
            variation=self._variation,
        )

    def _evaluate(self, machine: BuilderMachine) -> StorePath:
        session = self._session
        url = session.bring_in(machine)
        argv = nix_commands.evaluate(url, session.request.attribute, from_derivation=self._from_derivation)
        for _ in range(MAX_ROUNDS):
            said = session.call(machine, argv)
            if said.status == 0:
                return one_path(said.output)
            if session.finder.failure is not None or not (self._from_derivation and self._import(machine)):
                break
        else:
            raise _endless(session.where)
        failure = session.finder.failure or session.pressed(machine, said)  # what the kernel killed had no last words
        if failure is None and build_errors.is_attribute_missing(said.log):
            raise build_errors.of_attribute(session.where, session.request.attribute, self._attributes(machine, url))
        unlocked = "it has inputs, and no flake.lock" if session.request.lock.digest is None else ""
        raise failure or said.failed_as(
            build_errors.of_evaluation(session.where, said.log, unlocked=unlocked, doubt=session.finder.doubt)
        )

    def _attributes(self, machine: BuilderMachine, url: nix_commands.FlakeUrl) -> tuple[str, ...]:
        """The names of the flake's packages, for a message; none where it doesn't say so in a moment, or in bounds."""
        try:
            said = self._session.call(machine, nix_commands.list_attributes(url))
            return strict.read({"names": strict.parse_json(said.output)}, "packages", lambda it: it.texts("names"))
        except (strict.MalformedError, MvmnixError):
            return ()

    def _import(self, machine: BuilderMachine) -> bool:
        """Learn where fixed outputs come from that evaluation missed; whether there is anything new to give."""
        ledger = self._session.ledger
        while names := sorted(ledger.missed - self._looked_for)[: nix_commands.MOST_NAMES]:
            self._looked_for.update(names)
            if new := self._missed(machine, names):
                closure.check_adaptive(new)
                self._session.finder.know(new)
                ledger.forget_misses(source.store_path.hash for source in new)
                return True
        return False

    def _missed(self, machine: BuilderMachine, names: Sequence[str]) -> list[Source]:
        """Those fixed outputs among the paths with these hashes that a derivation in the VM makes."""
        session, found = self._session, list[Source]()
        said = session.ask(machine, nix_commands.derivations_with(names), limit=closure.LIMIT)
        paths = sorted({one_path(line) for line in said.split()})[: closure.MAX_DERIVATIONS]
        for start in range(0, len(paths), nix_commands.MOST_NAMES):
            some = nix_commands.export_these(paths[start : start + nix_commands.MOST_NAMES])
            made = closure.read_derivations(session.ask(machine, some, limit=closure.LIMIT))
            outputs = filter(None, itertools.starmap(closure.fixed_output, made.items()))
            found += [source for source in closure.sources_of(outputs) if source.store_path.hash in names]
        return found

    def _know(self, found: closure.Closure, derivation: StorePath) -> None:
        """Let the closure's fixed outputs be asked for; those that will be are fetched at once, many side by side."""
        session = self._session
        names = tuple(map(str, found.derivations))
        if self._lacks(names):
            raise PartsWantedError(names)
        if session.fetchers.caches is None:  # a cache may have what they are for
            needed = found.needed(derivation, have=self._parts)
            session.progress.step("fetching sources")
            session.fetchers.sources(needed)
        session.finder.know(found.sources)

    def _receive(self, machine: BuilderMachine, output: StorePath) -> Image:
        log = Tail(self._session.progress.log)
        with OutputImport(self._images) as imported:
            if stream_command(machine, nix_commands.archive(output, OUTPUTS), imported.write, log) != 0:
                raise build_errors.of_output(self._session.where, log.text)
            return imported.image()


def _endless(where: str) -> MvmnixError:
    why = f"its evaluation builds what it imports more than {MAX_ROUNDS} times over"
    return refuse(ReasonCode.FLAKE_UNSUPPORTED, where, why, "let the guest be built from it instead")
