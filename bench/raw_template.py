"""A template made and restored by hand: QEMU's own templating, with nothing hashed, sealed, confined or logged."""

import fcntl
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.raw_qemu import PATIENCE, RawQemu
from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.frames import Hello
from mvmnix.model import Verb
from mvmnix.system.loop import Loop
from mvmnix.vmm.port import MonitorEvent
from mvmnix.vmm.qmp import RESTORED_FDSET, SAVED_FDSET, QmpMonitor


@dataclass(frozen=True, slots=True)
class Restored:
    """A machine that goes on: its agent's channel, and QEMU's process."""

    channel: Channel
    qemu: subprocess.Popen[bytes]


@contextmanager
def raw_machine(
    raw: RawQemu, memory: int, state: int, *, restores: bool = False, share: bool = True
) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket, socket.socket]]:
    """QEMU with this memfd as the guest's memory, shared or private, and a file that it saves to or restores from.

    Yields its process, the agent's port and the monitor.
    """
    (port, theirs), (monitor, monitored) = socket.socketpair(), socket.socketpair()
    size = raw.image.memory_mib << 20
    backend = f"memory-backend-file,id=ram,size={size},mem-path=/proc/self/fd/{memory}"
    how = "share=on" if share else "share=off,readonly=on,rom=off"
    argv = list(raw.argv(theirs.fileno()))
    argv[argv.index("-M") + 1] = "microvm,memory-backend=ram"
    argv += ["-object", f"{backend},{how}", "-add-fd", f"fd={state},set={RESTORED_FDSET if restores else SAVED_FDSET}"]
    argv += ["-chardev", f"socket,id=qmp,fd={monitored.fileno()}", "-mon", "chardev=qmp,mode=control"]
    argv += ["-incoming", "defer"] if restores else []
    fds = (theirs.fileno(), monitored.fileno(), memory, state)
    with port, monitor, subprocess.Popen(argv, pass_fds=fds, stdin=subprocess.DEVNULL) as qemu:
        theirs.close()
        monitored.close()
        monitor.settimeout(PATIENCE)
        try:
            yield qemu, port, monitor
        finally:
            qemu.kill()


@contextmanager
def gone_on(raw: RawQemu, memory: int, state: Path, hello: Hello, *, share: bool = True) -> Iterator[Restored]:
    """A machine that goes on from what was saved, with an agent that said `hello` before that."""
    read = os.open(state, os.O_RDONLY)
    with raw_machine(raw, memory, read, restores=True, share=share) as (qemu, port, monitor):
        os.close(read)
        protocol, loop = QmpMonitor(), Loop()
        monitor.sendall(protocol.greeting(restores=True))
        wait_for(monitor, protocol, MonitorEvent.READY)
        channel = Channel(port, loop, hello=hello)
        yield Restored(channel, qemu)
        channel.close()
        loop.close()


class RawTemplate:
    """A guest of `raw`, saved once its root is open; a context manager."""

    def __init__(self, raw: RawQemu) -> None:
        self._raw = raw
        self._stack = ExitStack()
        self._memory = os.memfd_create("raw-memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._memory, raw.image.memory_mib << 20)
        self._state = Path(self._stack.enter_context(tempfile.TemporaryDirectory()), "state")
        self._hello = self._saved()

    def _saved(self) -> Hello:
        written = os.open(self._state, os.O_WRONLY | os.O_CREAT, 0o600)
        with raw_machine(self._raw, self._memory, written) as (qemu, port, monitor):
            os.close(written)
            loop = Loop()
            channel, protocol = Channel(port, loop), QmpMonitor()
            hello = channel.wait_hello(idle=PATIENCE)
            channel.ping(idle=PATIENCE)
            monitor.sendall(protocol.greeting() + protocol.save())
            wait_for(monitor, protocol, MonitorEvent.SAVED)
            channel.close()
            loop.close()
            qemu.kill()
        fcntl.fcntl(self._memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        return hello

    @contextmanager
    def restored(self, verbs: Sequence[Verb] = (Verb.EXEC,)) -> Iterator[Restored]:
        """A machine that went on from it and is ready."""
        with gone_on(self._raw, self._memory, self._state, self._hello, share=False) as machine:
            machine.channel.configure(self._raw.config(frozenset(verbs)), idle=PATIENCE)
            yield machine

    def run(self) -> None:
        """Go on, run the command, shut down, and wait until QEMU has ended."""
        with self.restored(()) as machine:
            machine.channel.wait(machine.channel.start_run(stdout=_ignored, stderr=_ignored), idle=PATIENCE)
            machine.channel.shutdown(grace_ms=0, idle=PATIENCE)
            machine.qemu.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        os.close(self._memory)


def wait_for(monitor: socket.socket, protocol: QmpMonitor, event: MonitorEvent) -> None:
    """Wait until the monitor has told this. Raises RuntimeError."""
    while data := monitor.recv(65536):
        if event in protocol.received(data):
            return
    raise RuntimeError("QEMU has ended")


def _ignored(_: bytes) -> None:
    """For output that counts for nothing."""
