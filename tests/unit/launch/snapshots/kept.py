"""A claim about a snapshot and the guest's memory that goes with it, for tests of what is signed and kept."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mvmnix.digest import Digest
from mvmnix.launch.agent.frames import PROTOCOL_VERSION, Hello
from mvmnix.launch.snapshots.statement import SnapshotClaim, snapshot_statement
from mvmnix.launch.snapshots.store import Snapshots
from mvmnix.launch.templates import guest_memory
from mvmnix.launch.templates.guest_memory import BLOCK
from mvmnix.launch.templates.sealed_stream import KEY_BYTES
from mvmnix.machines.receipt import HostFile
from mvmnix.plan.kernel_command_line import Addition, BackendParameter
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.statement import Subject
from mvmnix.system.private_dirs import Directory
from mvmnix.vmm.port import DataAttachment
from tests.unit.provenance.world import HOST, NOW

ID, OTHER_ID = "0123456789ab", "ba9876543210"
BOOT = "12345678-9abc-def0-1234-56789abcdef0"
MEMORY_MIB = 96
SIZE = MEMORY_MIB << 20
STATE = b"the state of some devices"
PLAN = b"the plan's bundle"
#: What the guest has in its memory, block by block: the last one too.
PIECES = ((0, b"\1" * BLOCK), (5 * BLOCK, b"a secret" * (BLOCK // 8)), (MEMORY_MIB * 16 * BLOCK - BLOCK, b"\2" * BLOCK))


def flipped(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


#: What may have been done to a file.
CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "the first byte": flipped(0),
    "the salt": flipped(30),
    "behind the head": flipped(56),
    "in the middle": lambda data: flipped(len(data) // 2)(data),
    "the last byte": lambda data: flipped(len(data) - 1)(data),
    "cut off by one": lambda data: data[:-1],
    "cut off by half": lambda data: data[: len(data) // 2],
    "cut off after the head": lambda data: data[:55],
    "nothing": lambda _: b"",
    "one more": lambda data: data + b"\0",
    "zeros": lambda data: bytes(len(data)),
}


def claim_of(**changes: Any) -> SnapshotClaim:
    """A claim, which no file goes with unless a test makes one."""
    made = SnapshotClaim(
        id=ID,
        created=NOW,
        machine="abcdef012345",
        plan=Digest.of(PLAN),
        policy=Digest.of(b"policy"),
        manifest=Digest.of(b"manifest"),
        image="hello",
        files=tuple(Subject(name, Digest.of(name.encode())) for name in ("kernel", "initrd", "rootfs")),
        vcpus=2,
        memory_mib=MEMORY_MIB,
        data_mib=0,
        command_line="console=hvc0 quiet",
        additions=(Addition(BackendParameter.TSC_EARLY_KHZ, 2_596_132), Addition(BackendParameter.TSC, "reliable")),
        tsc_khz=2_596_132,
        boot=BOOT,
        programs=(
            HostFile("/usr/bin/qemu-system-x86_64", Digest.of(b"qemu")),
            HostFile("/usr/share/qemu/qboot.rom", Digest.of(b"rom")),
        ),
        machine_type="microvm,x-option-roms=off",
        processor="max",
        hello=Hello(PROTOCOL_VERSION, "0.3.0", "6.12.1"),
        runs=True,
        ended_with=False,
        network=False,
        state_bytes=len(STATE),
        sealed=Digest.of(b"sealed"),
        sealed_bytes=4096,
        key=Digest.of(b"key"),
        parent=OTHER_ID,
    )
    return replace(made, **changes)


@contextmanager
def saved_memory(pieces: tuple[tuple[int, bytes], ...] = PIECES) -> Iterator[int]:
    """The memory of a guest that stands still."""
    fd = guest_memory.make_shared(MEMORY_MIB << 20, "of-a-test")
    try:
        for offset, block in pieces:
            os.pwrite(fd, block, offset)
        yield fd
    finally:
        os.close(fd)


@dataclass
class Kept:
    """A user's snapshots, and the directory in which they are."""

    directory: Directory
    key: bytes = bytes(KEY_BYTES)

    @property
    def snapshots(self) -> Snapshots:
        return Snapshots(self.directory, lambda: self.key)

    def keep(self, snapshot: str = ID, disk: DataAttachment | None = None, **changes: Any) -> SnapshotClaim:
        """Keep a snapshot; what its statement says."""
        with saved_memory() as memory, self.snapshots.begin(snapshot) as writer:
            for _ in writer.seal(STATE, memory, SIZE, disk):
                pass
            sealed, size = writer.sealed
            seals: dict[str, Any] = {"sealed": sealed, "sealed_bytes": size, "key": writer.key}
            seals["data_mib"] = 0 if disk is None else disk.size >> 20
            claim = claim_of(id=snapshot, **seals | changes)
            writer.keep(envelope.sign(snapshot_statement(claim).to_bytes(), HOST).to_bytes(), PLAN)
        return claim

    def path(self, snapshot: str = ID) -> Path:
        return Path(self.directory.where(snapshot))

    def left(self) -> list[str]:
        """All that is there but the lock."""
        return sorted(path.name for path in Path(self.directory.path).iterdir() if path.name != "lock")
