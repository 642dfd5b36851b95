"""Asks machines and signed plans which images they need, which then are not removed."""

from collections.abc import Iterator

from mvmnix.api.context import Context
from mvmnix.api.kept_plans import kept_plans
from mvmnix.images import Need, StoredFile, StoreDirectory
from mvmnix.launch.machines import registry


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
