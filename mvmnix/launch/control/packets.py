"""Sends and receives the packets of a control socket, with descriptors; a packet that is cut off is none at all."""

import array
import os
import socket
from typing import Final

from mvmnix.launch.control.messages import LIMIT, Stream

_MOST_FDS: Final = len(Stream)
_FD: Final = array.array("i").itemsize


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
    data, ancillary, flags, _ = connection.recvmsg(LIMIT, socket.CMSG_SPACE(_MOST_FDS * _FD), socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % _FD])
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        close(tuple(descriptors))
        raise PacketError("a packet that is too long, or has too many descriptors")
    return data, tuple(descriptors)


def close(descriptors: tuple[int, ...]) -> None:
    """Close them all."""
    for fd in descriptors:
        os.close(fd)
