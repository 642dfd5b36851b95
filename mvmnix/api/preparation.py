"""Prepares a run: finds or builds an image, and drafts and signs the plan of the machine that is started for it."""

from contextlib import ExitStack
from dataclasses import dataclass, replace

from mvmnix.api.context import Context
from mvmnix.api.frontend import SILENT_PROGRESS, Progress
from mvmnix.api.image_builder import hold_image
from mvmnix.api.machine_store import put_in_order
from mvmnix.api.plans import PlanOptions, draft_plan, refuse_early, sign_plan, unasked_verbs
from mvmnix.api.source_refs import KeptImage, SourceRef
from mvmnix.images.store import VerifiedImage
from mvmnix.model import Verb
from mvmnix.plan.plan import Plan, Use


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """An image, the plan for it, the verbs that the plan grants unasked, and the plan's signed bundle."""

    finished: VerifiedImage
    plan: Plan
    unasked: frozenset[Verb]
    bundle: bytes


def prepare_run(
    context: Context,
    source: SourceRef | KeptImage,
    options: PlanOptions,
    stack: ExitStack,
    progress: Progress = SILENT_PROGRESS,
    *,
    grants_unasked: bool,
) -> PreparedRun:
    """Prepare a run; the image can't be removed until `stack` is closed, which is once the machine has started.

    A plan that grants snapshots starts machines as often as asked for in its window: others go on from them. Raises as
    api/plans.py and api/image_builder.py do.
    """
    put_in_order(context.roots, context.machines, context.frontend)
    refuse_early(context, options)
    finished = hold_image(context, source, stack, progress)
    unasked = unasked_verbs(context, finished.image, options) if grants_unasked else frozenset()
    use = Use.WITHIN_WINDOW if Verb.SNAPSHOT in options.verbs else options.use
    plan = draft_plan(context, finished, replace(options, verbs=options.verbs | unasked, use=use))
    return PreparedRun(finished, plan, unasked, sign_plan(context, plan))
