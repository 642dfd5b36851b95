"""Hands a caller on to a machine that waits: looks at the plan, which isn't verified yet, for the pool that might do.

What the plan says decides here which process verifies it, and nothing else.
"""

import os
from collections.abc import Mapping
from contextlib import suppress

from mvmnix.errors import MvmnixError
from mvmnix.images.store import STATEMENT_LIMIT
from mvmnix.launch.control.codec import encode
from mvmnix.launch.control.own_directories import check_shown
from mvmnix.launch.control.pool_messages import pool_name
from mvmnix.launch.control.start_messages import Mode, StartRequest
from mvmnix.launcher.pools import Pools
from mvmnix.plan import plan as plans
from mvmnix.plan.plan import Accelerator, Plan, Start
from mvmnix.provenance.bundle import envelope, statement
from mvmnix.system.roots import Roots
from mvmnix.system.store import read_sealed


def is_shown(descriptors: Mapping[str, int]) -> bool:
    """Whether a caller shows that it reaches mvm's own directories: no machine ends for one that doesn't."""
    with suppress(MvmnixError, OSError), Roots.from_environment(os.environ) as roots:
        check_shown(roots, descriptors)
        return True
    return False


def hand_over(pools: Pools, request: StartRequest, descriptors: Mapping[str, int], connection: int) -> bool:
    """Have the process of a machine that waits answer a caller in this one's place; whether it does."""
    if request.created or request.mode not in {Mode.ATTACHED, Mode.DETACHED, Mode.HELD}:
        return False
    plan = _look(descriptors["plan"])
    if plan is None or not _may_claim(plan):
        return False
    passed = (connection, *(descriptors[name] for name in request.descriptors))
    return pools.claim(pool_name(plan), encode(request), passed)


def _may_claim(plan: Plan) -> bool:
    """Whether a machine of this plan may be one that waits: it has nothing that none of those has."""
    is_limited = plan.limits.cpu_percent is not None or plan.limits.cpu_weight is not None
    return not (plan.has_devices or is_limited or plan.start is Start.COLD or plan.accelerator is Accelerator.KVM)


def _look(fd: int) -> Plan | None:
    """What the first bundle of a plan says; None where it says nothing that can be read."""
    with suppress(ValueError, OSError, MvmnixError):
        bundle, _ = envelope.read(read_sealed(fd, STATEMENT_LIMIT))
        return plans.from_statement(statement.parse(bundle.payload))
    return None
