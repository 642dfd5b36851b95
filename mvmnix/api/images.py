"""Lists, removes, prunes, saves and rebuilds the kept images, each verified when looked at; says what needs them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final

from mvmnix.api import files, installation
from mvmnix.api.context import Context
from mvmnix.api.files import file_bytes
from mvmnix.api.image_builder import ImageBuilder
from mvmnix.api.kept_plans import drop_expired, kept_plans, read_kept
from mvmnix.api.snapshot_store import open_snapshots
from mvmnix.builder import bootstrap
from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.reproduce import file_differences
from mvmnix.builder.reproduce.comparison import Agreement, Difference, Disagreement, compare_images
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError
from mvmnix.images import image_archive
from mvmnix.images.file_names import BUNDLE_NAME, LOCK_NAME, PARTS_NAME, REBUILDS_NAME
from mvmnix.images.gc_roots import Need, StoredFile
from mvmnix.images.prune import KeptImages, PruneResult, SourceGcResult, collect_garbage, sources_of
from mvmnix.images.rebuilds import RebuildStore
from mvmnix.images.store import STATEMENT_LIMIT, BuildKey, IndexEntry, StoreDirectory, VerifiedImage
from mvmnix.keys import Role
from mvmnix.machines import registry
from mvmnix.model import DirectoryOrder
from mvmnix.plan.plan import Plan
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.slsa.predicate import SBOM_NAME, provenance_statement, read_provenance
from mvmnix.provenance.slsa.provenance import HOST_NIX, Provenance, Variation
from mvmnix.provenance.verify.authentication import Quorum, authenticate
from mvmnix.provenance.verify.verify import Verified
from mvmnix.system.output_files import NewDirectory, NewFile
from mvmnix.system.store import chunks
from mvmnix.words import Words, check_words

#: What needs images, and the images.
type Listed = tuple[tuple[Need, ...], tuple["SeenImage", ...]]

#: What a rebuild's machine shows: 400 days from now, so that date, weekday, month and year are others.
VARIATION: Final = Variation("rebuild", 400 * 86_400, DirectoryOrder.REVERSED)
_MOST_PROCESSORS: Final = 64
#: What to do with a holder that doesn't say what it needs.
_FORGET: Final = "stop that machine, or remove that plan (mvm plan rm) or snapshot (mvm snapshot rm), and try again"


@dataclass(frozen=True, slots=True)
class SeenImage:
    """A kept build as it was just found: verified, or None and the reasons why not."""

    name: str
    entry: IndexEntry
    finished: VerifiedImage | None
    reasons: tuple[str, ...]


def list_images(context: Context) -> Listed:
    """All kept builds, each of them verified, every byte of it."""
    with context.working():
        return image_roots(context), tuple(_look(context, name, entry) for name, entry in context.library.index())


def find_images(context: Context, digest: str) -> Listed:
    """The builds of the image whose manifest has this digest, or begins with it, verified.

    Raises UsageError for one that isn't kept, RefusedError for one that doesn't verify.
    """
    with context.working():
        found = (
            SeenImage(name, entry, context.library.open(entry, policy=context.policy, now=now()), ())
            for name, entry in context.kept_images.find(digest)
        )
        return image_roots(context), tuple(found)


def _look(context: Context, name: str, entry: IndexEntry) -> SeenImage:
    """Verify a kept build, every byte of it."""
    try:
        return SeenImage(name, entry, context.library.open(entry, policy=context.policy, now=now()), ())
    except RefusedError as refused:
        return SeenImage(name, entry, None, tuple(map(str, dict.fromkeys(refused.codes))))
    except MvmnixError as error:
        return SeenImage(name, entry, None, (error.message,))


def remove_images(context: Context, digests: Words) -> PruneResult:
    """Remove the images with these manifest digests, or that begin so, and the files that were theirs alone.

    Raises MvmnixError for one that a machine or a plan needs, and while an image is made or used.
    """
    digests = check_words(digests)
    with context.clearing():
        shelves, needs = KeptImages(context.library, held=part_roots(context)), image_roots(context)
        _refuse_unknown(needs)
        found = {name for digest in digests for name, _ in context.kept_images.find(digest)}
        freed = shelves.remove(found, needs)
        _forget_rebuilds(context, freed)
        return freed


def prune_images(context: Context, *, every: bool, before: datetime | None, remove: bool) -> PruneResult:
    """Remove files that no image names any more, and with `every` the images that nothing needs, or say what would go.

    `before`: of these only what was finished earlier, by its verified provenance. Raises MvmnixError as above; to say
    it, builds are kept out of nothing.
    """
    with context.clearing() if remove else context.surveying():
        needs = image_roots(context)
        _refuse_unknown(needs)
        freed = KeptImages(context.library, held=part_roots(context)).prune(
            needs,
            every=every,
            spared=_spared() if every else (),
            finished=_times(context) if before else {},
            before=before,
            remove=remove,
        )
        if remove:
            drop_expired(context)
            _forget_rebuilds(context, freed)
        return freed


def _forget_rebuilds(context: Context, freed: PruneResult) -> None:
    """Remove the rebuilds' provenance of images that are gone."""
    left = {entry.manifest for entry in context.library.entries()}
    for manifest in set(freed.builds) - left:
        RebuildStore(context.roots.state).forget(manifest)


def _refuse_unknown(needs: tuple[Need, ...]) -> None:
    """Refuse to remove anything where a machine or plan needs images and doesn't say which."""
    if unknown := [need.who for need in needs if need.image is None]:
        why = f"it is not known which images are needed by {', '.join(unknown)}"
        raise MvmnixError(why, hint=_FORGET)


def _spared() -> tuple[str, ...]:
    """The index entry of this installation's builder image: without it the next build begins with building that."""
    request = bootstrap.request()
    return (BuildKey(request.flake.nar, request.flake.directory, request.attribute, HOST_NIX).name,)


def _times(context: Context) -> dict[str, datetime]:
    """When each build that verifies was finished, by its index entry."""
    seen = (_look(context, name, entry) for name, entry in context.library.index())
    return {it.name: it.finished.provenance.claim.finished for it in seen if it.finished is not None}


def image_roots(context: Context) -> tuple[Need, ...]:
    """What needs images: machines that run or wait, snapshots, and plans that were signed here and have not expired."""
    return (*_machines(context), *_plans(context), *_snapshots(context))


def part_roots(context: Context) -> frozenset[StoredFile]:
    """The statements of kept parts: they are among the bundles, and no image names them."""
    return frozenset(StoredFile(StoreDirectory.BUNDLES, part.bundle) for part in context.part_index.needed())


def _machines(context: Context) -> tuple[Need, ...]:
    living = [entry for entry in registry.list_entries(context.machines) if entry.alive or entry.status.waits]
    needs = (Need(_called(entry), (entry.status.manifest, entry.status.provenance)) for entry in living)
    return tuple(dict.fromkeys(needs))  # the machines of a pool are one


def _called(entry: registry.MachineEntry) -> str:
    image = entry.status.image
    if entry.is_pooled:
        return f"the pool of {image} ({registry.pool_removal(image)})"
    return f"the machine {entry.status.name}"


def _plans(context: Context) -> Iterator[Need]:
    for kept in kept_plans(context):
        if kept.plan is None:
            yield Need(f"a plan that can't be read: {context.plans.where(kept.digest)}", None)
        elif not kept.has_expired:
            yield Need(f"the plan {kept.digest}", kept.image)


def _snapshots(context: Context) -> Iterator[Need]:
    """A machine goes on from a snapshot as long as its plan may start one."""
    for listed in open_snapshots(context).list():
        plan = read_kept(context, Digest.of(listed.plan), listed.plan)
        if not plan.has_expired:
            yield Need(f"the snapshot {listed.id}", plan.image)


def export_image(context: Context, finished: VerifiedImage, out: NewDirectory) -> None:
    """Write an image's four files and its evidence into a new directory, hashed on the way.

    Raises UsageError for a directory that exists.
    """
    it, rebuilds = finished.evidence, RebuildStore(context.roots.state).bundles(finished.image.manifest.digest)
    with out.make() as place:
        for artifact in finished.image.artifacts:
            with place.file(artifact.name) as file:
                context.library.images.copy(artifact.digest, file.write)
                os.fchmod(file.fileno(), 0o444)
        place.write(BUNDLE_NAME, it.provenance)
        if it.lock is not None:
            place.write(LOCK_NAME, it.lock)
        if it.sbom is not None:
            place.write(SBOM_NAME, it.sbom)
        if it.parts:
            place.write(PARTS_NAME, b"\n".join(it.parts))
        if rebuilds:
            place.write(REBUILDS_NAME, b"\n".join(rebuilds))


def save_image(context: Context, digest: str, out: NewFile) -> None:
    """Write the image whose manifest has this digest, or begins with it, to a new archive; it is verified first.

    Raises UsageError for a file that exists.
    """
    with context.working():
        (_, entry), *_ = context.kept_images.find(digest)
        finished = context.library.open(entry, policy=context.policy, now=now())
        with out.open() as file:
            image_archive.pack(context.library, finished, file.write)


def load_image(context: Context, file: str) -> VerifiedImage:
    """Take an image out of an archive of `save_image`; it is kept once the trust policy admits it.

    Raises UsageError for what is no regular file, RefusedError, which is logged.
    """
    with files.regular(file, "name an archive that is there") as fd, context.working(), context.recorded():
        return image_archive.unpack(context.library, chunks(fd), policy=context.policy, now=now())


def collect_sources(context: Context, *, remove: bool) -> SourceGcResult:
    """Remove them, or only say what would go; with what killed downloads left. All can be fetched again by hash.

    Raises MvmnixError while a build runs, and where a kept build's provenance doesn't verify.
    """
    with context.clearing() if remove else context.surveying():
        needed = {*sources_of(_claims(context)), *(source.digest for source in installation.pins())}
        needed |= {part.nar for part in context.part_index.needed()}
        return collect_garbage(context.sources, needed, remove=remove)


def _claims(context: Context) -> Iterator[Provenance]:
    """The provenance of each kept build, authenticated. Raises MvmnixError: unknown needs forbid a removal."""
    for _, entry in context.library.whole_index():
        yield _claim(context, entry.bundle, entry.manifest)


def _claim(context: Context, bundle: Digest, manifest: Digest) -> Provenance:
    try:
        data = context.library.bundle(bundle)
        authentic = authenticate(data, trust=context.policy.trust, role=Role.BUILDER, what="a kept build")
        return read_provenance(statement.parse(authentic.payload))
    except RefusedError as refused:
        why = f"the provenance of {manifest} is refused ({', '.join(refused.codes)}): what it needs is not known"
        raise MvmnixError(why, hint=f"mvm image rm {manifest}, or correct the trust policy") from refused


def rebuild_image(
    context: Context, images: ImageBuilder, request: BuildRequest, first: VerifiedImage
) -> Verified[Provenance]:
    """Build it once more, in a machine that shows itself otherwise; the second provenance.

    1. It is the same tree and attribute that is built, by the builder image of this installation.
    2. The machine is a new one, with another number of processors, host name, clock and directory order, all of it said
       by its signed plan; nothing that earlier builds left comes in, but fetched files, each by its hash.
    3. The four files are compared by the digests that were taken as they came out of the machine.
    4. Where they agree, that is signed, kept and verified as provenance of its own; where not, each file that differs
       is named: RefusedError [not-reproducible].
    """
    built = first.provenance.claim
    if (built.root.nar, built.directory, built.attribute) != _subject(request):  # 1
        raise MvmnixError(f"{request.flake.uri} has changed since it was built", hint="build it again")
    builder, vary = images.builder_image(), partial(varied, built=built)
    record, claim = images.build_unsigned(images.evaluate(request, builder, vary=vary), builder, vary=vary)  # 2
    with context.recorded():
        match compare_images(first.image, record.image):  # 3
            case Disagreement(differences):
                raise RefusedError(*(_reason(each, context, images) for each in differences))
            case Agreement(image):
                images.progress.step("signing and verifying the second provenance")
                bundle = context.sign(Role.BUILDER, provenance_statement(claim, image.artifacts).to_bytes())
                return RebuildStore(context.roots.state).keep(first, bundle, policy=context.policy, now=now())  # 4


def rebuild_builder_image(context: Context, images: ImageBuilder) -> tuple[VerifiedImage, Verified[Provenance]]:
    """Build the builder image inside itself: what is kept, and its second provenance. Raises as `rebuild_image`."""
    first = images.builder_image()
    return first, rebuild_image(context, images, bootstrap.request(), first)


def varied(plan: Plan, built: Provenance) -> Plan:
    """The plan of a machine that differs from the one that built first, in its processors too."""
    before = built.limits.vcpus if built.limits else plan.vcpus
    vcpus = before + 1 if before < _MOST_PROCESSORS else before - 1
    return replace(plan, vcpus=vcpus, variation=VARIATION)


def _subject(request: BuildRequest) -> tuple[object, ...]:
    return (request.flake.nar, request.flake.directory, request.attribute)


def _reason(it: Difference, context: Context, images: ImageBuilder) -> Reason:
    kept = context.library.images
    found = file_differences.differences(it, kept, images.progress.log)
    why = f"the second build made {it.second.digest} of it, the first {it.first.digest}: {found}"
    hint = f"{kept.where(it.first.digest)}, {kept.where(it.second.digest)}; docs/explanation/reproducibility.md"
    return Reason(ReasonCode.NOT_REPRODUCIBLE, it.name, why, hint)


@dataclass(frozen=True, slots=True)
class RebuildSigners:
    """Who built an image alike: the builders that a launch counts, the bundles of the rebuilds, how many it wants."""

    manifest: Digest
    builders: tuple[str, ...]
    rebuilds: tuple[Digest, ...]
    wanted: int


def add_rebuilds(context: Context, digest: str, paths: Words) -> RebuildSigners:
    """Keep further provenance of the image whose manifest has this digest, or begins with it, once each verifies.

    Each file of `paths` has one bundle or several, a line each. Raises RefusedError, which is logged, for one that
    doesn't verify, UsageError for no file.
    """
    bundles = [bundle for path in check_words(paths) for bundle in file_bytes(path, STATEMENT_LIMIT).split(b"\n")]
    with context.working(), context.recorded():
        kept, moment = RebuildStore(context.roots.state), now()
        ((_, entry), *_) = context.kept_images.find(digest)
        first = context.library.open(entry, policy=context.policy, now=moment)
        for bundle in bundles:
            kept.keep(first, bundle, policy=context.policy, now=moment)
        each = (it for _, it in kept.each(first, policy=context.policy, now=moment))
        seen = [it for it in each if not isinstance(it, RefusedError)]
        quorum = Quorum()
        builders = (
            it.signer.name for it in (first.provenance, *seen) if not quorum.count(it.authentic, {it.claim.invocation})
        )
        return RebuildSigners(
            first.image.manifest.digest,
            tuple(sorted(builders)),
            tuple(it.bundle for it in seen),
            context.policy.thresholds.rebuilds,
        )
