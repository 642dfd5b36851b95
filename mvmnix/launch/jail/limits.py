"""How much of the host one hypervisor may take, from what its plan says; pure."""

from dataclasses import dataclass
from typing import Final, Self

from mvmnix.launch.vmm import Invocation, LaunchSpec
from mvmnix.privileges import GroupLimits

_MIB: Final = 1 << 20
#: Threads besides those of virtual processors: the main loop, RCU, a signal thread, and QEMU's pool of 64 for files.
_THREADS: Final = 96
#: Processors that emulating devices may take beside the virtual ones.
_DEVICES: Final = 0.5
#: MiB of address space beyond the memory that may be touched: libraries, stacks, malloc's arenas for each thread.
_ADDRESSES: Final = 8192
#: MiB of address space for a guest's memory that is mapped too, the most that a plan may name.
_GUESTS: Final = 1 << 20
#: Threads of a server of files.
_SERVICE: Final = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """`group` for all of its processes together, `addresses` in bytes for each of them.

    `written` is up to which byte a file may be written. `demanded` says whether a plan asks for a limit on processor
    time, so that nothing may start without.
    """

    group: GroupLimits
    addresses: int
    written: int = 0
    demanded: bool = False

    @classmethod
    def of_service(cls, memory: int) -> Self:
        """For what serves or reads a directory, with so many bytes of memory; it maps the guest's besides."""
        return cls(GroupLimits(memory, _SERVICE, 1.0), memory + _ADDRESSES * _MIB + _GUESTS * _MIB)

    @classmethod
    def of(cls, spec: LaunchSpec, invocation: Invocation) -> Self:
        """The guest's memory and what the hypervisor needs beside it; the guest's processors and half of one more."""
        memory = (spec.memory_mib + invocation.overhead_mib) * _MIB
        most = spec.vcpus + _DEVICES
        processors = most if spec.cpu_percent is None else min(most, spec.cpu_percent / 100)
        return cls(
            GroupLimits(memory, _THREADS + spec.vcpus, processors, spec.cpu_weight),
            memory + _ADDRESSES * _MIB,
            0 if spec.data is None else spec.data.size,
            (spec.cpu_percent, spec.cpu_weight) != (None, None),
        )
