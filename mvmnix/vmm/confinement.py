"""What a jail answers with, so that a hypervisor can be started in it; types alone, no I/O.

No hypervisor is started without a `ProcessSandbox`. `mvmnix/vmm/jail/` has the one implementation that is shipped.
"""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from mvmnix.model import User
from mvmnix.vmm.port import Invocation, LaunchSpec

#: Where the one directory lies in the sandbox of what serves or reads it.
SHARE_PLACE: Final = "/share"


class IsolationLayer(StrEnum):
    """What stands around a hypervisor, as its receipt says."""

    NAMESPACES = "namespaces"
    OWN_UID = "own-uid"
    SECCOMP = "seccomp"
    LANDLOCK = "landlock"
    CGROUP_MEMORY = "cgroup-memory"
    CGROUP_TASKS = "cgroup-pids"
    CGROUP_CPU = "cgroup-cpu"


class ProcessSandbox(Protocol):
    """The place of one hypervisor, held until it has ended: `release` is called then, or when it never started."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What the command inherits besides the hypervisor's own descriptors; none of it reaches the hypervisor."""

    @property
    def layers(self) -> tuple[IsolationLayer, ...]:
        """What is in force around the hypervisor, in the order of `IsolationLayer`."""

    def command(self, argv: Sequence[str]) -> tuple[str, ...]:
        """The command that runs these arguments in the sandbox; the first is an absolute path."""

    def enter(self) -> None:
        """What the child does between fork and exec; nothing that it calls may need a lock or the loop."""

    def first_process(self, child: int) -> int:
        """The first process of the sandbox's PID namespace, once the command runs as the process `child` of ours.

        Its one child is the hypervisor, and with it all of the sandbox ends. It may have ended by then. Answers `child`
        itself where the command becomes the hypervisor, or ended before there was another process.
        """

    def release(self) -> None:
        """Let go of everything that was the sandbox's. A second call does nothing."""


@dataclass(frozen=True, slots=True)
class Service:
    """A program that works on one directory of the host in a sandbox.

    `program`, an absolute path, sees `directory` as SHARE_PLACE.
    `inside` are its ids as it sees them itself. `memory` bounds what it may take, in bytes, and `written` how large it
    may make a file; None bounds nothing. One that is bounded so and `writable` outlives it when a file would become
    larger, and takes room by writing alone.
    `files` lie in its root besides, read-only.
    """

    program: str
    directory: int
    writable: bool
    inside: User
    memory: int
    written: int | None = None
    files: tuple[str, ...] = ()

    @property
    def counted(self) -> bool:
        """Whether what it writes is counted."""
        return self.writable and self.written is not None


@dataclass(frozen=True, slots=True)
class NetworkService:
    """A process of a machine's network in a sandbox: `program`, an absolute path, is Python.

    `code` are directories that it finds at these paths, by descriptors that stay the caller's; `settings` files with
    these bytes. `memory` bounds what it may take, in bytes, and `descriptors` how many it may have. Where `dials` it is
    in the host's network, and otherwise in one without any device.
    """

    program: str
    code: Mapping[str, int]
    settings: Mapping[str, bytes]
    memory: int
    descriptors: int
    dials: bool


class ServiceSandbox(ProcessSandbox, Protocol):
    """The place of one service."""

    def listen(self) -> tuple[socket.socket, socket.socket]:
        """A listening socket, and the one connection that it will ever get; nothing of it has a name any more."""


class Jail(Protocol):
    """Where hypervisors run, and what serves their guests."""

    def service(self, service: Service) -> ServiceSandbox:
        """A sandbox for this service, empty. Raises as `sandbox` does."""

    def network(self, service: NetworkService) -> ProcessSandbox:
        """A sandbox for this process of a machine's network, empty. Raises as `sandbox` does."""

    def sandbox(self, files: Sequence[str], spec: LaunchSpec, invocation: Invocation) -> ProcessSandbox:
        """A sandbox for this machine, empty; its root holds the program and these files.

        Raises MvmnixError where there can be none, and says what to install.
        """
