"""One build in a builder VM: evaluate, ask, receive, build, and take the outputs; drives a machine, starts none.

1. The root tree is offered, and the VM brings it into its store by asking for it.
2. The VM evaluates it, purely, to a derivation. A locked tree is brought when it is asked for, by the lock's hash.
   Where the policy allows it, evaluation builds what it imports: its fixed outputs are found through their derivations,
   and it is evaluated again with them, a bounded number of times.
3. The derivation's graph tells which fixed outputs may be asked for.
4. The VM builds, and asks. What it was given is the list of what came in.
5. The output comes back as a bounded archive and is hashed, parsed and its verity root recomputed here (receive.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from mvmnix.builder.flakes.take import FlakeSource
from mvmnix.builder.session import diagnosis, graph, nix, pressure
from mvmnix.builder.session.cache import Connection
from mvmnix.builder.session.calls import KEPT, BuilderMachine, Progress, Said, Tail, call, one_path, run
from mvmnix.builder.session.errands import Errands
from mvmnix.builder.session.ledger import Ledger, Offer
from mvmnix.builder.session.receive import OUTPUTS, Reception
from mvmnix.builder.session.supply import Part, Suppliers, Supply
from mvmnix.lock import LockedFlake, LockedNode
from mvmnix.model import Digest, HashMode, Image, Source, StorePath
from mvmnix.provenance.slsa import Cached, Kept, Variation
from mvmnix.store import Store

#: So often evaluation may begin anew with what it imports; each time it has to have come further.
MAX_ROUNDS: Final = 32


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What shall be built: a root tree with its parsed lock, and the attribute of its packages."""

    flake: FlakeSource
    lock: LockedFlake
    attribute: str


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """What was built and from what: `given`, `cached` and `kept` are all that came into the VM beside the root tree.

    Times are in UTC. What the other fields mean is said by those of the same name in Provenance.
    """

    request: BuildRequest
    image: Image
    derivation: StorePath
    given: tuple[Source, ...]
    touched: frozenset[Digest]
    nix: str
    started: datetime
    finished: datetime
    cached: tuple[Cached, ...] = ()
    kept: tuple[Kept, ...] = ()
    from_derivation: bool = False
    variation: Variation | None = None
    sbom: Digest | None = None


class Build:
    """One build. `connection` answers the VM's questions; `run` does the rest.

    `parts` may be asked for besides; `from_derivation` says whether evaluation may build what it imports.
    """

    def __init__(
        self,
        request: BuildRequest,
        *,
        store: Store,
        images: Store,
        suppliers: Suppliers,
        errands: Errands,
        progress: Progress,
        parts: Sequence[Part] = (),
        from_derivation: bool = False,
        variation: Variation | None = None,
    ) -> None:
        self._request = request
        self._images = images
        self._progress = progress
        self._from_derivation = from_derivation
        self._variation = variation
        self._suppliers = suppliers
        self._parts = {part.path: part for part in parts}
        self._supply = Supply(suppliers, store, errands, self._asked)
        self._supply.know(request.lock.locked)
        self._supply.know(parts)
        flake = request.flake
        root = Offer.by_content(flake.store_path, flake.nar, HashMode.NAR, lambda: (flake.archive,))
        self._ledger = Ledger(self._supply)
        self._ledger.offer([root])

    def connection(self, wake: Callable[[], None]) -> Connection:
        """A connection from the VM to its cache: what the channel's service on `nix.CACHE_PORT` makes of each."""
        return Connection(self._ledger, wake)

    def run(self, machine: BuilderMachine, *, jobs: int) -> BuildRecord:
        """Build it. Raises RefusedError for what may not be, MvmnixError with the last lines of a failed build."""
        started = datetime.now(UTC)
        version = nix.read_version(self._ask(machine, nix.version()))
        self._progress.step("evaluating")
        derivation = self._evaluate(machine)
        found = graph.parse(self._ask(machine, nix.show_derivations(derivation), limit=graph.LIMIT))
        self._know(found, derivation)
        self._progress.step("building")
        output = one_path(self._ask(machine, nix.build(derivation, jobs=jobs)))
        self._progress.step("receiving")
        image = self._receive(machine, output)
        return self._record(image, derivation, version, started)

    def _record(self, image: Image, derivation: StorePath, version: str, started: datetime) -> BuildRecord:
        origins = [offer.origin for offer in self._ledger.given.values()]
        return BuildRecord(
            request=self._request,
            image=image,
            derivation=derivation,
            given=tuple(sorted(it for it in origins if isinstance(it, Source))),
            touched=frozenset(it.nar for it in origins if isinstance(it, LockedNode)),
            nix=version,
            started=started,
            finished=datetime.now(UTC),
            cached=tuple(sorted((it for it in origins if isinstance(it, Cached)), key=lambda it: it.path)),
            kept=tuple(sorted((it for it in origins if isinstance(it, Kept)), key=lambda it: it.path)),
            from_derivation=self._from_derivation,
            variation=self._variation,
        )

    def _ask(self, machine: BuilderMachine, argv: Sequence[str], *, limit: int = KEPT) -> bytes:
        said = call(machine, argv, self._progress, limit=limit)
        if said.status != 0:
            raise self._supply.failure or self._build_failure(machine, said)
        return said.output

    def _build_failure(self, machine: BuilderMachine, said: Said) -> Exception:
        """Why a build failed: what the VM's kernel says of memory and room comes before the builder's own words."""
        state = pressure.read(call(machine, nix.pressure(), self._progress).output)
        return pressure.failure(state, self._where, said.log) or diagnosis.of_build(self._where, said.log)

    def _evaluate(self, machine: BuilderMachine) -> StorePath:
        flake = self._request.flake
        self._ask(machine, nix.fetch_tree(flake.store_path))
        url = nix.flake_url(flake.store_path, flake.nar, flake.directory)
        argv = nix.evaluate(url, self._request.attribute, from_derivation=self._from_derivation)
        said = call(machine, argv, self._progress)
        for _ in range(MAX_ROUNDS):
            if said.status == 0:
                return one_path(said.output)
            if self._supply.failure is not None or not (self._from_derivation and self._import(machine)):
                break
            said = call(machine, argv, self._progress)
        unlocked = "it has inputs, and no flake.lock" if self._request.lock.digest is None else ""
        raise self._supply.failure or diagnosis.of_evaluation(self._where, said.log, unlocked=unlocked)

    def _import(self, machine: BuilderMachine) -> bool:
        """Learn where fixed outputs come from that evaluation missed; whether there is anything new to give."""
        missed = sorted(self._ledger.missed)[: nix.MOST_NAMES]
        if not missed:
            return False
        lines = call(machine, nix.derivations_with(missed), self._progress, limit=graph.LIMIT).output.split()
        paths = [one_path(line) for line in lines[: nix.MOST_NAMES]]
        if not paths:
            return False
        found = graph.parse(self._ask(machine, nix.show_these(paths), limit=graph.LIMIT))
        new = [source for source in found.sources if source.store_path.hash in self._ledger.missed]
        graph.check_adaptive(new)
        self._supply.know(new)
        self._ledger.forgive(source.store_path.hash for source in new)
        return bool(new)

    def _know(self, found: graph.Graph, derivation: StorePath) -> None:
        """Let the graph's fixed outputs be asked for; those that will be are fetched at once, many side by side."""
        if self._suppliers.caches is None:  # a cache may have what they are for
            needed = found.needed(derivation, have=self._parts)
            self._progress.step("fetching sources")
            self._suppliers.sources(needed)
        self._supply.know(found.sources)

    def _receive(self, machine: BuilderMachine, output: StorePath) -> Image:
        log = Tail(self._progress.log)
        with Reception(self._images) as reception:
            if run(machine, nix.archive(output, OUTPUTS), reception.write, log) != 0:
                raise diagnosis.of_output(self._where, log.text)
            return reception.image()

    def _asked(self, what: str) -> None:
        """A question to others is on record before it is asked, whatever becomes of it."""
        self._progress.log(f"mvm: asking for {what}\n".encode())

    @property
    def _where(self) -> str:
        return f"{self._request.flake.uri}#{self._request.attribute}"
