"""A jail without walls: what is tested with it is what goes on in front of them, with a Python program inside."""

import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import override

from mvmnix.vmm.confinement import IsolationLayer, Jail, NetworkService, ProcessSandbox, Service, ServiceSandbox
from mvmnix.vmm.port import Invocation, LaunchSpec


class NullSandbox(ProcessSandbox):
    """Runs the command as it is; counts how often it was let go of."""

    def __init__(self) -> None:
        self.released = 0

    @property
    @override
    def descriptors(self) -> tuple[int, ...]:
        return ()

    @property
    @override
    def layers(self) -> tuple[IsolationLayer, ...]:
        return ()

    @override
    def command(self, argv: Sequence[str]) -> tuple[str, ...]:
        return tuple(argv)

    @override
    def enter(self) -> None:
        """There is nowhere to go."""

    @override
    def first_process(self, child: int) -> int:
        return child

    @override
    def release(self) -> None:
        self.released += 1


class NullServiceSandbox(NullSandbox, ServiceSandbox):
    """With a socket in a directory that is gone at once."""

    @override
    def listen(self) -> tuple[socket.socket, socket.socket]:
        listening, calling = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        with tempfile.TemporaryDirectory() as where:
            address = str(Path(where) / "socket")
            listening.bind(address)
            listening.listen(1)
            calling.connect(address)
        return listening, calling


class NullJail(Jail):
    """Keeps its sandboxes, to be looked at."""

    def __init__(self) -> None:
        self.sandboxes: list[NullSandbox] = []
        self.services: list[Service] = []

    @override
    def sandbox(self, files: Sequence[str], spec: LaunchSpec, invocation: Invocation) -> NullSandbox:
        self.sandboxes.append(NullSandbox())
        return self.sandboxes[-1]

    @override
    def service(self, service: Service) -> NullServiceSandbox:
        sandbox = NullServiceSandbox()
        self.sandboxes.append(sandbox)
        self.services.append(service)
        return sandbox

    @override
    def network(self, service: NetworkService) -> NullSandbox:
        self.sandboxes.append(NullSandbox())
        return self.sandboxes[-1]

    def sweep(self) -> None:
        """There is nothing to clean up."""
