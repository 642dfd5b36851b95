"""The only place that knows Cloud Hypervisor: a LaunchSpec in, API requests and arguments out; Preview.

Nothing is started here. Options of its command line are comma-separated lists, so no text of a plan enters one: the
machine is described by `vm.create`, whose JSON is a `VmConfig` (Cloud Hypervisor's
`vmm/src/api/openapi/cloud-hypervisor.yaml`, against which a test holds it), and `vm.boot` starts it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mvmnix.launch.backends.http_api import ApiRequest
from mvmnix.launch.backends.vsock_machine import GUEST_CID, VsockSpec
from mvmnix.launch.plan import Backend
from mvmnix.sandbox import Candidates

EXECUTABLES: Final = Candidates(
    what="Cloud Hypervisor",
    paths=("/usr/bin/cloud-hypervisor", "/usr/local/bin/cloud-hypervisor"),
    hint="no package of Debian has it: put a release's binary at /usr/local/bin/cloud-hypervisor, owned by root",
)
_ROOT: Final = "root"
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class CloudHypervisor:
    """Cloud Hypervisor on KVM. `executable` is an absolute path that only root can change."""

    executable: str
    backend: Backend = Backend.CLOUD_HYPERVISOR

    def arguments(self, api: int, events: int) -> tuple[str, ...]:
        """How it is started: `api` is an inherited socket that listens, `events` a descriptor that events go to."""
        return (
            self.executable,
            *("--api-socket", f"fd={api}"),
            *("--event-monitor", f"fd={events}"),
            *("--seccomp", "true"),
        )

    def requests(self, spec: VsockSpec) -> tuple[ApiRequest, ...]:
        """What it is told once it runs: the machine, then that it should boot."""
        return (ApiRequest("/api/v1/vm.create", _machine(spec)), ApiRequest("/api/v1/vm.boot"))


def _machine(spec: VsockSpec) -> Mapping[str, object]:
    """Memory in bytes. The serial port goes to the process's own terminal, which is a socket of ours."""
    return {
        "cpus": {"boot_vcpus": spec.vcpus, "max_vcpus": spec.vcpus},
        "memory": {"size": spec.memory_mib * _MIB, "shared": False, "mergeable": False},
        "payload": {
            "kernel": f"/proc/self/fd/{spec.kernel}",
            "initramfs": f"/proc/self/fd/{spec.initrd}",
            "cmdline": spec.command_line,
        },
        "disks": [] if spec.rootfs is None else [_disk(spec.rootfs)],
        "serial": {"mode": "Tty"},
        "console": {"mode": "Off"},
        "vsock": {"cid": GUEST_CID, "socket": spec.socket},
        "rng": {"src": "/dev/urandom"},
        "watchdog": False,
        "pvpanic": False,
    }


def _disk(descriptor: int) -> Mapping[str, object]:
    return {"path": f"/proc/self/fd/{descriptor}", "readonly": True, "serial": _ROOT, "id": _ROOT, "image_type": "Raw"}
