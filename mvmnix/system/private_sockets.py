"""The only opener of Unix sockets by name: in a private directory, by its descriptor, for packets with senders.

The directory has mode 0700 and is named by its descriptor, so that no path is followed, and none can be too long
(unix(7)). Packets keep their bounds, and a packet's descriptors come with it or not at all.
"""

import errno
import os
import socket
import time
from typing import Final

from mvmnix.system.descriptors import CREDENTIALS, ask_for_senders
from mvmnix.system.private_dirs import Directory

#: Seconds between two attempts to connect.
_PAUSE: Final = 0.005


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
    """Connect to the socket of that name, within `patience` seconds. Raises OSError, TimeoutError among them.

    Where as many connections wait as may, another one is refused or waits for ever (unix(7), EAGAIN): so it is tried
    anew meanwhile.
    """
    calling = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        _connect(calling, _address(directory, name), time.monotonic() + patience)
    except BaseException:
        calling.close()
        raise
    return calling


def _connect(calling: socket.socket, address: str, deadline: float) -> None:
    calling.setblocking(False)
    while (number := calling.connect_ex(address)) == errno.EAGAIN:
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, "it accepts no further connection")
        time.sleep(_PAUSE)
    if number:
        raise OSError(number, os.strerror(number))
    calling.setblocking(True)


def peer(connection: socket.socket) -> tuple[int, int]:
    """Return the process and the user at the other end, when it connected or listened (SO_PEERCRED). Raises OSError."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    process, user, _ = CREDENTIALS.unpack(data)
    return process, user


def _address(directory: Directory, name: str) -> str:
    return f"/proc/self/fd/{directory.fd}/{name}"
