"""Opens the machines' directories, put in order; keys, policy and audit log only where an end is to be written down.

Listing machines has to be fast: a context is opened only when a supervisor was killed and left its end unwritten.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mvmnix.machines import cleanup
from mvmnix.sandbox import uid_pool
from mvmnix.system.private_dirs import Directory
from mvmnix.system.roots import Roots

if TYPE_CHECKING:
    from mvmnix.api.frontend import Frontend


@contextmanager
def open_machine_store(frontend: "Frontend") -> Iterator[Directory]:
    """The machines' directories, for as long as an operation runs; what killed processes left is put in order first."""
    with Roots.from_environment(os.environ) as roots, roots.state.child("machines") as machines:
        put_in_order(roots, machines, frontend)
        yield machines


def put_in_order(roots: Roots, machines: Directory, frontend: "Frontend") -> None:
    """Say what lies there and is no machine, and write down the ends that no supervisor was left to write down."""
    found = cleanup.scan_machines(machines)
    for line in found.broken:
        frontend.notice(line)
    if found.is_tidy and uid_pool.are_swept(roots.paths["state"]):
        return
    from mvmnix.api.context import Context  # noqa: PLC0415 - its imports take longer than all else here
    from mvmnix.api.signing import key_file  # noqa: PLC0415
    from mvmnix.clock import now  # noqa: PLC0415
    from mvmnix.keys import Role  # noqa: PLC0415

    with Context(roots, frontend) as context:
        if not found.is_tidy:
            journal = context.journal if context.keys.exists(key_file(Role.HOST)) else None
            cleanup.clean_up(machines, journal, now, frontend.notice)
        uid_pool.sweep(roots.state)
