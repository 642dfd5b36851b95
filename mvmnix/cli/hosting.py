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
    from mvmnix.cli.house import House


def host_of(rooms: "House", notice: Callable[[str], None], backend: kinds.Backend) -> Host:
    """What machines are given. Raises MvmnixError when there is no usable hypervisor, as `choice.find` does."""
    hypervisor, jail = choice.find(backend), rooms.jail
    return Host(
        hypervisor=hypervisor,
        jail=jail,
        kvm=KvmProbe(hypervisor, jail, rooms.roots.cache),
        journal=rooms.journal,
        sign=lambda statement: rooms.sign(Role.HOST, statement),
        machines=rooms.machines,
        replay=rooms.replay(notice),
        notice=notice,
        own=tuple(rooms.roots.paths.values()),
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
