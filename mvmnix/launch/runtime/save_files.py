"""What a guest is saved into: its memory, which its hypervisor and this process both see, a state, its data disk."""

import os
from functools import partial
from typing import Final, Self

from mvmnix.errors import MvmnixError
from mvmnix.launch.templates import guest_memory
from mvmnix.system.descriptors import make_together, reopen
from mvmnix.vmm.port import LARGEST_STATE, DataAttachment, MemoryBackend, PlaceholderDisk

_MEMORY, _STATE = "mvmnix-saved-memory", "mvmnix-saved-state"
_MIB: Final = 1 << 20


class SaveFiles:
    """What a machine has whose guest may be saved, once or again and again; a context manager that owns descriptors.

    `memory` is the guest's. `state` is a descriptor for writing, for the hypervisor. `disk` is the guest's data disk.
    """

    def __init__(self, memory: int, disk: DataAttachment | PlaceholderDisk | None = None) -> None:
        """Take over a memfd of the guest's memory that any uid may map; the disk stays the caller's.

        Raises OSError; the memfd is closed then.
        """
        self.memory = memory
        self.disk: DataAttachment | None = None
        self._state = self.state = -1
        try:
            if isinstance(disk, DataAttachment):
                self.disk = _to_read(disk)
            self._state = guest_memory.make_shared(0, _STATE)
            self.state = reopen(self._state, os.O_WRONLY)
        except BaseException:
            self.close()
            raise

    @classmethod
    def empty(cls, memory_mib: int, disk: DataAttachment | PlaceholderDisk | None = None) -> Self:
        """Make them for a guest that boots. Raises OSError."""
        return cls(guest_memory.make_shared(memory_mib * _MIB, _MEMORY), disk)

    @property
    def backend(self) -> MemoryBackend:
        """The memory, as a machine has it."""
        return MemoryBackend(self.memory)

    def fill(self, memory: int) -> None:
        """Have the guest's memory be a copy of this memfd, before it starts. Raises OSError."""
        for offset, block in guest_memory.blocks(memory):
            os.pwrite(self.memory, block, offset)

    def rewind(self) -> None:
        """Have the hypervisor write the next state from the beginning. Raises OSError."""
        os.ftruncate(self._state, 0)
        os.lseek(self.state, 0, os.SEEK_SET)

    def read_state(self) -> bytes:
        """Return what the hypervisor wrote of its devices, which is only ever read by another one, in its jail.

        Raises MvmnixError where there is none.
        """
        if data := os.pread(self._state, LARGEST_STATE, 0):
            return data
        raise MvmnixError("the hypervisor saved nothing of its devices", hint="try again")

    def close(self) -> None:
        """Close them. A second call does nothing."""
        for fd in (self.memory, self._state, self.state, *(self.disk.descriptors if self.disk else ())):
            if fd >= 0:
                os.close(fd)
        self.memory = self._state = self.state = -1
        self.disk = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _to_read(disk: DataAttachment) -> DataAttachment:
    """The same disk by descriptors of its own, for reading."""
    file, header, key = make_together(*(partial(reopen, fd) for fd in disk.descriptors))
    return DataAttachment(file, header, key, disk.size)
