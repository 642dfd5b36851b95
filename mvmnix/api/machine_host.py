"""Assembles what machines are given by their host: the hypervisor, the jail around it, the log, the gate for nonces."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from mvmnix.keys import Role
from mvmnix.launch.backends import choice, kinds
from mvmnix.launch.host import Host
from mvmnix.launch.hypervisor.accelerator import KvmProbe
from mvmnix.launch.jail.jail import BubblewrapJail
from mvmnix.privileges import client
from mvmnix.sandbox.uid_pool import UidPool, of_machine
from mvmnix.state import Directory

if TYPE_CHECKING:
    from mvmnix.api.context import Context


def host_of(context: "Context", notice: Callable[[str], None], backend: kinds.Backend) -> Host:
    """What machines are given. Raises MvmnixError when there is no usable hypervisor, as `choice.find` does."""
    hypervisor, jail = choice.find(backend), context.jail
    return Host(
        hypervisor=hypervisor,
        jail=jail,
        kvm=KvmProbe(hypervisor, jail, context.roots.cache),
        journal=context.journal,
        sign=lambda statement: context.sign(Role.HOST, statement),
        machines=context.machines,
        replay=context.replay(notice),
        notice=notice,
        own=tuple(context.roots.paths.values()),
    )


def jail_of(state: Directory, cache: Directory) -> tuple[BubblewrapJail, Directory]:
    """The jail, and the directory of its cells, which the caller closes.

    Raises MvmnixError for a root that can't give uids away.
    """
    if client.current() is None:
        cells = state.child("cells")
        return BubblewrapJail(UidPool(cells, first_uid=None), cache), cells
    pool = of_machine()
    return BubblewrapJail(pool, cache), pool.directory
