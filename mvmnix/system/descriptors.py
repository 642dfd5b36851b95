"""Takes descriptors that another process sends: a packet's, and what a child made between fork and exec."""

import array
import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from mvmnix.system.process import spawn

#: The largest packet in bytes, and the most descriptors in one.
PACKET: Final = 16_384
DESCRIPTORS: Final = 8
#: Waits for its input to end, and is there on every system (hier(7)).
_WAITING: Final = "/bin/cat"


def received(end: socket.socket, size: int = PACKET, most: int = DESCRIPTORS) -> tuple[bytes, list[int], int]:
    """A packet of at most `size` bytes, its descriptors, and its flags (recvmsg(2)). Raises OSError.

    No child inherits the descriptors (socket.recv_fds drops that flag).
    """
    found = array.array("i")
    room = socket.CMSG_LEN(most * found.itemsize)  # CMSG_SPACE is rounded up, and may have room for one more
    packet, ancillary, flags, _ = end.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return packet, list(found), flags


@contextmanager
def made_by_child(make: Callable[[], int], what: str) -> Iterator[tuple[int, int]]:
    """What a child makes that needs a process of its own, and the child's process id while it waits.

    `make` runs between fork and exec and answers with a descriptor; where it raises OSError there is none, and `what`
    couldn't be made. The caller closes the descriptor. A program is executed then, as a process with threads must not
    fork without; it is gone at the end. Raises OSError, ProcessError.
    """
    ours, theirs = socket.socketpair()
    waiting, end = os.pipe2(os.O_CLOEXEC)
    with ours:
        try:
            with theirs:
                child = spawn((_WAITING,), env={}, stdin=waiting, before_exec=_sending(make, theirs))
        except BaseException:
            os.close(end)
            raise
        finally:
            os.close(waiting)
        try:
            _, found, _ = received(ours)
            if not found:
                number = child.wait()  # what `make` raised
                raise OSError(number, f"no {what} can be made: {os.strerror(number)}")
            yield child.pid, found[0]
        finally:
            os.close(end)
            child.kill()
            child.wait()


def _sending(make: Callable[[], int], told: socket.socket) -> Callable[[], None]:
    def send() -> None:
        try:
            socket.send_fds(told, [b"x"], [make()])
        except OSError as error:
            os._exit(error.errno or errno.EPERM)

    return send
