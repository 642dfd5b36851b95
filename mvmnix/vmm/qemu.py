"""The only place that knows QEMU's command line: a LaunchSpec in, arguments out, and nothing is started here.

QEMU reads most options as comma-separated lists. No text that a plan, a flake or a guest chose enters one: they hold
constants and integers, or are JSON; the kernel command line is an argument of its own (qemu(1), -append).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never, override

from mvmnix.plan.backend import Backend
from mvmnix.plan.kernel_command_line import Addition, BackendParameter
from mvmnix.plan.share import ShareKind
from mvmnix.sandbox.trusted_executables import Candidates, locate
from mvmnix.vmm.port import (
    Acceleration,
    Attachment,
    DataAttachment,
    Emulation,
    Hypervisor,
    Invocation,
    LaunchSpec,
    NetworkAttachment,
    PlaceholderDisk,
)
from mvmnix.vmm.qmp import RESTORED_FDSET, SAVED_FDSET, QmpMonitor

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
MACHINE = "microvm"
#: The name of the guest agent's port, as /sys/class/virtio-ports shows it.
AGENT_PORT = "mvm.agent"
#: MiB of translated code, between these by the guest's memory. QEMU's default of 1 GiB would rule out any limit on its
#: address space; too little, and a compiler in the guest is translated over and over (measured: three times slower).
TRANSLATION_BUFFER_MIB = (64, 512)
#: Under TCG `rep movsb` runs byte by byte, and a guest that is told that it is fast copies with it (measured: out of a
#: virtio-serial port three times slower, through the agent 1.3 to 2 times).
TRANSLATED_CPU = "max,erms=off,fsrm=off"
#: No set-uid, no new processes, no priorities, no obsolete system calls for an attacker who takes QEMU over.
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
ROOT_FDSET = 1
KVM_FDSET = 2
#: Images of shares are in the sets from here on.
SHARE_FDSET = 3
#: Beyond those of shares.
DATA_FDSET, DATA_HEADER_FDSET = 12, 13
#: QEMU's own, beside the translation buffer: devices, caches, threads' stacks (measured: 90 MiB under TCG).
OVERHEAD_MIB = 256
#: Features of a network device that no guest has a use for here (virtio specification, 5.1.3): a queue for control, and
#: what is told by it, such as filters of addresses; packets of IPv6 and of UDP that are split on the way; whether the
#: cable is plugged in, without which it always is: a guest's link works from the moment that it is started.
_UNUSED_OF_A_NETWORK_DEVICE = (
    *("ctrl_vq", "ctrl_rx", "ctrl_vlan", "ctrl_rx_extra", "ctrl_mac_addr", "ctrl_guest_offloads", "guest_announce"),
    *("guest_tso6", "host_tso6", "guest_ufo", "host_ufo", "guest_uso4", "guest_uso6", "host_uso", "status"),
)
#: Small programs that QEMU hands to a guest's firmware with `-kernel`; it complains where they are missing.
OPTION_ROMS = ("/usr/share/qemu/pvh.bin", "/usr/share/qemu/linuxboot_dma.bin")


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
    def backend(self) -> Backend:
        return Backend.QEMU

    @property
    @override
    def firmware(self) -> tuple[str, ...]:
        return (self.bios,)

    @property
    @override
    def files(self) -> tuple[str, ...]:
        return (self.bios, *(path for path in OPTION_ROMS if Path(path).exists()))

    @override
    def monitor(self) -> QmpMonitor:
        return QmpMonitor()

    @override
    def emulation(self, acceleration: Acceleration) -> Emulation:
        return Emulation(self.executable, __file__, MACHINE, _processor(acceleration))

    @override
    def invocation(self, spec: LaunchSpec) -> Invocation:
        additions = _additions(spec)
        command_line = " ".join((spec.command_line, *map(str, additions)))
        argv = (
            self.executable,
            *("-nodefaults", "-no-user-config", "-nographic", "-no-reboot"),
            *("-sandbox", SANDBOX),
            *_machine(spec),
            *("-bios", self.bios),
            *_kvm_device(spec.kvm),
            *("-accel", _accelerator(spec)),
            *("-cpu", _processor(spec.acceleration)),
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
            *(_disk(spec.rootfs, "root", ROOT_FDSET) if spec.rootfs is not None else ()),
            *(word for number, share in enumerate(spec.shares) for word in _share(share, SHARE_FDSET + number)),
            *(_data_disk(spec.data) if spec.data is not None else ()),
            *(_network_device(spec.network) if spec.network is not None else ()),
            *_saved(spec),
        )
        buffer = _translation_buffer(spec.memory_mib) if spec.acceleration is Acceleration.TCG else 0
        return Invocation(argv, additions, overhead_mib=OVERHEAD_MIB + buffer)


def _processor(acceleration: Acceleration) -> str:
    return TRANSLATED_CPU if acceleration is Acceleration.TCG else "max"


def _accelerator(spec: LaunchSpec) -> str:
    match spec.acceleration:
        case Acceleration.KVM:
            return "kvm" if spec.kvm is None else f"kvm,device=/dev/fdset/{KVM_FDSET}"
        case Acceleration.TCG:
            return f"tcg,thread=multi,tb-size={_translation_buffer(spec.memory_mib)}"
        case Acceleration.NONE:
            raise ValueError("a virtual machine needs something that runs its instructions")
        case _:
            assert_never(spec.acceleration)


def _translation_buffer(memory_mib: int) -> int:
    least, most = TRANSLATION_BUFFER_MIB
    return min(max(memory_mib // 8, least), most)


def _kvm_device(descriptor: int | None) -> tuple[str, ...]:
    """KVM's device as a descriptor: in its jail QEMU finds no /dev/kvm, and its uid could not open it."""
    return () if descriptor is None else ("-add-fd", f"fd={descriptor},set={KVM_FDSET}")


def _additions(spec: LaunchSpec) -> tuple[Addition, ...]:
    match spec.acceleration:
        case Acceleration.KVM:
            return ()  # the guest reads its clock from the kvmclock page
        case Acceleration.NONE:
            return ()
        case Acceleration.TCG:
            reliable = Addition(BackendParameter.TSC, "reliable")
            return (Addition(BackendParameter.TSC_EARLY_KHZ, spec.tsc_khz), reliable)
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


def _machine(spec: LaunchSpec) -> tuple[str, ...]:
    """With memory that is there already and has its size: servers of shares map it too, or a guest was saved there."""
    if spec.memory is None:
        return ("-machine", MACHINE)
    path, size = f"/proc/self/fd/{spec.memory.descriptor}", spec.memory_mib << 20
    memory: dict[str, object] = {"qom-type": "memory-backend-file", "id": "memory", "mem-path": path, "size": size}
    # what is mapped privately is sealed, and stays as it is
    memory |= {"share": False, "readonly": True, "rom": "off"} if spec.memory.is_private else {"share": True}
    return ("-object", _json(memory), "-machine", f"{MACHINE},memory-backend=memory")


def _saved(spec: LaunchSpec) -> tuple[str, ...]:
    """The descriptors that the monitor's commands name, by their sets."""
    read, written = spec.restored, spec.saves
    begins = () if read is None else ("-add-fd", f"fd={read},set={RESTORED_FDSET}", "-incoming", "defer")
    return begins if written is None else (*begins, "-add-fd", f"fd={written},set={SAVED_FDSET}")


def _share(share: Attachment, fdset: int) -> tuple[str, ...]:
    """A share's tag is mvm's own: a word and a number."""
    match share.kind:
        case ShareKind.EROFS:
            return _disk(share.descriptor, share.tag, fdset)
        case ShareKind.VIRTIOFS:
            device = {"driver": "vhost-user-fs-device", "chardev": share.tag, "tag": share.tag}
            return (*_socket(share.tag, share.descriptor), "-device", _json(device))
        case _:
            assert_never(share.kind)


def _disk(descriptor: int, name: str, fdset: int) -> tuple[str, ...]:
    """A disk that is read-only in QEMU too; the guest finds it by its serial number, which is this name."""
    device = {"driver": "virtio-blk-device", "drive": name, "serial": name}
    return (*_image(descriptor, name, fdset), "-device", _json(device))


def _image(descriptor: int, name: str, fdset: int) -> tuple[str, ...]:
    read_only = {"read-only": True, "auto-read-only": False}
    file = {"driver": "file", "filename": f"/dev/fdset/{fdset}", **read_only}
    return (
        *("-add-fd", f"fd={descriptor},set={fdset}"),
        *("-blockdev", _json({"driver": "raw", "node-name": name, **read_only, "file": file})),
    )


def _data_disk(data: DataAttachment | PlaceholderDisk) -> tuple[str, ...]:
    """The device of the data disk; an error of the host's disk is the guest's to see, and stops nothing."""
    image = _image(data.descriptor, "data", DATA_FDSET) if isinstance(data, PlaceholderDisk) else _encrypted(data)
    device = {"driver": "virtio-blk-device", "drive": "data", "serial": "data", "discard": False}
    return (*image, "-device", _json({**device, "werror": "report", "rerror": "report"}))


def _encrypted(data: DataAttachment) -> tuple[str, ...]:
    """What QEMU encrypts; the guest's flushes end in the host's memory, since nothing of it outlives both."""
    node = {
        "driver": "luks",
        "node-name": "data",
        "key-secret": "data-key",
        "file": {"driver": "file", "filename": f"/dev/fdset/{DATA_FDSET}"},
        "header": {"driver": "file", "filename": f"/dev/fdset/{DATA_HEADER_FDSET}"},
        "cache": {"no-flush": True},
    }
    return (
        *("-add-fd", f"fd={data.file},set={DATA_FDSET}"),
        *("-add-fd", f"fd={data.header},set={DATA_HEADER_FDSET}"),
        *("-object", _json({"qom-type": "secret", "id": "data-key", "file": f"/proc/self/fd/{data.key}"})),
        *("-blockdev", _json(node)),
    )


def _network_device(network: NetworkAttachment) -> tuple[str, ...]:
    """A link whose other end is the tap interface's namespace; the hypervisor can't reach that namespace itself.

    What is left on is for bulk: checksums that are computed by the other end or not at all, and packets of 64 KiB.
    """
    backend = {"type": "tap", "id": "net", "fd": str(network.tap), "vhost": False}
    device = {"driver": "virtio-net-device", "netdev": "net", "mac": network.mac}
    return (
        *("-netdev", _json(backend)),
        *("-device", _json({**device, **dict.fromkeys(_UNUSED_OF_A_NETWORK_DEVICE, False)})),
    )
