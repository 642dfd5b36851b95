"""What a machine consists of for the backends whose agent channel is vsock; types alone, no I/O.

QEMU's agent channel is a virtio-serial port on an inherited socket. Firecracker and Cloud Hypervisor have no such port:
they put the guest's vsock behind unix sockets that have names. A guest that connects to port P of the host (CID 2) ends
up at `<socket>_P`, where the host has to listen before (Firecracker: docs/vsock.md; Cloud Hypervisor: docs/vsock.md).
"""

from dataclasses import dataclass
from typing import Final

#: The guest's own context id; it stands for nothing, as each hypervisor has sockets of its own. 0 to 2 are taken.
GUEST_CID: Final = 3
#: The port of the host that the guest agent dials.
AGENT_PORT: Final = 1024
#: unix(7): sun_path has 108 bytes, with the zero that ends it.
LONGEST_PATH: Final = 107


@dataclass(frozen=True, slots=True)
class VsockSpec:
    """A machine in descriptors and numbers: `kernel` and `initrd` are sealed memfds, `rootfs` a read-only file or None.

    `socket` is the absolute path that the names of the vsock's sockets begin with, in the machine's own directory
    (0700). Raises ValueError for what no machine can be, and for a path that no unix socket could have.
    """

    kernel: int
    initrd: int
    rootfs: int | None
    socket: str
    vcpus: int
    memory_mib: int
    command_line: str

    def __post_init__(self) -> None:
        if self.vcpus < 1 or self.memory_mib < 1:
            raise ValueError("vcpus and memory_mib are positive")
        if not self.command_line.isascii() or not self.command_line.isprintable():
            raise ValueError("a kernel command line is printable ASCII")
        if not self.socket.startswith("/") or len(self.agent_socket.encode()) > LONGEST_PATH:
            raise ValueError(f"no socket can lie at {self.agent_socket}: a path of at most {LONGEST_PATH} bytes can")

    @property
    def agent_socket(self) -> str:
        """Where the host listens for the agent."""
        return f"{self.socket}_{AGENT_PORT}"
