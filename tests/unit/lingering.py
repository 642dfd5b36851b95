"""A socket whose last close waits for minutes: a process that closes it stands still, and so does its test."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: Seconds; the other end is gone before, when its test ends.
_LONG = 600


@contextmanager
def lingering() -> Iterator[socket.socket]:
    """Yield it; to be closed by the test, once it was sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        made = socket.create_connection(server.getsockname())
        with server.accept()[0]:
            made.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    made.send(bytes(65536))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, _LONG))
            yield made
