"""QEMU as one would start it by hand, with the least that can stand at the other end of the agent's port."""

import json
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mvmnix.formats import manifest
from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.frames import Bye, Config, Frame, Hello, Ready, Shutdown
from mvmnix.launch.agent.guest_network import GuestNetwork
from mvmnix.launch.agent.requests import ENTROPY_BYTES, GuestConfig
from mvmnix.launch.agent.stream_frames import Exit, Run, Started
from mvmnix.launch.agent.transport import FrameDecoder, encode
from mvmnix.model import Image, Verb, Workload
from mvmnix.system.loop import Loop
from mvmnix.vmm.qemu import EXECUTABLES, FIRMWARE, TRANSLATED_CPU
from mvmnix.vmm.tsc import TscClock

#: Seconds after which a boot counts as hung.
PATIENCE = 120


@dataclass(frozen=True, slots=True)
class RawQemu:
    """An exported image and a command for it."""

    directory: Path
    image: Image
    command: tuple[str, ...]
    tsc_khz: int
    #: In the place of the image's, where it is not None.
    initrd: Path | None = None
    #: What it has besides: options, and the descriptors that they name.
    options: tuple[str, ...] = ()
    descriptors: tuple[int, ...] = ()

    @classmethod
    def of(cls, directory: Path, *command: str) -> "RawQemu":
        """The image that `mvm build --out` wrote."""
        clock = TscClock.start()
        time.sleep(0.01)
        return cls(directory, manifest.parse((directory / "manifest.json").read_bytes()), command, clock.khz())

    def argv(self, agent: int) -> tuple[str, ...]:
        """The lean flags: nothing hashed, sealed, confined or watched."""
        disk = {"driver": "raw", "node-name": "root", "read-only": True}
        disk["file"] = {"driver": "file", "filename": str(self.directory / "rootfs"), "read-only": True}
        port = {"driver": "virtserialport", "bus": "serial.0", "nr": 1, "chardev": "agent", "name": "mvm.agent"}
        return (
            next(path for path in EXECUTABLES.paths if Path(path).exists()),
            *("-M", "microvm", "-bios", next(path for path in FIRMWARE.paths if Path(path).exists())),
            *("-accel", "tcg,tb-size=64", "-cpu", TRANSLATED_CPU),
            *("-smp", str(self.image.vcpus), "-m", str(self.image.memory_mib)),
            *("-nodefaults", "-no-user-config", "-nographic", "-no-reboot"),
            *("-kernel", str(self.directory / "kernel"), "-initrd", str(self.initrd or self.directory / "initrd")),
            *("-append", f"{self.image.command_line} tsc_early_khz={self.tsc_khz} tsc=reliable"),
            *("-blockdev", json.dumps(disk)),
            *("-device", "virtio-blk-device,drive=root,serial=root"),
            *("-chardev", f"socket,id=agent,fd={agent}"),
            *("-device", "virtio-serial-device,id=serial,max_ports=2", "-device", json.dumps(port)),
            *self.options,
        )

    def run(self) -> None:
        """Boot, run the command, shut down, and wait until QEMU has ended. Raises RuntimeError."""
        with self._started() as (qemu, port):
            self._converse(port)
            qemu.wait(PATIENCE)

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """The host's end of the port, while it runs."""
        with self._started() as (_, port):
            yield port

    @contextmanager
    def channel(self, network: GuestNetwork | None = None) -> Iterator[Channel]:
        """The agent's channel, once the guest is configured; it takes commands."""
        loop = Loop()
        with self.connected() as port:
            channel = Channel(port, loop)
            channel.wait_hello(idle=PATIENCE)
            channel.configure(replace(self.config(frozenset({Verb.EXEC})), network=network), idle=PATIENCE)
            yield channel
            channel.close()
        loop.close()

    @contextmanager
    def running(self) -> Iterator[int]:
        """Boot and start the command; yields QEMU's process id while it runs."""
        with self._started() as (qemu, port):
            for frame in _frames(port):
                if isinstance(frame, Started):
                    break
                self._answer(port, frame)
            yield qemu.pid

    @contextmanager
    def _started(self) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        argv = self.argv(theirs.fileno())
        fds = (theirs.fileno(), *self.descriptors)
        with ours, subprocess.Popen(argv, pass_fds=fds, stdin=subprocess.DEVNULL) as qemu:
            try:
                theirs.close()
                yield qemu, ours
            finally:
                qemu.kill()

    def _converse(self, port: socket.socket) -> None:
        for frame in _frames(port):
            if isinstance(frame, Bye):
                port.close()  # which the agent waits for
                return
            self._answer(port, frame)
        raise RuntimeError("the guest hung up")

    def _answer(self, port: socket.socket, frame: Frame) -> None:
        match frame:
            case Hello():
                port.sendall(encode(Config(self.config())))
            case Ready():
                port.sendall(encode(Run(1)))
            case Exit(code=0):
                port.sendall(encode(Shutdown(0)))
            case Exit():
                raise RuntimeError(f"the command ended with {frame}")
            case _:
                pass

    def config(self, verbs: frozenset[Verb] = frozenset()) -> GuestConfig:
        """What the guest is told."""
        planned = self.image.workload
        return GuestConfig(
            hostname="raw",
            time_ns=time.time_ns(),
            entropy=secrets.token_bytes(ENTROPY_BYTES),
            scratch=self.image.scratch_mib << 20,
            owner=planned.user,
            writable=self.image.writable,
            workload=Workload(self.command, planned.environment, planned.directory, planned.user),
            verbs=verbs,
        )


def _frames(port: socket.socket) -> Iterator[Frame]:
    decoder = FrameDecoder()
    while data := port.recv(65536):
        yield from decoder.feed(data)
