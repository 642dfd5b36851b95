"""The record that every hypervisor backend answers with, and the events it may report; types alone, no I/O.

A backend gets a `LaunchSpec`, which holds descriptors and numbers, and returns an `Invocation`. The only text in it
that a signed plan chose is the kernel command line, which a backend must pass as one argument of its own.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, override


class Acceleration(StrEnum):
    """What runs the guest's instructions: the CPU itself through KVM, or QEMU's translator (TCG)."""

    KVM = "kvm"
    TCG = "tcg"


class BackendParameter(StrEnum):
    """The fixed list of what a backend may add to the plan's kernel command line, each with an integer.

    `tsc_early_khz` (kernel: Documentation/admin-guide/kernel-parameters.txt): the host's time stamp counter in kHz.
    Under TCG the guest's counter is the host's, and its calibration against an emulated timer hangs at times.
    """

    TSC_EARLY_KHZ = "tsc_early_khz"


@dataclass(frozen=True, slots=True)
class Addition:
    """One parameter that a backend adds to the kernel command line; it stands in the receipt."""

    parameter: BackendParameter
    value: int

    @override
    def __str__(self) -> str:
        return f"{self.parameter}={self.value}"


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What a machine consists of, in descriptors and numbers.

    `kernel` and `initrd` are sealed memfds, `rootfs` a read-only file; `channel`, `console` and `monitor` are the
    hypervisor's ends of stream sockets. `rootfs` is None for a probe guest, which gets no disk. `tsc_khz` is the
    host's time stamp counter.
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

    def __post_init__(self) -> None:
        if self.vcpus < 1 or self.memory_mib < 1 or self.tsc_khz < 1:
            raise ValueError("vcpus, memory_mib and tsc_khz are positive")
        if not self.command_line.isascii() or not self.command_line.isprintable():
            raise ValueError("a kernel command line is printable ASCII")

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What the hypervisor inherits, and nothing else."""
        files = (self.kernel, self.initrd) if self.rootfs is None else (self.kernel, self.initrd, self.rootfs)
        return (*files, self.channel, self.console, self.monitor)


@dataclass(frozen=True, slots=True)
class Invocation:
    """How a hypervisor is started: its arguments (the first is the executable's absolute path), and what it added."""

    argv: tuple[str, ...]
    additions: tuple[Addition, ...]


class MonitorEvent(StrEnum):
    """What a hypervisor says about its guest; the words are ours, each backend maps its own to them."""

    READY = "ready"
    GUEST_RESET = "guest-reset"
    GUEST_SHUTDOWN = "guest-shutdown"
    GUEST_PANIC = "guest-panic"
    INTERNAL_ERROR = "internal-error"
    HOST_QUIT = "host-quit"


class Monitor(Protocol):
    """The control connection of a running hypervisor, as bytes in and events out."""

    def greeting(self) -> bytes:
        """What is sent first."""

    def quit(self) -> bytes:
        """What is sent so that the hypervisor ends at once, without asking the guest."""

    def received(self, data: bytes) -> tuple[MonitorEvent, ...]:
        """The events in the next bytes. Raises ValueError when they are none of the protocol."""


class Hypervisor(Protocol):
    """A backend: how one hypervisor is started and listened to."""

    @property
    def name(self) -> str:
        """How receipts and messages call it."""

    @property
    def firmware(self) -> tuple[str, ...]:
        """Absolute paths of the files, besides the executable, that run in the guest without being the plan's."""

    def invocation(self, spec: LaunchSpec) -> Invocation:
        """How to start this machine."""

    def monitor(self) -> Monitor:
        """A fresh reader for the monitor connection."""
