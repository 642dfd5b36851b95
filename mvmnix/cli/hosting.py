"""Assembles what machines are given by their host: the hypervisor, the jail around it, the log, the gate for nonces."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mvmnix.errors import MvmnixError
from mvmnix.keys import Role
from mvmnix.launch.backends import choice, kinds
from mvmnix.launch.host import Host
from mvmnix.launch.hypervisor.accelerator import KvmProbe
from mvmnix.launch.jail.jail import BubblewrapJail
from mvmnix.sandbox.uid_pool import COUNT, FIRST_UID, MACHINE_WIDE, UidPool
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
    if os.geteuid() != 0:
        cells = state.child("cells")
        return BubblewrapJail(UidPool(cells, first_uid=None), cache), cells
    if not owned(FIRST_UID, COUNT):
        why = (
            f"this root can't give away the uids {FIRST_UID} to {FIRST_UID + COUNT - 1}: its user namespace lacks them"
        )
        raise MvmnixError(why, hint="run mvm as root of the machine itself, or as a plain user")
    cells = Directory.create(MACHINE_WIDE)
    return BubblewrapJail(UidPool(cells, first_uid=FIRST_UID), cache), cells


def owned(first: int, count: int, *, uid_map: str = "/proc/self/uid_map") -> bool:
    """Whether this user namespace has these uids (user_namespaces(7))."""
    ranges = (tuple(map(int, line.split())) for line in Path(uid_map).read_text(encoding="ascii").splitlines())
    return any(begin <= first and first + count <= begin + length for begin, _outside, length in ranges)
