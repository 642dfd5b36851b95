"""The only place that knows Firecracker: a LaunchSpec in, its configuration and arguments out; Preview.

Nothing is started here. The configuration is one JSON text, handed over as a descriptor (`--config-file`) instead of
requests to a socket that has a name (`--no-api`). Its members are the bodies of the API's PUT requests
(`FullVmConfiguration` in Firecracker's `src/firecracker/swagger/firecracker.yaml`, against which a test holds them).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mvmnix.launch.backends.http_api import ApiRequest, spelled
from mvmnix.launch.backends.vsock_machine import GUEST_CID, VsockSpec
from mvmnix.launch.plan import Backend
from mvmnix.sandbox import Candidates

EXECUTABLES: Final = Candidates(
    what="Firecracker",
    paths=("/usr/bin/firecracker", "/usr/local/bin/firecracker"),
    hint="no package of Debian has it: put a release's binary at /usr/local/bin/firecracker, owned by root",
)
#: Firecracker takes no more (MachineConfiguration, vcpu_count).
MOST_VCPUS: Final = 32
_ROOT: Final = "root"


@dataclass(frozen=True, slots=True)
class Firecracker:
    """Firecracker, which runs on KVM alone. `executable` is an absolute path that only root can change."""

    executable: str
    backend: Backend = Backend.FIRECRACKER

    def arguments(self, configuration: int) -> tuple[str, ...]:
        """How it is started; `configuration` is the descriptor of a sealed memfd with those bytes.

        Its own seccomp filters are on by default. The serial console is its standard output.
        """
        return (self.executable, "--no-api", "--config-file", f"/proc/self/fd/{configuration}")

    def configuration(self, spec: VsockSpec) -> bytes:
        """The configuration file: one member for each kind of request, the drives as a list."""
        bodies = {request.path.removeprefix("/"): request.body for request in self.requests(spec)}
        members: dict[str, object] = {kind: body for kind, body in bodies.items() if not kind.startswith("drives/")}
        members["drives"] = [body for kind, body in bodies.items() if kind.startswith("drives/")]
        return spelled(members)

    def requests(self, spec: VsockSpec) -> tuple[ApiRequest, ...]:
        """The same as the API's requests, one for each part of a machine. Raises ValueError as `_machine` does."""
        parts = [
            ApiRequest("/machine-config", _machine(spec)),
            ApiRequest("/boot-source", _boot_source(spec)),
            ApiRequest("/vsock", {"guest_cid": GUEST_CID, "uds_path": spec.socket}),
        ]
        if spec.rootfs is not None:
            parts.append(ApiRequest(f"/drives/{_ROOT}", _drive(spec.rootfs)))
        return tuple(parts)


def _machine(spec: VsockSpec) -> Mapping[str, object]:
    """Raises ValueError for more processors than it takes."""
    if spec.vcpus > MOST_VCPUS:
        raise ValueError(f"Firecracker takes {MOST_VCPUS} processors at most, and the plan says {spec.vcpus}")
    return {"vcpu_count": spec.vcpus, "mem_size_mib": spec.memory_mib, "smt": False, "track_dirty_pages": False}


def _boot_source(spec: VsockSpec) -> Mapping[str, object]:
    return {
        "kernel_image_path": f"/proc/self/fd/{spec.kernel}",
        "initrd_path": f"/proc/self/fd/{spec.initrd}",
        "boot_args": spec.command_line,
    }


def _drive(descriptor: int) -> Mapping[str, object]:
    """Read-only, and no root device: else Firecracker would add `root=` to the signed command line."""
    return {
        "drive_id": _ROOT,
        "path_on_host": f"/proc/self/fd/{descriptor}",
        "is_root_device": False,
        "is_read_only": True,
        "cache_type": "Unsafe",
        "io_engine": "Sync",
    }
