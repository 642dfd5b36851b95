"""A launcher's loop in a process of its own, that answers each caller with what a test gave it to do."""

import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mvmnix.launch.control.codec import LIMIT
from mvmnix.launcher.held_templates import HeldTemplates
from mvmnix.launcher.pools import Pools
from mvmnix.launcher.server import Server
from mvmnix.system import private_sockets
from mvmnix.system.descriptors import receive_packet, send_packet
from mvmnix.system.private_dirs import Directory
from tests.patience import EVENT_PATIENCE, until
from tests.support.processes import gone

NAME = "s.sock"


@dataclass(frozen=True, slots=True)
class Serving:
    """The process, and where it is reached."""

    process: int
    directory: Directory

    def connect(self) -> socket.socket:
        """Connect, and say nothing."""
        connection = private_sockets.connect(self.directory, NAME, EVENT_PATIENCE)
        connection.settimeout(EVENT_PATIENCE)
        return connection

    def ask(self, data: bytes = b"x", descriptors: Iterable[int] = ()) -> bytes:
        """Say something, and return the answer; nothing where the connection ends without one."""
        with self.connect() as connection:
            send_packet(connection, data, descriptors)
            with suppress(ConnectionResetError):
                return connection.recv(LIMIT)
            return connection.recv(LIMIT)

    def wait(self) -> None:
        """Wait for its end."""
        until(lambda: gone(self.process))


def echo(connection: socket.socket) -> int:
    """Answer with what was said, and this process's id."""
    data = receive_packet(connection, LIMIT, 4).data
    connection.send(data + b" %d" % os.getpid())
    return 0


def wait_for_nothing(_end: socket.socket, _plan: int) -> int:
    """Be the process of a machine that ends at once."""
    return 0


@contextmanager
def serving(
    path: Path,
    serve: Callable[[socket.socket], int] = echo,
    prepare: Callable[[], object] = lambda: None,
    *,
    wait: Callable[[socket.socket, int], int] = wait_for_nothing,
    is_current: Callable[[], bool] = lambda: True,
    kept: tuple[HeldTemplates, Pools] | None = None,
    idle: float = EVENT_PATIENCE,
) -> Iterator[Serving]:
    """Yield a launcher's loop that runs in a fork, in which `prepare` was called before; it is killed at the end.

    `kept` is what it holds, and this process's no more then.
    """
    with Directory.create(str(path / "launchers")) as directory:
        templates, pools = kept or (HeldTemplates(), Pools())
        with private_sockets.listen(directory, NAME, 64) as listening:
            child = os.fork()
            if child == 0:
                try:
                    prepare()
                    Server(listening, serve, templates, pools, wait=wait, is_current=is_current, idle=idle).run()
                finally:
                    os._exit(0)
        for each in (templates, pools):
            each.close()
            each._ours.close()  # the launcher's, as the process that made it isn't one
        try:
            yield Serving(child, directory)
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
