"""A running guest saved by hand: QEMU's own migration and a plain file, not hashed, sealed or logged."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from bench.raw_qemu import PATIENCE, RawQemu
from bench.raw_template import gone_on, raw_machine, wait_for
from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.requests import ExecRequest
from mvmnix.model import User, Verb, Workload
from mvmnix.system.loop import Loop
from mvmnix.vmm.port import MonitorEvent
from mvmnix.vmm.qmp import QmpMonitor

_BLOCK: Final = 1 << 20
_ZEROS: Final = bytes(_BLOCK)


class RawSnapshot:
    """A guest of `raw` that runs, and where it is saved to; a context manager."""

    def __init__(self, raw: RawQemu, directory: Path, fill: tuple[str, ...]) -> None:
        """`fill` is a command that uses the guest's memory."""
        self._raw = raw
        self._directory = directory
        self._size = raw.image.memory_mib << 20
        self._stack = ExitStack()
        self._memory = os.memfd_create("raw-memory", os.MFD_CLOEXEC)
        self._stack.callback(os.close, self._memory)
        os.ftruncate(self._memory, self._size)
        self._loop = Loop()
        state = os.open(directory / "state", os.O_WRONLY | os.O_CREAT, 0o600)
        self._stack.callback(os.close, state)
        self._state = state
        machine = raw_machine(raw, self._memory, state)
        _, port, self._monitor = self._stack.enter_context(machine)
        self._protocol = QmpMonitor()
        self._channel = Channel(port, self._loop)
        self._hello = self._channel.wait_hello(idle=PATIENCE)
        self._channel.configure(raw.config(frozenset({Verb.EXEC})), idle=PATIENCE)
        request = ExecRequest(Workload(fill, {}, "/", User(1000, 1000)))
        self._channel.exec(request, stdout=_ignored, stderr=_ignored, idle=PATIENCE)
        self._monitor.sendall(self._protocol.greeting())

    def save(self) -> None:
        """Save the guest, copy what of its memory isn't zero to a file, and have it go on."""
        os.ftruncate(self._state, 0)
        os.lseek(self._state, 0, os.SEEK_SET)
        self._monitor.sendall(self._protocol.save())
        wait_for(self._monitor, self._protocol, MonitorEvent.SAVED)
        with (self._directory / "memory").open("wb") as file:
            for offset in range(0, self._size, _BLOCK):
                block = os.pread(self._memory, _BLOCK, offset)
                if block != _ZEROS:
                    file.seek(offset)
                    file.write(block)
            file.truncate(self._size)
            os.fsync(file.fileno())
        self._monitor.sendall(self._protocol.resume())
        self._channel.ping(idle=PATIENCE)

    def restore(self) -> None:
        """Have another machine go on from what was saved last, in memory of its own, until its agent answers."""
        memory = os.memfd_create("raw-memory", os.MFD_CLOEXEC)
        try:
            os.ftruncate(memory, self._size)
            with (self._directory / "memory").open("rb") as file:
                for offset in range(0, self._size, _BLOCK):
                    block = file.read(_BLOCK)
                    if block != _ZEROS:
                        os.pwrite(memory, block, offset)
            with gone_on(self._raw, memory, self._directory / "state", self._hello) as machine:
                machine.channel.ping(idle=PATIENCE)
        finally:
            os.close(memory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._loop.close()
        self._stack.close()


def _ignored(_: bytes) -> None:
    """For output that counts for nothing."""
