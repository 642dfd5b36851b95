"""What servers of a world answer, how an answer is read, and a loop that turns meanwhile."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.hostile.network.world import World
from tests.patience import POLL


def echo(connection: socket.socket) -> None:
    """Answers with what it gets."""
    while data := connection.recv(65536):
        connection.sendall(data)


def read_all(connection: socket.socket) -> bytes:
    """Until its end."""
    data = b""
    while more := connection.recv(65536):
        data += more
    return data


def http(connection: socket.socket) -> None:
    """Answers each request with its first line."""
    data = b""
    while more := connection.recv(65536):
        data += more
        while b"\r\n\r\n" in data:
            head, _, data = data.partition(b"\r\n\r\n")
            body = b"you asked " + head.split(b"\r\n")[0]
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


@contextmanager
def turning(here: World) -> Iterator[None]:
    """The loop turns meanwhile, as a supervisor's does."""
    over = threading.Event()

    def turn() -> None:
        while not over.is_set():
            here.loop.turn(POLL)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
