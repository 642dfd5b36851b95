"""Opens what machines are given by this host: a hypervisor, the jail that it runs in, the log and the keys."""

from collections.abc import Callable
from functools import partial

from mvmnix.api.context import Context
from mvmnix.api.gate import open_replay
from mvmnix.keys import Role
from mvmnix.launch.backends import choice
from mvmnix.launch.jail.jail import BubblewrapJail
from mvmnix.launch.plan.backend import Backend
from mvmnix.launch.runtime.accelerator import KvmProbe
from mvmnix.launch.runtime.host import Host
from mvmnix.sandbox import pools


def open_jail(context: Context) -> BubblewrapJail:
    """Where hypervisors run, with a pool of uids where this process can give some away.

    Raises MvmnixError for a root that can't give uids away, RefusedError [state-permissions].
    """
    pool = pools.open_pool(context.roots.state)
    context.keep(pool.directory)
    return BubblewrapJail(pool, context.roots.cache)


def open_host(context: Context, notice: Callable[[str], None], backend: Backend = Backend.QEMU) -> Host:
    """What machines are given. Raises MvmnixError when there is no usable hypervisor, as `choice.find` does."""
    hypervisor, jail = choice.find(backend), open_jail(context)
    host = Host(
        hypervisor=hypervisor,
        jail=jail,
        kvm=KvmProbe(hypervisor, jail, context.roots.cache),
        journal=context.journal,
        sign=partial(context.sign, Role.HOST),
        machines=context.machines,
        replay=open_replay(context, notice),
        notice=notice,
        own=tuple(context.roots.paths.values()),
    )
    context.at_end(host.loop.close)
    return host
