"""What gateway, dialer and supervisor do with connected sockets; imports nothing that a supervisor doesn't have."""

import socket
import struct
from contextlib import suppress
from typing import Final

#: struct linger: on, for 0 seconds (socket(7)).
RESET: Final = struct.pack("ii", 1, 0)
_NO_LINGER: Final = struct.pack("ii", 0, 0)
#: Seconds of silence, then between questions, and how many of them, until a peer counts as gone (tcp(7)).
_KEEP_ALIVE: Final = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
#: Bytes of a packet between two of them.
PACKET_BYTES: Final = 1024
#: Connections of a machine at a time; as many names may wait to be looked up for them.
MAX_CONNECTIONS: Final = 1024


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a conversation; the kernel keeps packets apart. Raises OSError."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def release(connection: socket.socket) -> None:
    """Close a connection without a reset, once its peer has acknowledged all that was sent."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    connection.close()


def reset(connection: socket.socket) -> None:
    """End it as a peer does that is gone: with RST."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


def set_options(connection: socket.socket) -> None:
    """Set the options of a connection, or of a listener for those that it accepts. Raises OSError.

    Closing it resets it, however the process ends, until `release`: no orphan is left, which the kernel counts for the
    whole host (ip-sysctl, tcp_max_orphans). A peer that is gone is noticed, and small packets aren't held back.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
