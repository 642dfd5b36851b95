"""Sets, lists and removes pools: machines that wait, told nothing, for a plan's machine to take their guest.

A launcher keeps them (mvmnix/launcher/pools.py): the one that this process's starts go to.
"""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

from mvmnix.api.context import Context
from mvmnix.api.frontend import SILENT_PROGRESS, Progress
from mvmnix.api.image_builder import hold_image, image_name
from mvmnix.api.launch import ContextCaller, StartOptions, ask, expected, given_plan, save_machine
from mvmnix.api.machine_store import put_in_order
from mvmnix.api.plans import sign_plan
from mvmnix.api.source_refs import KeptImage, SourceRef
from mvmnix.api.templates import SAVING, MachineShape, draft_untold_plan
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.launch.control.drivers import Steps, Wait, Work
from mvmnix.launch.control.own_directories import open_shown
from mvmnix.launch.control.pool_messages import (
    MOST_WAITING,
    PoolAction,
    PoolRequest,
    PoolsKept,
    PoolStatus,
    check_room,
    pool_name,
    pool_status,
)
from mvmnix.machines.registry import pool_removal
from mvmnix.machines.retention import Retention
from mvmnix.plan.plan import Plan, Use
from mvmnix.plural import counted
from mvmnix.system import log
from mvmnix.words import Words, check_words

#: Seconds between two looks whether the machines wait, and so many looks.
_PAUSE: Final = 0.25
_LOOKS: Final = 2400


@dataclass(frozen=True, slots=True)
class PoolPlans:
    """Two signed plans: for the template of a pool, and for each of its `count` machines, whose terms are `terms`."""

    template: bytes
    pool: bytes
    terms: Plan
    count: int


def prepare_pool(
    context: Context,
    source: SourceRef | KeptImage,
    shape: MachineShape,
    count: int,
    stack: ExitStack,
    *,
    progress: Progress = SILENT_PROGRESS,
) -> PoolPlans:
    """Find or build an image, and sign the plans of a pool of so many machines, to be handed to `set_pool`.

    The image can't be removed until `stack` is closed. Raises UsageError for a number that isn't possible, or a shape
    with a network or disks; what `sign_plan` and api/image_builder.py do.
    """
    if not 1 <= count <= MOST_WAITING:
        raise UsageError(f"a pool has 1 to {MOST_WAITING} machines, and not {count}", hint="end one: mvm pool rm IMAGE")
    if shape.network or shape.shares or shape.data:
        why = "no machine waits that has a network, shares or a data disk"
        raise UsageError(why, hint="such machines start from a template: mvm warm IMAGE")
    put_in_order(context.roots, context.machines, context.frontend)
    finished = hold_image(context, source, stack, progress)
    drafts = [draft_untold_plan(context, finished, shape, use) for use in (Use.TEMPLATE, Use.POOL)]
    template, pool = (sign_plan(context, draft) for draft in drafts)
    return PoolPlans(template, pool, drafts[1], count)


def set_pool(context: Context, plans: PoolPlans, progress: Progress = SILENT_PROGRESS) -> Steps[PoolStatus]:
    """Keep machines waiting, in the place of an older pool of the same image and shape; return it once they wait.

    A template is made first, which they share with no machine that was started before. Raises UsageError, before that,
    where more machines would wait than may; MvmnixError where a machine can't wait, and what starts do. Where the
    conversation is closed once the pool is set, the launcher goes on filling it, and a notice says so.
    """
    wanted = pool_status(pool_name(plans.terms), plans.count)
    check_room(wanted, (yield from list_pools(context)))
    progress.step(SAVING)
    yield from save_machine(context, plans.template, StartOptions(retention=Retention.LAST))
    progress.step(f"filling the pool: {counted(plans.count, 'machine')}")
    try:
        found = yield from _ask(context, PoolRequest(PoolAction.SET, wanted.image, count=wanted.count), plans.pool)
        return (yield from _wait(context, found, wanted))
    except (GeneratorExit, KeyboardInterrupt):
        how = f"mvm pool ls shows how far it is, {pool_removal(wanted.image)} ends it"
        context.frontend.notice(f"the launcher goes on filling the pool: {how}")
        raise


def list_pools(context: Context) -> Steps[tuple[PoolStatus, ...]]:
    """Return the pools of the launcher that this process's starts go to. Raises MvmnixError."""
    return (yield from _ask(context, PoolRequest(PoolAction.LIST)))


def remove_pools(context: Context, images: Words) -> Steps[tuple[PoolStatus, ...]]:
    """Have no machine of these images wait any more; return the pools that there were.

    Each image is named by its name, or as for `prepare_pool`. Raises UsageError where one has no pool, before any is
    removed.
    """
    texts = check_words(images)
    there = yield from list_pools(context)
    known = frozenset(each.image for each in there)
    names: list[str] = yield Work(lambda: [image_name(context, text, known) for text in texts])
    for text, name in zip(texts, names, strict=True):
        if not name:
            raise UsageError(f"there is no pool of {text!r}", hint="mvm pool ls lists pools")
    for name in dict.fromkeys(names):
        yield from _ask(context, PoolRequest(PoolAction.REMOVE, name))
    return tuple(each for each in there if each.image in names)


def _wait(context: Context, found: tuple[PoolStatus, ...], wanted: PoolStatus) -> Steps[PoolStatus]:
    """Wait until all machines of a pool do."""
    for _ in range(_LOOKS):
        status = next((each for each in found if each.id == wanted.id), None)
        if status is None:
            raise MvmnixError("the pool was removed before its machines waited", hint="set it once more")
        if status.why:
            yield from _ask(context, PoolRequest(PoolAction.REMOVE, wanted.image, wanted.id))
            raise MvmnixError(f"no machine of the pool can wait: {status.why}", hint="see mvm doctor; set it anew")
        if status.waiting >= status.count:
            return status
        yield Wait(seconds=_PAUSE)
        found = yield from list_pools(context)
    raise MvmnixError("the machines of the pool don't begin to wait", hint="see mvm pool ls, mvm doctor")


def _ask(context: Context, request: PoolRequest, plan: bytes = b"") -> Steps[tuple[PoolStatus, ...]]:
    caller = ContextCaller(context)
    with ExitStack() as stack:
        given = open_shown(stack, context.roots)
        if plan:
            given["plan"] = given_plan(stack, plan)
        asked = replace(request, can_ask=caller.can_answer, log=log.wanted())
        connection, answer = yield from ask(context, asked, [given[name] for name in asked.descriptors], caller)
        connection.close()
    return expected(answer, PoolsKept).pools
