"""An echo server, how an answer is read, and a loop that turns meanwhile."""

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


def read_answer(connection: socket.socket) -> bytes:
    """Until its end; `reset` where it is reset."""
    try:
        return read_all(connection)
    except ConnectionResetError:
        return b"reset"


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
