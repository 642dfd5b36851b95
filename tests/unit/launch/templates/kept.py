"""A template's key, its record and its memory, for tests of what is kept and held of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from mvmnix.digest import Digest
from mvmnix.launch.agent.frames import PROTOCOL_VERSION, Hello
from mvmnix.launch.templates import guest_memory
from mvmnix.launch.templates.guest_memory import BLOCK
from mvmnix.launch.templates.record import TemplateKey, TemplateRecord
from tests.unit.provenance.world import NOW

BOOT = "12345678-9abc-def0-1234-56789abcdef0"
POLICY = Digest.of(b"the policy in force")
KEY = TemplateKey(
    manifest=Digest.of(b"manifest"),
    vcpus=2,
    memory_mib=96,
    command_line="console=ttyS0",
    network=False,
    images=0,
    data=False,
    machine="microvm",
    processor="max",
    protocol=PROTOCOL_VERSION,
    boot=BOOT,
    programs=(("/usr/bin/qemu-system-x86_64", 1, 2, 3, 4, 5), ("/usr/share/qemu/qboot.rom",)),
)
STATE = b"the state of some devices"
#: What the guest has in its memory, block by block.
PIECES = ((0, b"\1" * BLOCK), (96 * 16 * BLOCK - BLOCK, bytes(BLOCK - 1) + b"\2"))


def record_of(key: TemplateKey = KEY, **changes: Any) -> TemplateRecord:
    """What is kept of a template of this key."""
    made = TemplateRecord(
        key=key.digest,
        manifest=key.manifest,
        image="hello",
        vcpus=key.vcpus,
        memory_mib=key.memory_mib,
        network=key.network,
        images=key.images,
        data=key.data,
        boot=key.boot,
        machine="0123456789ab",
        plan=Digest.of(b"plan"),
        policy=POLICY,
        made=NOW,
        tsc_khz=2_596_132,
        hello=Hello(PROTOCOL_VERSION, "1.0", "6.12"),
        memory=guest_memory.digest(PIECES),
        state=Digest.of(STATE),
        state_bytes=len(STATE),
    )
    return replace(made, **changes)


@contextmanager
def saved_memory(key: TemplateKey = KEY) -> Iterator[int]:
    """The memory that a machine of this key left behind."""
    fd = guest_memory.make_shared(key.memory_mib << 20, "of-a-test")
    try:
        for offset, block in PIECES:
            os.pwrite(fd, block, offset)
        yield fd
    finally:
        os.close(fd)
