"""Lists, removes and prunes the kept images, each of them verified when it is looked at, and says what needs them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from mvmnix.api.context import Context
from mvmnix.api.kept_plans import drop_expired, kept_plans
from mvmnix.builder import bootstrap
from mvmnix.clock import now
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.images.gc_roots import Need, StoredFile
from mvmnix.images.prune import KeptImages, PruneResult
from mvmnix.images.rebuilds import RebuildStore
from mvmnix.images.store import BuildKey, IndexEntry, StoreDirectory, VerifiedImage
from mvmnix.launch.machines import registry
from mvmnix.provenance.slsa.provenance import HOST_NIX

#: What needs images, and the images.
type Listed = tuple[tuple[Need, ...], tuple["SeenImage", ...]]


@dataclass(frozen=True, slots=True)
class SeenImage:
    """A kept build as it was just found: verified, or None and the reasons why not."""

    name: str
    entry: IndexEntry
    finished: VerifiedImage | None
    reasons: tuple[str, ...]


def _look(context: Context, name: str, entry: IndexEntry) -> SeenImage:
    """Verify a kept build, every byte of it."""
    try:
        return SeenImage(name, entry, context.library.open(entry, policy=context.policy, now=now()), ())
    except RefusedError as refused:
        return SeenImage(name, entry, None, tuple(map(str, dict.fromkeys(refused.codes))))
    except MvmnixError as error:
        return SeenImage(name, entry, None, (error.message,))


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
            for name, entry in KeptImages(context.library).find(digest)
        )
        return image_roots(context), tuple(found)


def remove_images(context: Context, digests: Iterable[str]) -> PruneResult:
    """Remove the images with these manifest digests, or that begin so, and the files that were theirs alone.

    Raises MvmnixError for one that a machine or a plan needs, and while an image is made or used.
    """
    with context.clearing():
        shelves, needs = KeptImages(context.library, held=part_roots(context)), image_roots(context)
        _refuse_unknown(needs)
        freed = shelves.remove({name for digest in digests for name, _ in shelves.find(digest)}, needs)
        _forget_rebuilds(context, freed)
        return freed


def prune_images(context: Context, *, every: bool, before: datetime | None, remove: bool) -> PruneResult:
    """Remove files that no image names any more, and with `every` the images that nothing needs, or say what would go.

    `before`: of these only what was finished earlier, by its verified provenance. Raises MvmnixError as above.
    """
    with context.clearing():
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
        raise MvmnixError(why, hint="stop that machine, or have that plan forgotten (mvm plan rm), and try again")


def _spared() -> tuple[str, ...]:
    """The index entry of this installation's builder image: without it the next build begins with building that."""
    request = bootstrap.request()
    return (BuildKey(request.flake.nar, request.flake.directory, request.attribute, HOST_NIX).name,)


def _times(context: Context) -> dict[str, datetime]:
    """When each build that verifies was finished, by its index entry."""
    seen = (_look(context, name, entry) for name, entry in context.library.index())
    return {it.name: it.finished.provenance.claim.finished for it in seen if it.finished is not None}


def image_roots(context: Context) -> tuple[Need, ...]:
    """What needs images: machines that run or wait, and plans that were signed here and have not expired."""
    return (*_machines(context), *_plans(context))


def part_roots(context: Context) -> frozenset[StoredFile]:
    """The statements of kept parts: they are among the bundles, and no image names them."""
    return frozenset(StoredFile(StoreDirectory.BUNDLES, part.bundle) for part in context.part_index.needed())


def _machines(context: Context) -> tuple[Need, ...]:
    living = [entry.status for entry in registry.list_entries(context.machines) if entry.alive or entry.status.waits]
    return tuple(
        Need(
            f"the machine {status.name or status.machine}",
            (status.manifest, status.provenance) if status.manifest and status.provenance else None,
        )
        for status in living
    )


def _plans(context: Context) -> Iterator[Need]:
    for kept in kept_plans(context):
        if kept.plan is None:
            yield Need(f"a plan that can't be read: {context.plans.where(kept.digest)}", None)
        elif not kept.has_expired:
            yield Need(f"the plan {kept.digest}", kept.image)
