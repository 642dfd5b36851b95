"""How a caller shows that it reaches mvm's own directories itself: by descriptors of all four, and of one file.

That file is in the state directory, and open for writing: who may not write there starts no machine there.
"""

import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Final

from mvmnix.errors import MvmnixError, ReasonCode, refuse
from mvmnix.system.descriptors import access_of
from mvmnix.system.private_dirs import Directory
from mvmnix.system.roots import Roots

#: The file in the state directory by which a caller shows that it may write there.
PROBE: Final = "launchers.probe"
#: What the descriptors are that come first in a request, in this order: the directories, and the file PROBE.
SHOWN: Final = ("state", "cache", "config", "data", "probe")


def open_shown(stack: ExitStack, roots: Roots) -> dict[str, int]:
    """Return a caller's descriptors, by what they are; they are closed with the stack or the roots. Raises OSError."""
    *names, probe = SHOWN
    fd = _open_probe(roots.state)
    stack.callback(os.close, fd)
    return {**{name: roots.directories[name].fd for name in names}, probe: fd}


def check_shown(roots: Roots, descriptors: Mapping[str, int]) -> None:
    """Judge descriptors that a caller handed over. Raises RefusedError [caller-refused], OSError."""
    *names, probe = SHOWN
    for name in names:
        directory, handed = roots.directories[name], os.fstat(descriptors[name])
        if not os.path.samestat(os.fstat(directory.fd), handed) or access_of(descriptors[name]) is None:
            raise _unreached(f"the {name} directory that it handed over is not {directory.path}")
    is_writable = access_of(descriptors[probe]) in {os.O_WRONLY, os.O_RDWR}
    if not (is_writable and _is_probe(roots.state, descriptors[probe])):
        raise _unreached(f"it doesn't show that it may write in {roots.state.path}")


def _open_probe(state: Directory) -> int:
    """Return a descriptor of the file PROBE, open for writing."""
    with suppress(FileNotFoundError):
        return state.open_writable(PROBE)
    with suppress(FileExistsError):  # by another caller at this very moment
        return state.create_file(PROBE)
    return state.open_writable(PROBE)


def _is_probe(state: Directory, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(PROBE, dir_fd=state.fd, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def _unreached(why: str) -> MvmnixError:
    hint = "let the process reach mvm's own directories, or start the machine from one that does"
    return refuse(ReasonCode.CALLER_REFUSED, "the calling process", why, hint)
