"""The statement about a snapshot, `urn:mvmnix:snapshot:1`, and which plans' machines can have one; pure.

docs/reference/snapshots.md describes the predicate. The host signs it, about one file: the sealed one.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode
from mvmnix.formats import strict
from mvmnix.launch.agent.frames import MAX_TEXT, Hello
from mvmnix.machines.receipt import HostFile, additions_value, read_additions
from mvmnix.plan.backend import Backend
from mvmnix.plan.data_disk import MOST_MIB as MOST_DATA_MIB
from mvmnix.plan.fields import LEAST_MIB, MOST_MIB, MOST_VCPUS
from mvmnix.plan.kernel_command_line import LONGEST, Addition
from mvmnix.plan.plan import Accelerator, Plan
from mvmnix.plan.secret_reference import MOST_SECRETS
from mvmnix.provenance.bundle.statement import Statement, Subject, distinct, parse_subject, subject_value
from mvmnix.vmm.port import LARGEST_STATE
from mvmnix.vmm.tsc import PLAUSIBLE

PREDICATE_TYPE: Final = "urn:mvmnix:snapshot:1"
#: The one subject: the file with the guest's memory and the state of its devices.
SEALED_FILE: Final = "memory.sealed"
#: A snapshot's id, and that of a machine.
ID: Final = r"[0-9a-f]{12}"
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_BOOT: Final = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
#: Words of a hypervisor about what a guest sees, and what a guest says of itself: both in one line.
_WORDS: Final = r"[^\x00-\x1f\x7f]{1,1024}"
_LINE: Final = r"[^\x00-\x1f\x7f]*"
_VERSION: Final = r"[!-~]{1,256}"
_MOST_FILES: Final = 16
#: What a sealed stream holds (templates/sealed_stream.py), but for the state of devices and what precedes each block.
_MOST_SEALED_MIB: Final = 2**20 - 2**10
_MOST_PROGRAMS: Final = 64
#: What no two programs have in common.
_PROGRAMS: Final[Mapping[str, Callable[[HostFile], Hashable]]] = {"a program is listed twice": lambda it: it.path}


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotClaim:
    """What the host signs about a snapshot.

    `id` is the snapshot's own, `machine` that of the machine it was taken of; `parent` is the snapshot from which this
    machine was restored, "" for one that booted. `created` is in whole seconds. `plan` is the digest of the plan's
    bundle, `policy` that of the trust policy's bytes. `manifest`, `image` and `files` are the image's: files as the
    plan's subjects name them. `data_mib` is the size of its data disk, 0 without
    one. `command_line` is the plan's, `additions` are what the hypervisor added to it. `tsc_khz`
    is what the guest was told of its counter, `boot` the id of the host's boot. `programs` are the hypervisor, its
    firmware and what else it reads; `machine_type` and `processor` what the guest sees, in the hypervisor's words.
    `hello` is what the agent said. `runs` is whether the plan's command was started, `ended_with` whether the machine
    ended with the snapshot. `secrets` are the versions of those that the guest was told, in the plan's order
    (`Snapshots.secret_versions`). `state_bytes` is the size of the devices' state; `sealed` and `sealed_bytes` are of
    the sealed file, `key` is the digest of the wrapped key's file. `imported` is the digest of the bundle under which
    another host exported it, None for one that was taken here.
    """

    id: str
    created: datetime
    machine: str
    plan: Digest
    policy: Digest
    manifest: Digest
    image: str
    files: tuple[Subject, ...]
    vcpus: int
    memory_mib: int
    data_mib: int
    command_line: str
    additions: tuple[Addition, ...]
    tsc_khz: int
    boot: str
    programs: tuple[HostFile, ...]
    machine_type: str
    processor: str
    hello: Hello
    runs: bool
    ended_with: bool
    network: bool
    state_bytes: int
    sealed: Digest
    sealed_bytes: int
    key: Digest
    secrets: tuple[str, ...] = ()
    parent: str = ""
    imported: Digest | None = None


def unfit(plan: Plan) -> str:
    """Return why machines of a plan can have no snapshot, "" where they can.

    Whether a machine of a plan for any accelerator runs under KVM is known when it starts.
    """
    reasons = (
        (plan.backend is not Backend.QEMU, f"machines of the backend {plan.backend} can't be saved"),
        (plan.accelerator is Accelerator.KVM, "the plan demands KVM: that a machine can be saved there isn't tested"),
        (bool(plan.shares), "what a share had would be another one when the guest goes on"),
        (
            bool(plan.secrets) and not plan.snapshot_with_secrets,
            "the guest is told secrets, which its memory has, and the plan doesn't say that a snapshot may have them",
        ),
        (
            plan.data is not None and plan.memory_mib + plan.data.size_mib > _MOST_SEALED_MIB,
            f"memory and data disk are more than the {_MOST_SEALED_MIB} MiB that can be sealed",
        ),
        (bool(plan.ports), "streams to the guest's ports would be open when it goes on"),
    )
    return next((why for holds, why in reasons if holds), "")


def snapshot_statement(claim: SnapshotClaim) -> Statement:
    """Return the statement for the host key to sign. Raises ValueError for a claim that wouldn't be read as it is."""
    made = Statement((Subject(SEALED_FILE, claim.sealed),), PREDICATE_TYPE, _predicate(claim))
    try:
        read = strict.read(made.predicate, "snapshot", lambda record: _parse(record, claim.sealed))
    except strict.MalformedError as error:
        raise ValueError(f"not a claim about a snapshot: {error}") from error
    if read != claim:
        raise ValueError("the claim about a snapshot would be read as another one")
    return made


def from_statement(statement: Statement) -> SnapshotClaim:
    """Read a claim about a snapshot. Raises RefusedError STATEMENT_MALFORMED with all problems at once."""
    hint = "take the statement as mvm wrote it; docs/reference/snapshots.md has the format"
    try:
        return strict.read(
            statement.predicate, "snapshot", lambda record: _parse(record, _sealed_file(statement.subjects))
        )
    except strict.MalformedError as error:
        raise error.refused(ReasonCode.STATEMENT_MALFORMED, "the snapshot", hint) from error


def _sealed_file(subjects: tuple[Subject, ...]) -> Digest:
    match subjects:
        case (Subject(name=name, digest=digest),) if name == SEALED_FILE:
            return digest
        case _:
            raise ValueError(f"it is not about one file, {SEALED_FILE}")


def _predicate(claim: SnapshotClaim) -> Mapping[str, object]:
    return {
        "id": claim.id,
        "createdOn": strict.show_time(claim.created),
        "machine": claim.machine,
        "plan": claim.plan.hex,
        "policy": claim.policy.hex,
        "image": {
            "name": claim.image,
            "manifest": claim.manifest.hex,
            "files": [subject_value(subject) for subject in claim.files],
            "kernelCommandLine": claim.command_line,
        },
        "resources": {"vcpus": claim.vcpus, "memoryMiB": claim.memory_mib, "dataMiB": claim.data_mib},
        "kernelCommandLineAdditions": additions_value(claim.additions),
        "host": {
            "boot": claim.boot,
            "tscKHz": claim.tsc_khz,
            "programs": [program.value() for program in claim.programs],
            "machineType": claim.machine_type,
            "processor": claim.processor,
        },
        "guest": {
            "protocol": claim.hello.version,
            "agent": claim.hello.agent,
            "kernel": claim.hello.kernel,
            "commandStarted": claim.runs,
            "network": claim.network,
            "secrets": list(claim.secrets),
        },
        "machineEnded": claim.ended_with,
        "sealed": {
            "bytes": claim.sealed_bytes,
            "key": claim.key.hex,
            "stateBytes": claim.state_bytes,
        },
        **({"parent": claim.parent} if claim.parent else {}),
        **({"imported": claim.imported.hex} if claim.imported is not None else {}),
    }


def _parse(record: strict.Record, sealed: Digest) -> SnapshotClaim:
    image, manifest, files, command_line = record.child("image", _image)
    vcpus, memory_mib, data_mib = record.child("resources", _resources)
    boot, tsc_khz, programs, machine_type, processor = record.child("host", _host)
    hello, runs, network, secrets = record.child("guest", _guest)
    sealed_bytes, key, state_bytes = record.child("sealed", _sealed)
    return SnapshotClaim(
        id=record.text("id", ID),
        created=record.time("createdOn"),
        machine=record.text("machine", ID),
        plan=record.digest("plan"),
        policy=record.digest("policy"),
        manifest=manifest,
        image=image,
        files=files,
        vcpus=vcpus,
        memory_mib=memory_mib,
        data_mib=data_mib,
        command_line=command_line,
        additions=record.child("kernelCommandLineAdditions", read_additions),
        tsc_khz=tsc_khz,
        boot=boot,
        programs=programs,
        machine_type=machine_type,
        processor=processor,
        hello=hello,
        runs=runs,
        ended_with=record.flag("machineEnded"),
        network=network,
        state_bytes=state_bytes,
        sealed=sealed,
        sealed_bytes=sealed_bytes,
        key=key,
        secrets=secrets,
        parent=record.text("parent", ID) if record.has("parent") else "",
        imported=record.digest("imported") if record.has("imported") else None,
    )


def _image(record: strict.Record) -> tuple[str, Digest, tuple[Subject, ...], str]:
    return (
        record.text("name", _NAME),
        record.digest("manifest"),
        distinct(record.each("files", parse_subject, _MOST_FILES)),
        record.text("kernelCommandLine", _LINE, LONGEST),
    )


def _resources(record: strict.Record) -> tuple[int, int, int]:
    return (
        record.integer("vcpus", 1, MOST_VCPUS),
        record.integer("memoryMiB", LEAST_MIB, MOST_MIB),
        record.integer("dataMiB", 0, MOST_DATA_MIB),
    )


def _host(record: strict.Record) -> tuple[str, int, tuple[HostFile, ...], str, str]:
    return (
        record.text("boot", _BOOT),
        record.integer("tscKHz", PLAUSIBLE.start, PLAUSIBLE.stop - 1),
        record.each("programs", HostFile.read, _MOST_PROGRAMS, distinct=_PROGRAMS),
        record.text("machineType", _WORDS),
        record.text("processor", _WORDS),
    )


def _guest(record: strict.Record) -> tuple[Hello, bool, bool, tuple[str, ...]]:
    hello = Hello(
        record.integer("protocol", 0, 2**32 - 1),
        record.text("agent", _LINE, MAX_TEXT),
        record.text("kernel", _LINE, MAX_TEXT),
    )
    secrets = record.texts("secrets", _VERSION, MOST_SECRETS)
    return hello, record.flag("commandStarted"), record.flag("network"), secrets


def _sealed(record: strict.Record) -> tuple[int, Digest, int]:
    return (
        record.integer("bytes", 1, strict.MAX_INTEGER),
        record.digest("key"),
        record.integer("stateBytes", 1, LARGEST_STATE),
    )
