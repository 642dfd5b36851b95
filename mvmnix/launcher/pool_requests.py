"""Performs what a caller asks about pools: verifies the plan of one, and has the launcher keep its machines waiting."""

import os
from collections.abc import Mapping

from mvmnix.api.admission import admit_plan
from mvmnix.api.context import Context
from mvmnix.errors import UsageError
from mvmnix.launch.control.codec import clean_text
from mvmnix.launch.control.pool_messages import (
    LONGEST_WHY,
    MOST_WAITING,
    PoolAction,
    PoolRequest,
    PoolsKept,
    PoolStatus,
)
from mvmnix.launcher.claims import pool_name, read_pool_name
from mvmnix.launcher.conversation import Conversation
from mvmnix.launcher.handed_over import open_for, read_plan
from mvmnix.launcher.pools import Pools
from mvmnix.plan.plan import Plan, Use

#: Machines that wait may have so much of the host's memory: one part of so many.
_SHARE = 2
_MIB = 1 << 20


def perform(
    conversation: Conversation, request: PoolRequest, descriptors: Mapping[str, int], pools: Pools | None
) -> PoolsKept:
    """Do what was asked; the pools that there are then. Raises what goes wrong, for the caller to hear."""
    if pools is None:
        hint = "ask from a process that isn't confined, without --private-launcher"
        raise UsageError("a private launcher keeps no machine waiting", hint=hint)
    kept = {each.said: _status(each.said, each.count, each.waiting, each.why) for each in pools.kept()}
    pools.let_go()  # this process may wait for an answer
    with open_for(conversation, descriptors) as context:
        match request.action:
            case PoolAction.SET:
                said, status = _set(context, request, descriptors["plan"], pools, kept)
                kept[said] = status
            case PoolAction.REMOVE:
                for said in [said for said, status in kept.items() if status.image == request.image]:
                    pools.remove(said)
                    del kept[said]
            case PoolAction.LIST:
                pass
    return PoolsKept(tuple(kept.values()))


def _set(
    context: Context, request: PoolRequest, fd: int, pools: Pools, kept: Mapping[bytes, PoolStatus]
) -> tuple[bytes, PoolStatus]:
    with admit_plan(context, read_plan(fd)) as plan:
        wanted = plan.plan
    if wanted.use is not Use.POOL:
        raise UsageError("the plan is not for a pool", hint="have mvm make one that is: mvm pool set IMAGE")
    said = pool_name(wanted)
    _check_room(wanted, request.count, [status for name, status in kept.items() if name != said])
    pools.keep(said, request.count, fd)
    return said, PoolStatus(wanted.image, wanted.vcpus, wanted.memory_mib, request.count, 0)


def _check_room(plan: Plan, count: int, others: list[PoolStatus]) -> None:
    """Raises UsageError where more machines would wait than may."""
    if count < 1:
        raise UsageError("a pool has one machine at least", hint="end one by mvm pool rm IMAGE")
    if count + sum(each.count for each in others) > MOST_WAITING:
        raise UsageError(f"no more than {MOST_WAITING} machines may wait", hint="see mvm pool ls")
    memory = count * plan.memory_mib + sum(each.count * each.memory_mib for each in others)
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MIB // _SHARE
    if memory > most:
        why = f"the machines that wait could take {memory} MiB, and {most} MiB is a half of this host's memory"
        raise UsageError(why, hint="let fewer of them wait, or smaller ones")


def _status(said: bytes, count: int, waiting: int, why: bytes) -> PoolStatus:
    image, vcpus, memory_mib = read_pool_name(said)
    return PoolStatus(image, vcpus, memory_mib, count, waiting, clean_text(why.decode(errors="replace"), LONGEST_WHY))
