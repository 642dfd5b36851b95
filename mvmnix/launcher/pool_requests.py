"""Performs what a caller asks about pools: verifies the plan of one, and has the launcher keep its machines waiting."""

from collections.abc import Iterable, Mapping

from mvmnix.api.admission import admit_plan
from mvmnix.api.context import Context
from mvmnix.errors import UsageError
from mvmnix.launch.control.codec import clean_text
from mvmnix.launch.control.pool_messages import (
    LONGEST_WHY,
    PoolAction,
    PoolRequest,
    PoolsKept,
    PoolStatus,
    check_room,
    pool_name,
    pool_status,
)
from mvmnix.launcher.conversation import Conversation
from mvmnix.launcher.handed_over import open_for, read_plan
from mvmnix.launcher.pools import Pools
from mvmnix.plan.plan import Use


def perform(
    conversation: Conversation, request: PoolRequest, descriptors: Mapping[str, int], pools: Pools | None
) -> PoolsKept:
    """Do what was asked; the pools that there are then. Raises what goes wrong, for the caller to hear."""
    if pools is None:
        hint = "ask from a process that isn't confined, without --private-launcher"
        raise UsageError("a private launcher keeps no machine waiting", hint=hint)
    kept = {each.said: pool_status(each.said, each.count, each.waiting, _why(each.why)) for each in pools.kept()}
    pools.let_go()  # this process may wait for an answer
    with open_for(conversation, descriptors) as context:
        match request.action:
            case PoolAction.SET:
                name, status = _set(context, request, descriptors["plan"], pools, kept.values())
                kept[name] = status
            case PoolAction.REMOVE:
                for name in [name for name, status in kept.items() if _is_meant(status, request)]:
                    pools.remove(name)
                    del kept[name]
            case PoolAction.LIST:
                pass
    return PoolsKept(tuple(kept.values()))


def _set(
    context: Context, request: PoolRequest, fd: int, pools: Pools, kept: Iterable[PoolStatus]
) -> tuple[bytes, PoolStatus]:
    with admit_plan(context, read_plan(fd)) as plan:
        wanted = plan.plan
    if wanted.use is not Use.POOL:
        raise UsageError("the plan is not for a pool", hint="have mvm make one that is: mvm pool set IMAGE")
    if request.count < 1:
        raise UsageError("a pool has one machine at least", hint="end one by mvm pool rm IMAGE")
    name = pool_name(wanted)
    status = pool_status(name, request.count)
    check_room(status, kept)
    pools.keep(name, request.count, fd)
    return name, status


def _is_meant(status: PoolStatus, request: PoolRequest) -> bool:
    return status.image == request.image and request.pool in {"", status.id}


def _why(words: bytes) -> str:
    return clean_text(words.decode(errors="replace"), LONGEST_WHY)
