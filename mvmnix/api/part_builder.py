"""Keeps parts of mvm's own for later builds: finds those that verify, and has those built that are missing."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from mvmnix import __version__
from mvmnix.api import installation
from mvmnix.api.build_limits import BuildLimits
from mvmnix.api.builder_vm import BuilderVm, builder_plan, limits_of
from mvmnix.api.context import Context
from mvmnix.api.frontend import Progress
from mvmnix.builder import bootstrap
from mvmnix.builder.fetch.caches import Caches
from mvmnix.builder.fetch.flake_inputs import bring_tree
from mvmnix.builder.fetch.resolve import resolve_reference
from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.pins.sources import fetch_sources
from mvmnix.builder.session.parts import ATTRIBUTE, PartsBuild, PartsRecord
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, refuse
from mvmnix.formats.flake_references import Attributes
from mvmnix.formats.lock import LockedNode
from mvmnix.images import make_provenance
from mvmnix.images.part_index import KeptParts, PartDomain
from mvmnix.images.store import VerifiedImage
from mvmnix.keys import Role
from mvmnix.model import Source
from mvmnix.provenance.slsa import parts as claims
from mvmnix.provenance.slsa.provenance import KeptPath, subjects_of


class InputFetcher:
    """The fetchers of a session (builder/session/substituter.py)."""

    def __init__(self, context: Context, progress: Progress) -> None:
        self._progress = progress
        # opened here, in the caller's own thread; tasks share them
        self._store, self._policy, network = context.sources, context.policy, context.network
        self._downloader, self._fetching = network.downloader, network.fetching
        self._downloader.meter = progress
        self._registries = network.registries
        self._locks = installation.debian_locks()
        self.caches: Caches | None = network.caches(self._policy)

    def sources(self, sources: Sequence[Source]) -> None:
        """Bring files by hash; of seeds, this installation's alone."""
        self._registries.fetch(sources, self._progress)
        fetch_sources(sources, self._store, self._progress, locks=self._locks, downloader=self._downloader)

    def tree(self, node: LockedNode) -> None:
        """Bring a locked tree, if the policy lets such a one into a build."""
        if not self._policy.admits_input(node.uri):
            why = f"evaluation needs {node.uri}, which the trust policy does not admit"
            hint = "take another input, or extend inputs in trust.toml, [sources], if you mean to"
            raise refuse(ReasonCode.INPUT_NOT_ADMITTED, node.name, why, hint)
        bring_tree(node, self._store, self._fetching)

    def resolve(self, original: Attributes) -> tuple[Attributes, Digest]:
        """What a reference means now, for `mvm lock` (builder/lockfile/session.py): its tree is in the store then."""
        found = resolve_reference(original, self._store, self._fetching)
        return found.locked, found.nar


class PartBuilder:
    """The parts of one domain: this installation's tree, built with this builder image."""

    def __init__(self, context: Context, progress: Progress, builder: VerifiedImage, limits: BuildLimits) -> None:
        self._context = context
        self._progress = progress
        self._builder = builder
        self._limits = limits
        own = bootstrap.request()
        #: Whose parts they are.
        self.domain = PartDomain(own.flake.nar, subjects_of(builder.image.artifacts))
        self._request = BuildRequest(own.flake, own.lock, ATTRIBUTE)

    def stock(self) -> KeptParts:
        """What is kept and verifies. Where something doesn't, all of it is forgotten, and built again when wanted."""
        book = self._context.part_index
        try:
            return book.stock(self.domain, policy=self._context.policy, now=now())
        except MvmnixError as error:
            self._progress.notice(f"the kept parts are of no use, and are built again: {error}")
            book.forget(self.domain)
            return book.stock(self.domain, policy=self._context.policy, now=now())

    def fill(self, wanted: Collection[str]) -> KeptParts:
        """Have those of the parts kept that are among these derivations; one process at a time builds them."""
        with self._context.building(f"parts-{self.domain.name}", self._wait):
            stock = self.stock()
            if lacking := stock.lacking(wanted):
                self._build(lacking)
                stock = self.stock()
        return replace(stock, final=True)

    def _wait(self) -> None:
        self._progress.notice("mvm's own parts are being built already: waiting for them")

    def _build(self, wanted: Collection[str]) -> None:
        """Build them, in a VM in which nothing else runs."""
        self._context.signer.prepare(Role.BUILDER)  # a missing key is reported before minutes are spent
        plan = builder_plan(self._context, self._builder, self._limits)
        vm = BuilderVm(self._context, self._progress, self._builder, plan)
        work = PartsBuild(
            self._request,
            store=self._context.sources,
            fetchers=InputFetcher(self._context, self._progress),
            workers=vm.workers,
            progress=self._progress,
        )
        with vm.running(work.connection) as machine:
            record = work.run(machine, wanted=wanted, jobs=plan.vcpus)
        if record.built:
            claim = make_provenance.of_parts(record, mvm=__version__, builder=self._builder, limits=limits_of(plan))
            self._keep(record, claim)
        else:
            self._context.part_index.add(self.domain, record.known, (), None)

    def _keep(self, record: PartsRecord, claim: claims.Parts) -> None:
        bundle = self._context.sign(Role.BUILDER, claims.to_statement(claim).to_bytes())
        parts = tuple(KeptPath(it.path, it.nar, Digest.of(bundle)) for it in record.built)
        self._context.part_index.add(self.domain, record.known, parts, bundle)
