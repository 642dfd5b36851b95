"""The record that every hypervisor backend answers with, and the events it may report; types alone, no I/O.

A backend gets a `LaunchSpec`, which holds descriptors and numbers, and returns an `Invocation`. The only text in it
that a signed plan chose is the kernel command line, which a backend must pass as one argument of its own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from mvmnix.plan.backend import Backend
from mvmnix.plan.kernel_command_line import Addition
from mvmnix.plan.share import ShareKind
from mvmnix.provenance.isolation import Boundary

#: Bytes of the state of a guest's devices (measured: 60,000 without a network).
LARGEST_STATE: Final = 16 << 20


class Acceleration(StrEnum):
    """What runs the guest's instructions: the CPU itself through KVM, or QEMU's translator (TCG).

    NONE is a container's word: the host's kernel runs it like any other process, and no hypervisor takes it.
    """

    KVM = "kvm"
    TCG = "tcg"
    NONE = "none"

    @property
    def boundary(self) -> Boundary:
        """What holds a guest that runs on it."""
        return {
            Acceleration.KVM: Boundary.HARDWARE,
            Acceleration.TCG: Boundary.SANDBOX,
            Acceleration.NONE: Boundary.CONTAINER,
        }[self]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A share's device: `tag` names it to the guest, and is a plain word. Raises ValueError for others.

    `descriptor` is a socket that leads to a server (vhost-user protocol), or an image, for reading.
    """

    tag: str
    descriptor: int
    kind: ShareKind

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]{0,19}", self.tag):
            raise ValueError(f"not the tag of a share: {self.tag[:80]!r}")


@dataclass(frozen=True, slots=True)
class DataAttachment:
    """A disk of `size` bytes that the guest writes, encrypted: what is in `file`, open for both, is ciphertext.

    `header` (LUKS1, detached) and `key`, the passphrase that unlocks it, are memory.
    """

    file: int
    header: int
    key: int
    size: int

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All three."""
        return (self.file, self.header, self.key)


@dataclass(frozen=True, slots=True)
class PlaceholderDisk:
    """Stands for a data disk in a machine whose guest is saved: `descriptor` is an image that is only read."""

    descriptor: int

    @property
    def descriptors(self) -> tuple[int, ...]:
        """That one alone."""
        return (self.descriptor,)

    @property
    def size(self) -> int:
        """Bytes that the hypervisor may write of it: none."""
        return 0


@dataclass(frozen=True, slots=True)
class NetworkAttachment:
    """A network device: `tap` is the descriptor of a tap interface, with virtio-net headers (IFF_VNET_HDR).

    `mac` is the guest's hardware address, as `02:…`. Raises ValueError for what is none, or a group's.
    """

    tap: int
    mac: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}", self.mac):
            raise ValueError(f"not the hardware address of a machine: {self.mac[:80]!r}")


@dataclass(frozen=True, slots=True)
class MemoryBackend:
    """The memfd, `descriptor`, that a guest's memory is.

    With `is_private` the hypervisor reads it and keeps what the guest writes to itself. Without, what the guest writes
    is in the memfd: servers of its shares read it there, or the process that keeps a guest that is saved.
    """

    descriptor: int
    is_private: bool = False


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What a machine consists of, in descriptors and numbers.

    `kernel` and `initrd` are sealed memfds, `rootfs` a read-only file; `channel`, `console` and `monitor` are the
    hypervisor's ends of stream sockets. `rootfs` is None for a probe guest, which gets no disk. `tsc_khz` is the
    host's time stamp counter. `kvm` is KVM's device, open, where that is what accelerates. `memory` is None where the
    hypervisor makes the guest's memory itself. `restored` is a memfd with the state of a saved guest's devices: the
    machine begins as that guest, whose memory is `memory`. `saves` is one, open for writing, that takes up to
    LARGEST_STATE bytes of such state when the guest is saved (`Monitor.save`); its memory is in `memory` then. Servers
    of shares can be had with neither.
    `data` is the one disk that the guest may write, if it has one, or what stands for it; `network` its one link to
    other machines.
    `cpu_percent` of one processor and `cpu_weight` (as cgroup v2 counts) are for all that the hypervisor does.
    """

    kernel: int
    initrd: int
    rootfs: int | None
    channel: int
    console: int
    monitor: int
    vcpus: int
    memory_mib: int
    command_line: str
    acceleration: Acceleration
    tsc_khz: int
    kvm: int | None = None
    cpu_percent: int | None = None
    cpu_weight: int | None = None
    memory: MemoryBackend | None = None
    shares: tuple[Attachment, ...] = ()
    data: DataAttachment | PlaceholderDisk | None = None
    network: NetworkAttachment | None = None
    restored: int | None = None
    saves: int | None = None

    def __post_init__(self) -> None:
        if self.vcpus < 1 or self.memory_mib < 1 or self.tsc_khz < 1:
            raise ValueError("vcpus, memory_mib and tsc_khz are positive")
        if not self.command_line.isascii() or not self.command_line.isprintable():
            raise ValueError("a kernel command line is printable ASCII")
        is_shared = self.memory is not None and not self.memory.is_private
        if self.is_served and not is_shared:
            raise ValueError("a file system that is served needs memory that its server may use")
        if self.restored is not None and self.memory is None:
            raise ValueError("a guest that is restored has its memory in a memfd")
        if self.saves is not None and not is_shared:
            raise ValueError("a guest that is saved has its memory in a memfd that others see")
        if self.is_served and (self.restored, self.saves) != (None, None):
            raise ValueError("a guest that is saved or restored shares its memory with no server")

    @property
    def is_served(self) -> bool:
        """Whether a server of a share reads and writes the guest's memory."""
        return any(it.kind is ShareKind.VIRTIOFS for it in self.shares)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What the hypervisor inherits, and nothing else."""
        files = (self.kernel, self.initrd) if self.rootfs is None else (self.kernel, self.initrd, self.rootfs)
        memory = None if self.memory is None else self.memory.descriptor
        optional = tuple(fd for fd in (self.kvm, memory, self.restored, self.saves) if fd is not None)
        shares = tuple(it.descriptor for it in self.shares)
        data = () if self.data is None else self.data.descriptors
        network = () if self.network is None else (self.network.tap,)
        return (*files, *optional, *shares, *data, *network, self.channel, self.console, self.monitor)


@dataclass(frozen=True, slots=True)
class Invocation:
    """How a hypervisor is started: its arguments (the first is the executable's absolute path), and what it added.

    `overhead_mib` is the memory that it may need beside the guest's.
    """

    argv: tuple[str, ...]
    additions: tuple[Addition, ...]
    overhead_mib: int = 512


@dataclass(frozen=True, slots=True)
class Emulation:
    """A hypervisor's executable by its absolute path; the machine and the processor that a guest sees, in its words.

    `writer` is the file of mvm's code that writes its arguments.
    """

    program: str
    writer: str
    machine: str
    processor: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a hypervisor's process was given, as the kernel counted it until its end (getrusage(2)).

    Processor time in milliseconds, of its threads in user and in kernel mode: a virtual processor's is user time. The
    largest resident memory in KiB includes what the process that started it had then.
    """

    user_ms: int
    system_ms: int
    peak_kib: int


class MonitorEvent(StrEnum):
    """What a hypervisor says about its guest; the words are ours, each backend maps its own to them.

    READY: it runs, at first or again. PAUSED: it stands still, because it was asked to. SAVED: it stands still, and its
    memory and the state of its devices are complete; SAVE_FAILED: they aren't.
    """

    READY = "ready"
    PAUSED = "paused"
    SAVED = "saved"
    SAVE_FAILED = "save-failed"
    GUEST_RESET = "guest-reset"
    GUEST_SHUTDOWN = "guest-shutdown"
    GUEST_PANIC = "guest-panic"
    INTERNAL_ERROR = "internal-error"
    HOST_QUIT = "host-quit"


class Monitor(Protocol):
    """The control connection of a running hypervisor, as bytes in and events out."""

    def greeting(self, *, restores: bool = False) -> bytes:
        """What is sent first; `restores` where the machine begins as a saved guest: READY comes once it runs."""

    def pause(self) -> bytes:
        """What is sent so that the guest stands still; PAUSED is the answer."""

    def resume(self) -> bytes:
        """What is sent so that it goes on; READY is the answer."""

    def save(self) -> bytes:
        """What is sent so that it stands still and is saved, as its `LaunchSpec` says; SAVED is the answer."""

    def examine(self, *, registers: bool) -> bytes:
        """What is sent so that it tells how its guest stands, which it may never do; `answers` grows then.

        Never what lies in the guest's memory; and what stands in its registers only where that is asked for.
        """

    @property
    def answers(self) -> Mapping[str, str]:
        """By each question of the last `examine` what the hypervisor said: whatever it likes."""

    @property
    def answered(self) -> bool:
        """Whether there is nothing more to come."""

    def received(self, data: bytes) -> tuple[MonitorEvent, ...]:
        """The events in the next bytes. Raises ValueError when they are none of the protocol."""


class Hypervisor(Protocol):
    """A backend: how one hypervisor is started and listened to."""

    @property
    def backend(self) -> Backend:
        """Which one a plan has to name."""

    @property
    def firmware(self) -> tuple[str, ...]:
        """Absolute paths of the files, besides the executable, that run in the guest without being the plan's."""

    @property
    def files(self) -> tuple[str, ...]:
        """Absolute paths of all that it reads by name when it starts, firmware included, libraries not."""

    def emulation(self, acceleration: Acceleration) -> Emulation | None:
        """What a saved guest depends on; None where it can't save any."""

    def invocation(self, spec: LaunchSpec) -> Invocation:
        """How to start this machine."""

    def monitor(self) -> Monitor:
        """A fresh reader for the monitor connection."""
