"""The only maker of mounts whose flags the process that receives them can't change.

The receiver has all capabilities in a user namespace of its own (entry.py). There mount_setattr(2) would take the flag
for "read-only" off a detached mount that comes from root's mount namespace. Flags are locked when a mount namespace is
copied into a less privileged one (mount_namespaces(7), "Restrictions on mount namespaces"), and stay locked in a
further copy. So a child of root's attaches the mount, copies its mount namespace so, and sends a detached copy back.
"""

import errno
import os
import socket
from collections.abc import Callable
from typing import Final

from mvmnix.privileges import entry, idmap
from mvmnix.process import spawn

#: Ends at once, and is there on every system (hier(7)).
_ENDING: Final = "/bin/true"


def locked(tree: int) -> int:
    """A detached mount like this one, with locked flags; the caller closes both. Raises OSError, ProcessError."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            child = spawn((_ENDING,), env={}, before_exec=_copied(tree, theirs))
        try:
            _, found, _, _ = socket.recv_fds(ours, 1, 1)
        finally:
            child.kill()
            child.wait()
    if not found:
        raise OSError(errno.EPERM, "no mount with locked flags can be made", "mount_namespaces(7)")
    os.set_inheritable(found[0], False)
    return found[0]


def _copied(tree: int, told: socket.socket) -> Callable[[], None]:
    """What the child does; without a mount for an answer it has failed."""

    def copy() -> None:
        try:
            entry.become_private()
            entry.attach((tree,))
            os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNS)
            source = os.open(entry.paths((tree,))[0], os.O_PATH | os.O_CLOEXEC)
            copied = idmap.detached(source)
            if copied is not None:
                socket.send_fds(told, [b"x"], [copied])
        except OSError:
            os._exit(126)

    return copy
