"""The only maker of mounts whose flags the process that receives them can't change.

The receiver has all capabilities in a user namespace of its own (entry.py). There mount_setattr(2) would take the flag
for "read-only" off a detached mount that comes from root's mount namespace. Flags are locked when a mount namespace is
copied into a less privileged one (mount_namespaces(7), "Restrictions on mount namespaces"), and stay locked in a
further copy. So a child of root's attaches the mount, copies its mount namespace so, and sends a detached copy back.
"""

import errno
import os

from mvmnix.privileges import entry, idmap
from mvmnix.privileges.descriptors import made_by_child


def locked(tree: int) -> int:
    """A detached mount like this one, with locked flags; the caller closes both. Raises OSError, ProcessError."""

    def copy() -> int:
        entry.become_private()
        entry.attach((tree,))
        os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNS)
        copied = idmap.detached(os.open(entry.paths((tree,))[0], os.O_PATH | os.O_CLOEXEC))
        if copied is None:
            raise OSError(errno.EPERM, "it can't be copied", "mount_namespaces(7)")
        return copied

    with made_by_child(copy, "mount with locked flags") as (_, made):
        return made
