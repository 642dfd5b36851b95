"""The only opener of Unix sockets by name: in a private directory, by its descriptor, for packets with senders.

The directory has mode 0700 and is named by its descriptor, so that no path is followed, and none can be too long
(unix(7)). Packets keep their bounds, and a packet's descriptors come with it or not at all.
"""

import os
import socket
import struct
from typing import Final

from mvmnix.system.descriptors import ask_for_senders
from mvmnix.system.private_dirs import Directory

#: struct ucred (unix(7)): process, user, group.
_CREDENTIALS: Final = struct.Struct("iII")


def listen(directory: Directory, name: str, backlog: int) -> socket.socket:
    """Open a listening socket of that name, in place of what a dead process left. Raises OSError.

    The caller holds the lock that says whose name it is.
    """
    directory.remove(name)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        ask_for_senders(listening)
        listening.bind(_address(directory, name))
        os.chmod(name, 0o600, dir_fd=directory.fd)
        listening.listen(backlog)
    except BaseException:
        listening.close()
        raise
    return listening


def connect(directory: Directory, name: str, patience: float) -> socket.socket:
    """Connect to the socket of that name, within `patience` seconds. Raises OSError."""
    calling = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        calling.settimeout(patience)
        calling.connect(_address(directory, name))
        calling.settimeout(None)
    except BaseException:
        calling.close()
        raise
    return calling


def peer(connection: socket.socket) -> tuple[int, int]:
    """Return the process and the user at the other end, when it connected or listened (SO_PEERCRED). Raises OSError."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(data)
    return process, user


def _address(directory: Directory, name: str) -> str:
    return f"/proc/self/fd/{directory.fd}/{name}"
