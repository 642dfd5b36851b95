"""What a template depends on, and what is kept about it: two records, and their canonical bytes; pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from mvmnix.digest import Digest
from mvmnix.formats import strict
from mvmnix.launch.agent.frames import MAX_TEXT, PROTOCOL_VERSION, Hello
from mvmnix.plan.fields import LEAST_MIB, MOST_MIB, MOST_VCPUS
from mvmnix.plan.share import MOST_SHARES
from mvmnix.vmm.port import LARGEST_STATE
from mvmnix.vmm.tsc import PLAUSIBLE

#: Bytes of a record's JSON, at most.
LIMIT: Final = 65536
_BOOT: Final = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_MACHINE: Final = r"[0-9a-f]{12}"


@dataclass(frozen=True, slots=True)
class TemplateKey:
    """What a template depends on: a machine whose key is another one can't start from it.

    `manifest` is the image's, by digest; `command_line` the plan's, without what the hypervisor adds; `network`
    whether it has a network device; `images` how many images of shares it has on disks, and `data` whether it has a
    data disk: what is on them is in no template. `machine` and `processor` are what the guest sees, in the hypervisor's
    words. `programs` are the hypervisor, its firmware and what else it reads, by path, device, inode, size and times of
    the file: while the host has booted once, no other bytes have these. `boot` is that boot of the host, by its id.
    """

    manifest: Digest
    vcpus: int
    memory_mib: int
    command_line: str
    network: bool
    images: int
    data: bool
    machine: str
    processor: str
    protocol: int
    boot: str
    programs: tuple[tuple[object, ...], ...]

    @property
    def digest(self) -> Digest:
        """SHA-256 of its canonical JSON."""
        return Digest.of(strict.canonical(self.to_value()))

    def to_value(self) -> Mapping[str, object]:
        """Return it as JSON."""
        return {
            "manifest": self.manifest.hex,
            "vcpus": self.vcpus,
            "memoryMiB": self.memory_mib,
            "commandLine": self.command_line,
            "network": self.network,
            "shareImages": self.images,
            "data": self.data,
            "machine": self.machine,
            "processor": self.processor,
            "protocol": self.protocol,
            "boot": self.boot,
            "programs": [list(map(str, program)) for program in self.programs],
        }


@dataclass(frozen=True, slots=True)
class TemplateRecord:
    """What is kept beside a template's bytes, sealed as they are.

    `key` is its key's digest, and `manifest` the image's; `image` is the image's name. `vcpus`, `memory_mib`,
    `network`, `images` and `data` are as in the key. `plan` is the digest of the template plan's bundle, and `machine`
    the machine that was started from it, whose receipt and records say the rest. `policy` is the trust policy under
    which that was verified, revocations included. `tsc_khz` is what the guest was told of its counter. `hello` is what
    its agent said. `memory` and `state` are digests (`guest_memory.digest`, and SHA-256 of the bytes); `state_bytes` is
    the size of the latter.
    """

    key: Digest
    manifest: Digest
    image: str
    vcpus: int
    memory_mib: int
    network: bool
    images: int
    data: bool
    boot: str
    machine: str
    plan: Digest
    policy: Digest
    made: datetime
    tsc_khz: int
    hello: Hello
    memory: Digest
    state: Digest
    state_bytes: int

    def to_bytes(self) -> bytes:
        """Return its canonical JSON."""
        return strict.canonical(
            {
                "key": self.key.hex,
                "manifest": self.manifest.hex,
                "image": self.image,
                "vcpus": self.vcpus,
                "memoryMiB": self.memory_mib,
                "network": self.network,
                "shareImages": self.images,
                "data": self.data,
                "boot": self.boot,
                "machine": self.machine,
                "plan": self.plan.hex,
                "policy": self.policy.hex,
                "madeOn": strict.show_time(self.made),
                "tscKHz": self.tsc_khz,
                "agent": self.hello.agent,
                "kernel": self.hello.kernel,
                "memory": self.memory.hex,
                "state": self.state.hex,
                "stateBytes": self.state_bytes,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a record. Raises MalformedError, a ValueError."""
        return strict.read(strict.parse_json(data), "template", cls._parse)

    @classmethod
    def _parse(cls, record: strict.Record) -> Self:
        return cls(
            key=record.digest("key"),
            manifest=record.digest("manifest"),
            image=record.text("image", limit=256),
            vcpus=record.integer("vcpus", 1, MOST_VCPUS),
            memory_mib=record.integer("memoryMiB", LEAST_MIB, MOST_MIB),
            network=record.flag("network"),
            images=record.integer("shareImages", 0, MOST_SHARES),
            data=record.flag("data"),
            boot=record.text("boot", _BOOT),
            machine=record.text("machine", _MACHINE),
            plan=record.digest("plan"),
            policy=record.digest("policy"),
            made=record.time("madeOn"),
            tsc_khz=record.integer("tscKHz", PLAUSIBLE.start, PLAUSIBLE.stop - 1),
            hello=Hello(PROTOCOL_VERSION, record.text("agent", limit=MAX_TEXT), record.text("kernel", limit=MAX_TEXT)),
            memory=record.digest("memory"),
            state=record.digest("state"),
            state_bytes=record.integer("stateBytes", 1, LARGEST_STATE),
        )
