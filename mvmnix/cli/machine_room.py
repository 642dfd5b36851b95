"""Opens the machines' directories for commands about machines, put in order; the rest of the house only where needed.

`mvm ps` is typed often: keys, policy and audit log are looked for when somebody was killed and left an end unwritten.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mvmnix import caller
from mvmnix.cli.telling import notice
from mvmnix.launch.records import tidying
from mvmnix.privileges import ids
from mvmnix.sandbox.uid_pool import UidPool
from mvmnix.state import Directory, Roots


@contextmanager
def machine_room() -> Iterator[Directory]:
    """The machines' directories, for as long as a command runs; what killed processes left is put in order first."""
    with Roots.from_environment(os.environ) as roots, roots.state.child("machines") as machines:
        put_in_order(roots, machines)
        yield machines


def put_in_order(roots: Roots, machines: Directory) -> None:
    """Say what lies there and is no machine, and write down the ends that no supervisor was left to write down."""
    found = tidying.survey(machines)
    for line in found.broken:
        notice(line)
    if found.is_tidy and _are_cells_swept(roots):
        return
    from mvmnix.cli.desk import key_file  # noqa: PLC0415
    from mvmnix.cli.house import House  # noqa: PLC0415 - it takes longer than all else that `mvm ps` does
    from mvmnix.keys import Role  # noqa: PLC0415
    from mvmnix.launch.host import now  # noqa: PLC0415

    with House(roots) as rooms:
        if not found.is_tidy:
            journal = rooms.journal if rooms.keys.exists(key_file(Role.HOST)) else None
            tidying.tidy(machines, journal, now, notice)
        rooms.jail.sweep()


def _are_cells_swept(roots: Roots) -> bool:
    try:
        cells = Directory.open(ids.POOL_DIRECTORY) if caller.uid() == 0 else roots.state.existing("cells")
    except FileNotFoundError:
        return True  # no machine of ours ever had one
    with cells:
        return UidPool.are_swept(cells)
