"""The only opener of the socket in a machine's directory: how it is made and found, and who is at its other end.

It lies in a directory of mode 0700 and is reached through that directory's descriptor, so that no path is followed, and
none can be too long (unix(7)). Packets keep their bounds, and a packet's descriptors come with it or not at all.
"""

import os
import socket
import struct
from typing import Final

from mvmnix.errors import UsageError
from mvmnix.system.private_dirs import Directory

NAME: Final = "control"
#: Callers that may be connected at once; a guest takes 64 commands.
MOST_CALLERS: Final = 64
#: struct ucred (unix(7)): process, user, group.
_CREDENTIALS: Final = struct.Struct("iII")


def listen(directory: Directory) -> socket.socket:
    """The listening socket of a machine whose lock is held by the caller; what a dead supervisor left is replaced."""
    directory.remove(NAME)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        listening.bind(_address(directory))
        os.chmod(NAME, 0o600, dir_fd=directory.fd)
        listening.listen(MOST_CALLERS)
    except BaseException:
        listening.close()
        raise
    return listening


def connect(directory: Directory, supervisor: int) -> socket.socket:
    """A connection to a machine's supervisor, which has this process id (0: it is not known here).

    Raises UsageError when no process listens, or a process other than that.
    """
    calling = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        calling.connect(_address(directory))
        answering, _ = peer(calling)
    except OSError as error:
        calling.close()
        raise _deaf() from error
    if supervisor and answering != supervisor:
        calling.close()
        raise _deaf()
    return calling


def peer(connection: socket.socket) -> tuple[int, int]:
    """The process and the user at the other end, when it connected or listened, by the kernel's word (SO_PEERCRED)."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(data)
    return process, user


def _deaf() -> UsageError:
    hint = "mvm ps lists the running ones; a builder VM serves its build alone"
    return UsageError("the machine does not accept control connections", hint=hint)


def _address(directory: Directory) -> str:
    return f"/proc/self/fd/{directory.fd}/{NAME}"
