"""Builds once more what was built, in a machine that shows itself otherwise, and compares.

1. It is the same tree and attribute that is built, by the builder image of this installation.
2. The machine is a new one, with another number of processors, host name, clock and directory order, all of it said by
   its signed plan; nothing that earlier builds left comes in, but fetched files, each by its hash.
3. The four files are compared by the digests that were taken as they came out of the machine.
4. Where they agree, that is signed and kept as a provenance of its own; where not, each file that differs is named.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from mvmnix.api.context import Context
from mvmnix.api.files import file_bytes
from mvmnix.api.image_builder import ImageBuilder
from mvmnix.builder import bootstrap
from mvmnix.builder.reproduce import file_differences
from mvmnix.builder.reproduce.file_differences import Agreement, Difference, Disagreement, compare_images
from mvmnix.builder.session.session import BuildRequest
from mvmnix.clock import now
from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError
from mvmnix.images.prune import KeptImages
from mvmnix.images.rebuilds import RebuildStore
from mvmnix.images.store import STATEMENT_LIMIT, VerifiedImage
from mvmnix.keys import Role
from mvmnix.model import Digest, DirectoryOrder
from mvmnix.plan.plan import Plan
from mvmnix.provenance.slsa.predicate import provenance_statement
from mvmnix.provenance.slsa.provenance import Provenance, Variation
from mvmnix.provenance.verify.quorum import Quorum
from mvmnix.provenance.verify.verify import Verified

#: What a rebuild's machine shows: 400 days from now, so that date, weekday, month and year are others.
VARIATION: Final = Variation("rebuild", 400 * 86_400, DirectoryOrder.REVERSED)
_MOST_PROCESSORS: Final = 64


def rebuild_image(
    context: Context, images: ImageBuilder, request: BuildRequest, first: VerifiedImage
) -> Verified[Provenance]:
    """Build it once more; the second provenance, signed, kept and verified. Raises RefusedError [not-reproducible]."""
    built = first.provenance.claim
    if (built.root.nar, built.directory, built.attribute) != _subject(request):  # 1
        raise MvmnixError(f"{request.flake.uri} has changed since it was built", hint="build it again")
    record, claim = images.build_unsigned(request, images.builder_image(), vary=lambda plan: varied(plan, built))  # 2
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
    hint = f"compare {kept.where(it.first.digest)} and {kept.where(it.second.digest)}; see docs/reproducibility.md"
    return Reason(ReasonCode.NOT_REPRODUCIBLE, it.name, why, hint)


@dataclass(frozen=True, slots=True)
class RebuildSigners:
    """Who built an image alike: the builders that a launch counts, the bundles of the rebuilds, how many it wants."""

    manifest: Digest
    builders: tuple[str, ...]
    rebuilds: tuple[Digest, ...]
    wanted: int


def add_rebuilds(context: Context, digest: str, paths: Sequence[str]) -> RebuildSigners:
    """Keep further provenance of the image whose manifest has this digest, or begins with it, once each verifies.

    Each file of `paths` has one bundle or several, a line each. Raises RefusedError, which is logged, for one that
    doesn't verify, UsageError for no file.
    """
    bundles = [bundle for path in paths for bundle in file_bytes(path, STATEMENT_LIMIT).split(b"\n")]
    with context.working(), context.recorded():
        kept, moment = RebuildStore(context.roots.state), now()
        ((_, entry), *_) = KeptImages(context.library).find(digest)
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
