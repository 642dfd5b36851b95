"""Builds images or finds them finished: the builder's own with the host's Nix, all others in the builder VM."""

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from mvmnix import __version__
from mvmnix.api.build_limits import AS_THE_IMAGE_SAYS, BuildLimits
from mvmnix.api.context import Context
from mvmnix.api.frontend import SILENT_PROGRESS, LoggedProgress, Progress
from mvmnix.api.source_refs import KEPT_SCHEME, KeptImage, SourceRef, runnable_ref
from mvmnix.builder import bootstrap
from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.flakes.flake_source import FlakeSource, FoundFlake, find_flake, first_names, take_flake
from mvmnix.builder.oci.reference import OciRef
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, RefusedError, UsageError
from mvmnix.formats import lock
from mvmnix.images.store import BuildKey, VerifiedImage
from mvmnix.keys import Role
from mvmnix.provenance.slsa import provenance
from mvmnix.provenance.slsa.predicate import provenance_statement
from mvmnix.provenance.verify import checks
from mvmnix.provenance.verify.image_layouts import ImageEvidence
from mvmnix.system import child_logs, disk_space
from mvmnix.system.process import failed_child

if TYPE_CHECKING:
    from mvmnix.builder.session.build import BuildRecord
    from mvmnix.builder.session.evaluation import Evaluated
    from mvmnix.images.part_index import KeptParts
    from mvmnix.plan.plan import Plan


class ImageBuilder:
    """Makes images for one operation."""

    def __init__(self, context: Context, progress: Progress, limits: BuildLimits = AS_THE_IMAGE_SAYS) -> None:
        self._context = context
        self._progress = progress
        self._limits = limits

    @property
    def progress(self) -> Progress:
        """Where its work is shown."""
        return self._progress

    def image(self, source: SourceRef | KeptImage) -> VerifiedImage:
        """A finished image of this flake: a kept one, once it verifies, else a new one; or the kept image itself.

        Raises UsageError where no image, or more than one, has that name.
        """
        found = self._find(source)
        if not isinstance(found, BuildRequest):
            return found
        builder = self.builder_image()
        key = _key(found.flake, found.attribute, _name_of(builder))
        with self._context.building(key.name, self._wait):  # another process may have built it meanwhile
            return self._kept(key) or self._build(found, builder)

    def kept_image(self, source: SourceRef | KeptImage) -> VerifiedImage | None:
        """The image that `image` would return without a build; None where there is none. Raises as that does."""
        found = self._find(source)
        return None if isinstance(found, BuildRequest) else found

    def _find(self, source: SourceRef | KeptImage) -> VerifiedImage | BuildRequest:
        """Return the kept image that is meant, once it verifies; or what is to be built, where there is none."""
        if isinstance(source, KeptImage):
            return self._named(source.text)
        if (kept := self._known(source)) is not None:
            return kept
        request = self.request(source)
        return self._finished(request.flake, request.attribute) or request

    def _wait(self) -> None:
        self._progress.notice("the same is being built already: waiting for it")

    def new_image(self, source: SourceRef) -> VerifiedImage:
        """A new image of this flake, whatever is kept; so is the builder's where the kept one is of no use."""
        request = self.request(source)
        try:
            builder = self.builder_image()
        except MvmnixError as error:
            self._progress.notice(f"the kept builder image is of no use, and is built again: {error}")
            builder = self._new_builder(bootstrap.request())
        return self._build(request, builder)

    def builder_image(self) -> VerifiedImage:
        """The builder image of this installation; the host's Nix builds it the first time."""
        request = bootstrap.request()
        return self._kept(_key(request.flake, request.attribute, provenance.HOST_NIX)) or self._new_builder(request)

    def _new_builder(self, request: BuildRequest) -> VerifiedImage:
        from mvmnix.api.part_builder import InputFetcher  # noqa: PLC0415 - brings the downloader
        from mvmnix.builder.host_build import Bootstrap  # noqa: PLC0415 - finished images don't pay for it
        from mvmnix.builder.nix.host_nix import HostNix  # noqa: PLC0415
        from mvmnix.images import make_provenance  # noqa: PLC0415

        self._context.signer.prepare(Role.BUILDER)  # a missing key is reported before minutes are spent
        disk_space.require(self._context.roots.state.path, disk_space.BUILDER_IMAGE, "building the builder image")
        work = Bootstrap(
            request,
            host=HostNix.find(self._context.roots),
            store=self._context.sources,
            images=self._context.library.images,
            fetch=InputFetcher(self._context, self._progress).sources,
            progress=self._progress,
        )
        record = work.run()
        claim = make_provenance.by_host_nix(record, mvm=__version__)
        return self._keep(_key(request.flake, request.attribute, provenance.HOST_NIX), record, claim)

    def _build(self, request: BuildRequest, builder: VerifiedImage) -> VerifiedImage:
        """Build it, out of kept parts where it is made of some; those that could be kept are built first, and kept."""
        from mvmnix.api.part_builder import PartBuilder  # noqa: PLC0415 - brings the downloader

        part_builder = PartBuilder(self._context, self._progress, builder, self._limits)
        before = stock = part_builder.stock()
        evaluated = self.evaluate(request, builder, stock=stock)
        derivations = tuple(map(str, evaluated.closure.derivations))
        if stock.lacks(derivations):
            stock = part_builder.fill(derivations)
        record, claim = self.build_unsigned(evaluated, builder, stock=stock)
        bundles = {**before.bundles, **stock.bundles}
        parts = tuple(bundles[digest] for digest in sorted({kept.bundle for kept in record.given.kept}))
        return self._keep(_key(request.flake, request.attribute, _name_of(builder)), record, claim, parts)

    def evaluate(
        self,
        request: BuildRequest,
        builder: VerifiedImage,
        *,
        vary: "Callable[[Plan], Plan]" = lambda plan: plan,
        stock: "KeptParts | None" = None,
    ) -> "Evaluated":
        """Evaluate it in a builder VM of its own, whose plan `vary` may change; nothing is built in there.

        Where the policy allows import from derivation, what evaluation imports is.
        """
        from mvmnix.api.builder_vm import BuilderVm  # noqa: PLC0415 - brings the launcher
        from mvmnix.api.part_builder import InputFetcher  # noqa: PLC0415 - brings the downloader
        from mvmnix.builder.session.evaluation import Evaluation  # noqa: PLC0415 - finished images don't pay for it

        self._context.signer.prepare(Role.BUILDER)  # a missing key is reported before anything begins
        disk_space.require(self._context.roots.state.path, disk_space.IMAGE, "building an image")
        step = "starting the VM that evaluates"
        vm = BuilderVm(self._context, self._progress, builder, vary(self._plan(builder)), step=step)
        work = Evaluation(
            request,
            store=self._context.sources,
            fetchers=InputFetcher(self._context, self._progress),
            workers=vm.workers,
            progress=self._progress,
            parts=() if stock is None else stock.parts,
            from_derivation=self._context.policy.import_from_derivation,
        )
        with vm.running(work.connection) as machine:
            return work.run(machine)

    def _plan(self, builder: VerifiedImage) -> "Plan":
        from mvmnix.api.builder_vm import builder_plan  # noqa: PLC0415 - brings the launcher

        return builder_plan(self._context, builder, self._limits)

    def build_unsigned(
        self,
        evaluated: "Evaluated",
        builder: VerifiedImage,
        *,
        vary: "Callable[[Plan], Plan]" = lambda plan: plan,
        stock: "KeptParts | None" = None,
    ) -> "tuple[BuildRecord, provenance.Provenance]":
        """Build it in a builder VM of its own, whose plan `vary` may change; nothing is signed yet."""
        from mvmnix.api.builder_vm import BuilderVm, limits_of  # noqa: PLC0415 - brings the launcher
        from mvmnix.api.part_builder import InputFetcher  # noqa: PLC0415 - brings the downloader
        from mvmnix.builder.session.build import Build  # noqa: PLC0415 - finished images don't pay for it
        from mvmnix.images import make_provenance  # noqa: PLC0415
        from mvmnix.images.part_index import NOTHING_KEPT  # noqa: PLC0415

        stock = stock or NOTHING_KEPT
        plan = vary(self._plan(builder))
        vm = BuilderVm(self._context, self._progress, builder, plan, step="starting the VM that builds")
        work = Build(
            evaluated,
            store=self._context.sources,
            images=self._context.library.images,
            fetchers=InputFetcher(self._context, self._progress),
            workers=vm.workers,
            progress=self._progress,
            parts=stock.parts,
            variation=plan.variation,
        )
        with vm.running(work.connection) as machine:
            record = work.run(machine, jobs=plan.vcpus)
            make_provenance.check_sources(record, [it.claim for it in stock.statements.values()])
        return record, make_provenance.by_builder(record, mvm=__version__, builder=builder, limits=limits_of(plan))

    def _keep(
        self, key: BuildKey, record: "BuildRecord", claim: provenance.Provenance, parts: tuple[bytes, ...] = ()
    ) -> VerifiedImage:
        """Sign a build's provenance and keep it; the build is taken over only once it verifies, like any other."""
        from mvmnix.api import installation  # noqa: PLC0415 - builds alone pay for it
        from mvmnix.images import sbom  # noqa: PLC0415

        self._progress.step("signing and verifying provenance")
        listed = sbom.of(record, versions=installation.debian_versions())
        claim = replace(claim, sbom=Digest.of(listed))
        bundle = self._context.sign(Role.BUILDER, provenance_statement(claim, record.image.artifacts).to_bytes())
        library = self._context.library
        evidence = ImageEvidence(
            manifest=library.manifest(record.image.manifest.digest),
            provenance=bundle,
            lock=record.request.flake.lock,
            sbom=listed,
            parts=parts,
        )
        return library.keep(key, evidence, policy=self._context.policy, now=now())

    def request(self, source: SourceRef) -> BuildRequest:
        """What to build, from the source as it is now."""
        with self._context.recorded():
            if isinstance(source, OciRef):
                from mvmnix.builder.oci import image as oci  # noqa: PLC0415 - brings the downloader

                return oci.build_request(source, self._context.network.registries)
            flake = take_flake(source, self._context.known_trees)
            if flake.commit is not None and flake.changes_elsewhere:
                names = first_names(flake.changes_elsewhere)
                self._progress.notice(f"commit {flake.commit[:12]} is taken, without changes elsewhere: {names}")
            return BuildRequest(flake, self._locked(flake), source.attribute)

    def _known(self, source: SourceRef) -> VerifiedImage | None:
        """A kept image of a tree that was taken before, and is found without git; None where `request` has to take it.

        A build isn't made of such a tree: its provenance names the commit.
        """
        if isinstance(source, OciRef):
            return None
        with self._context.recorded():
            flake = find_flake(source, self._context.known_trees)
            if flake is None:
                return None
            self._locked(flake)
        return self._finished(flake, source.attribute)

    def _locked(self, flake: FlakeSource | FoundFlake) -> lock.LockedFlake:
        """Its parsed lock. Raises RefusedError for one that locks an input to something else than it asks for."""
        locked = lock.parse(flake.lock)
        if reasons := tuple(checks.substituted_nodes(locked, self._context.policy.pairs)):
            raise RefusedError(*reasons)
        return locked

    def _finished(self, flake: FlakeSource | FoundFlake, attribute: str) -> VerifiedImage | None:
        """A kept image, as the builder image's provenance says which; its files are hashed only if it has to build."""
        with self._context.recorded():
            own = bootstrap.request()
            host_nix = _key(own.flake, own.attribute, provenance.HOST_NIX)
            builder = self._context.library.claim(host_nix, policy=self._context.policy)
        return None if builder is None else self._kept(_key(flake, attribute, str(builder.derivation)))

    def _named(self, text: str) -> VerifiedImage:
        """A kept image by its name or digest, verified. Of several builds of it, any one that verifies."""
        entries = [entry for _, entry in self._context.kept_images.find(text)]
        with self._context.recorded():
            for entry in entries[:-1]:
                with suppress(RefusedError):
                    return self._context.library.open(entry, policy=self._context.policy, now=now())
            return self._context.library.open(entries[-1], policy=self._context.policy, now=now())

    def _kept(self, key: BuildKey) -> VerifiedImage | None:
        with self._context.recorded():
            return self._context.library.find(key, policy=self._context.policy, now=now())


def _name_of(builder: VerifiedImage) -> str:
    return str(builder.provenance.claim.derivation)


def _key(flake: FlakeSource | FoundFlake, attribute: str, builder: str) -> BuildKey:
    return BuildKey(flake.nar, flake.directory, attribute, builder)


def hold_image(context: Context, source: SourceRef | KeptImage, stack: ExitStack, progress: Progress) -> VerifiedImage:
    """Find or build an image, which can't be removed until `stack` is closed. Raises as `ImageBuilder.image` does."""
    stack.enter_context(context.working())
    with open_image_builder(context, progress) as images:
        return images.image(source)


def named_source(context: Context, text: str) -> SourceRef | KeptImage:
    """As `runnable_ref`, and its error has the reference to the kept image whose bare name was given."""
    try:
        return runnable_ref(text)
    except UsageError as error:
        if text in context.kept_images.names():
            error.hint = f"did you mean {KEPT_SCHEME}{text}? Otherwise {error.hint}"
        raise


def image_name(context: Context, text: str, known: Collection[str]) -> str:
    """Return which of the known names of images is meant by a name, `image:NAME`, or a flake whose image is kept.

    "" where it is none of them. Nothing is built.
    """
    if (name := text.removeprefix(KEPT_SCHEME)) in known:
        return name
    with suppress(MvmnixError, OSError), open_image_builder(context) as images:
        found = images.kept_image(runnable_ref(text))
        if found is not None and found.image.name in known:
            return found.image.name
    return ""


@contextmanager
def open_image_builder(
    context: Context, progress: Progress = SILENT_PROGRESS, limits: BuildLimits = AS_THE_IMAGE_SAYS
) -> Iterator[ImageBuilder]:
    """An image builder, with its log in the state directory; no image or source is removed meanwhile.

    A MvmnixError that is raised in it names that log.
    """
    with context.working(), context.roots.state.child(child_logs.DIRECTORY) as logs:
        name, fd = child_logs.create(logs, now())
        with os.fdopen(fd, "wb") as log:
            logged = LoggedProgress(progress, log)
            try:
                yield ImageBuilder(context, logged, limits)
            except MvmnixError as error:
                if (failure := failed_child(error)) is not None and not failure.secret:
                    logged.log(failure.whole)
                    error.log = logs.where(name)
                elif log.tell() and not isinstance(error, (RefusedError, UsageError)):
                    error.log = logs.where(name)
                raise
            finally:
                context.end_downloads()
                if not log.tell():  # nothing was said
                    logs.remove(name)
