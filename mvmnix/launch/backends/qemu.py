"""The only place that knows QEMU's command line: a LaunchSpec in, arguments out, and nothing is started here.

QEMU reads most options as comma-separated lists. No text that a plan, a flake or a guest chose enters one: they hold
constants and integers, or are JSON; the kernel command line is an argument of its own (qemu(1), -append).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never, override

from mvmnix.launch.executables import Candidates, locate
from mvmnix.launch.hypervisor import Acceleration, Addition, BackendParameter, Hypervisor, Invocation, LaunchSpec
from mvmnix.launch.qmp import QmpMonitor

EXECUTABLES = Candidates(
    what="QEMU",
    paths=("/usr/bin/qemu-system-x86_64",),
    hint="apt-get install --no-install-recommends qemu-system-x86",
)
#: qboot: with SeaBIOS's own microvm firmware one boot in four hangs or resets under TCG (measured).
FIRMWARE = Candidates(
    what="the qboot firmware",
    paths=("/usr/share/qemu/qboot.rom", "/usr/share/seabios/qboot.rom", "/usr/share/qboot/qboot.rom"),
    hint="apt-get install --no-install-recommends qemu-system-data",
)
#: The name of the guest agent's port, as /sys/class/virtio-ports shows it.
AGENT_PORT = "mvm.agent"
#: MiB of translated code, between these by the guest's memory. QEMU's default of 1 GiB would rule out any limit on its
#: address space; too little, and a compiler in the guest is translated over and over (measured: three times slower).
TRANSLATION_BUFFER_MIB = (64, 512)
#: No set-uid, no new processes, no priorities, no obsolete system calls for whoever takes QEMU over.
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
ROOT_FDSET = 1


@dataclass(frozen=True, slots=True)
class Qemu(Hypervisor):
    """QEMU's `microvm` machine. `executable` and `bios` are absolute paths that only root can change."""

    executable: str
    bios: str

    @classmethod
    def find(cls) -> "Qemu":
        """The QEMU of this host. Raises MvmnixError when there is none, RefusedError when others could change it."""
        return cls(executable=locate(EXECUTABLES), bios=locate(FIRMWARE))

    @property
    @override
    def name(self) -> str:
        return "qemu-microvm"

    @property
    @override
    def firmware(self) -> tuple[str, ...]:
        return (self.bios,)

    @override
    def monitor(self) -> QmpMonitor:
        return QmpMonitor()

    @override
    def invocation(self, spec: LaunchSpec) -> Invocation:
        additions = _additions(spec)
        command_line = " ".join((spec.command_line, *map(str, additions)))
        argv = (
            self.executable,
            *("-nodefaults", "-no-user-config", "-nographic", "-no-reboot"),
            *("-sandbox", SANDBOX),
            *("-machine", "microvm"),
            *("-bios", self.bios),
            *("-accel", _accelerator(spec.acceleration, spec.memory_mib)),
            *("-cpu", "max"),
            *("-smp", str(spec.vcpus)),
            *("-m", str(spec.memory_mib)),
            *("-kernel", f"/proc/self/fd/{spec.kernel}"),
            *("-initrd", f"/proc/self/fd/{spec.initrd}"),
            *("-append", command_line),
            *_socket("monitor", spec.monitor),
            *("-mon", "chardev=monitor,mode=control"),
            *_socket("console", spec.console),
            *("-serial", "chardev:console"),
            *_agent_port(spec.channel),
            *(_root_disk(spec.rootfs) if spec.rootfs is not None else ()),
        )
        return Invocation(argv, additions)


def _accelerator(acceleration: Acceleration, memory_mib: int) -> str:
    match acceleration:
        case Acceleration.KVM:
            return "kvm"
        case Acceleration.TCG:
            least, most = TRANSLATION_BUFFER_MIB
            return f"tcg,thread=multi,tb-size={min(max(memory_mib // 8, least), most)}"
        case _:
            assert_never(acceleration)


def _additions(spec: LaunchSpec) -> tuple[Addition, ...]:
    match spec.acceleration:
        case Acceleration.KVM:
            return ()  # the guest reads its clock from the kvmclock page
        case Acceleration.TCG:
            return (Addition(BackendParameter.TSC_EARLY_KHZ, spec.tsc_khz),)
        case _:
            assert_never(spec.acceleration)


def _json(members: Mapping[str, object]) -> str:
    return json.dumps(members, separators=(",", ":"))


def _socket(name: str, descriptor: int) -> tuple[str, ...]:
    """A connected stream socket that QEMU inherits. `-chardev` takes no JSON: `name` is a constant of this file."""
    return ("-chardev", f"socket,id={name},fd={descriptor}")


def _agent_port(descriptor: int) -> tuple[str, ...]:
    return (
        *_socket("agent", descriptor),
        *("-device", _json({"driver": "virtio-serial-device", "id": "serial", "max_ports": 2})),
        *(
            "-device",
            _json({"driver": "virtserialport", "bus": "serial.0", "nr": 1, "chardev": "agent", "name": AGENT_PORT}),
        ),
    )


def _root_disk(descriptor: int) -> tuple[str, ...]:
    """The root filesystem, read-only in QEMU too; the guest finds it by its serial number."""
    read_only = {"read-only": True, "auto-read-only": False}
    file = {"driver": "file", "filename": f"/dev/fdset/{ROOT_FDSET}", **read_only}
    return (
        *("-add-fd", f"fd={descriptor},set={ROOT_FDSET}"),
        *("-blockdev", _json({"driver": "raw", "node-name": "root", **read_only, "file": file})),
        *("-device", _json({"driver": "virtio-blk-device", "drive": "root", "serial": "root"})),
    )
