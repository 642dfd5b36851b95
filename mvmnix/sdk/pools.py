"""Pools for programs: machines that wait, restored and told nothing, of which starts take one."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Self

from mvmnix.api.context import Context
from mvmnix.api.pools import PoolPlans, list_pools, prepare_pool, remove_pools, set_pool
from mvmnix.api.templates import MachineShape
from mvmnix.errors import UsageError
from mvmnix.launch.control.drivers import Steps
from mvmnix.launch.control.pool_messages import MOST_WAITING, PoolStatus
from mvmnix.plan.fields import LEAST_MIB, MOST_MIB, MOST_VCPUS
from mvmnix.sdk.arguments import between
from mvmnix.sdk.drive import WorkerStack, work
from mvmnix.sdk.errors import NotFound
from mvmnix.sdk.preparation import Source, open_state, source_of
from mvmnix.words import Words


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """A pool of the launcher that this process's starts go to, as it was when it was asked for."""

    image: str
    """The image's name."""
    vcpus: int
    memory_mib: int
    count: int
    """How many machines are to wait."""
    waiting: int
    """How many do."""
    why: str
    """Why the last machine doesn't wait; "" where nothing went wrong. After three of them in a row none is started:
    `Pool.set` has machines wait again."""

    @classmethod
    def _of(cls, status: PoolStatus) -> Self:
        return cls(status.image, status.vcpus, status.memory_mib, status.count, status.waiting, status.why)


def keep(source: Source, count: int, vcpus: int | None, memory_mib: int | None) -> Steps[PoolStatus]:
    """Keep so many machines waiting; return the pool once they do. Raises InvalidArgument, Error."""
    between(count, "count", 1, MOST_WAITING)
    between(vcpus, "vcpus", 1, MOST_VCPUS)
    between(memory_mib, "memory_mib", LEAST_MIB, MOST_MIB)
    opened = WorkerStack()

    def prepare(stack: ExitStack) -> tuple[Context, PoolPlans]:
        context, shape = open_state(stack), MachineShape(vcpus, memory_mib)
        return context, prepare_pool(context, source_of(source, context), shape, count, stack)

    try:
        context, plans = yield from work(partial(opened.run, prepare))
        return (yield from set_pool(context, plans))
    finally:
        opened.close()


def list_kept() -> Steps[tuple[PoolStatus, ...]]:
    """Return the pools."""
    opened = WorkerStack()
    try:
        context = yield from work(partial(opened.run, open_state))
        return (yield from list_pools(context))
    finally:
        opened.close()


def remove(images: Words) -> Steps[None]:
    """Have no machine of these images wait any more. Raises NotFound."""
    opened = WorkerStack()
    try:
        context = yield from work(partial(opened.run, open_state))
        yield from remove_pools(context, images)
    except UsageError as error:
        raise NotFound(error.message, hint=error.hint) from error
    finally:
        opened.close()
