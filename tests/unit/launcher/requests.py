"""Requests of a caller that opens what it hands over itself, so that a test can put something else in its place."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from mvmnix.launch.control.connection import Connection
from mvmnix.launch.control.drivers import run
from mvmnix.launch.control.own_directories import PROBE, SHOWN
from mvmnix.launch.control.start_messages import (
    Mode,
    StartRequest,
)
from mvmnix.launch.control.starts import Answer, begin
from mvmnix.launch.means import Means, OwnMeans
from mvmnix.system.roots import Roots
from mvmnix.system.store import sealed_memory

#: What no gate admits: it shows that a request came as far as that.
NO_PLAN = b"not a plan"
REQUEST = StartRequest(mode=Mode.DETACHED)


@dataclass
class Asked:
    """A caller that answers nothing, and remembers what it is told."""

    means: Means = field(default_factory=OwnMeans)
    notices: list[str] = field(default_factory=list)

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def answer(self, question: str) -> str:
        raise AssertionError(question)

    def guest_connected(self, port: int, descriptor: int) -> None:
        os.close(descriptor)
        raise AssertionError(port)


@contextmanager
def handed(roots: Roots, plan: bytes = NO_PLAN) -> Iterator[dict[str, int]]:
    """Yield descriptors as an honest caller hands them over; all that the test leaves there are closed at the end."""
    with suppress(FileExistsError):
        os.close(roots.state.create_file(PROBE))
    found = {name: os.dup(roots.directories[name].fd) for name in SHOWN[:-1]}
    for name in SHOWN[:-1]:  # of one that was opened by its path alone, nothing is proved
        os.close(found[name])
        found[name] = os.open(roots.paths[name], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    found["probe"] = roots.state.open_writable(PROBE)
    found["plan"] = sealed_memory(plan, name="plan")
    try:
        yield found
    finally:
        for fd in found.values():
            os.close(fd)


def replaced(found: dict[str, int], name: str, fd: int) -> None:
    """Put a descriptor in the place of another, which is closed."""
    if name in found:
        os.close(found[name])
    found[name] = fd


def ask(connection: Connection, found: Mapping[str, int], request: StartRequest = REQUEST) -> Answer:
    """Ask for a machine by a connection, which is closed. Raises what is answered."""
    with connection:
        return run(begin(connection, request, [found[name] for name in request.descriptors], Asked()))
