"""Asks machines and signed plans which images they need, which then are not removed."""

from collections.abc import Iterator

from mvmnix.api.context import Context
from mvmnix.builder.keeping.library import Room
from mvmnix.builder.keeping.needs import File, Need
from mvmnix.errors import RefusedError
from mvmnix.launch import signatures
from mvmnix.launch.host import now
from mvmnix.launch.plan import Plan
from mvmnix.launch.records import registry
from mvmnix.launch.steps import plan_of
from mvmnix.model import Digest
from mvmnix.provenance import statement

#: Largest plan that is read, in bytes.
_LIMIT = 16 * 1024 * 1024


def image_roots(context: Context) -> tuple[Need, ...]:
    """What needs images: machines that run or wait, and plans that were signed here and have not expired."""
    return (*_machines(context), *_plans(context))


def part_roots(context: Context) -> frozenset[File]:
    """The statements of kept parts: they are among the bundles, and no image names them."""
    return frozenset(File(Room.BUNDLES, part.bundle) for part in context.part_book.needed())


def drop_expired(context: Context) -> None:
    """Remove the copies of plans that have expired."""
    for digest in context.plans.digests():
        plan = _plan(context, digest)
        if plan is not None and _expired(plan):
            context.plans.remove(digest)
    context.plans.sweep()


def plans_for(context: Context, manifest: Digest) -> Iterator[bytes]:
    """The plans that were signed here for the image with this manifest, as they were signed, one bundle or several."""
    for digest in context.plans.digests():
        plan = _plan(context, digest)
        about = None if plan is None else _image_of(plan)
        if about is not None and about[0] == manifest:
            yield context.plans.read(digest, limit=_LIMIT)


def _machines(context: Context) -> tuple[Need, ...]:
    living = [entry.status for entry in registry.entries(context.machines) if entry.alive or entry.status.waits]
    return tuple(
        Need(
            f"the machine {status.name or status.machine}",
            (status.manifest, status.provenance) if status.manifest and status.provenance else None,
        )
        for status in living
    )


def _plans(context: Context) -> tuple[Need, ...]:
    found = []
    for digest in context.plans.digests():
        plan = _plan(context, digest)
        if plan is None:
            found.append(Need(f"a plan that can't be read: {context.plans.where(digest)}", None))
        elif not _expired(plan):
            found.append(Need(f"the plan {digest}", _image_of(plan)))
    return tuple(found)


def _plan(context: Context, digest: Digest) -> Plan | None:
    """A kept plan; None for one that this policy or this version doesn't understand, which then needs everything."""
    try:
        bundle = context.plans.read(digest, limit=_LIMIT)
        signed = signatures.gather(bundle, context.policy.trust)
        return plan_of(statement.parse(signed[0].payload))
    except RefusedError:
        return None


def _expired(plan: Plan) -> bool:
    return plan.window.not_after <= now()


def _image_of(plan: Plan) -> tuple[Digest, Digest] | None:
    return None if plan.manifest is None else (plan.manifest, plan.provenance)
