"""Sends and receives the packets of a control socket, with descriptors; a packet that is cut off is none at all."""

import array
import os
import socket

from mvmnix.launch.control.messages import LIMIT, Stream
from mvmnix.privileges.descriptors import received


class PacketError(ValueError):
    """What came was not a packet that fits, with at most three descriptors."""


def send(connection: socket.socket, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
    """Send one packet. Raises OSError."""
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    connection.sendmsg([data], [rights] if descriptors else [])


def receive(connection: socket.socket) -> tuple[bytes, tuple[int, ...]]:
    """The next packet, and its descriptors, which are the caller's to close; no bytes when the other end hung up.

    Raises PacketError, and then all descriptors are closed; OSError.
    """
    data, descriptors, flags = received(connection, LIMIT, len(Stream))
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        close(tuple(descriptors))
        raise PacketError("a packet that is too long, or has too many descriptors")
    return data, tuple(descriptors)


def close(descriptors: tuple[int, ...]) -> None:
    """Close them all."""
    for fd in descriptors:
        os.close(fd)
