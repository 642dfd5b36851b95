"""The plan: what may run, from which image, with what means, until when; written and read as a statement; pure.

docs/plan.md describes the predicate, `urn:mvmnix:plan:1`.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Self

from mvmnix import strict
from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.launch.command_line import LONGEST
from mvmnix.model import Digest, DirectoryOrder, Image, Posture, User, Verb, Verity, Workload
from mvmnix.provenance.policy import Isolation
from mvmnix.provenance.slsa import Variation, subjects_of
from mvmnix.provenance.statement import Statement, Subject

PREDICATE_TYPE: Final = "urn:mvmnix:plan:1"
#: How long a plan may be used unless its author says otherwise.
LIFETIME: Final = timedelta(hours=24)

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_PATH: Final = r"/[^\x00\n]{0,4094}"
_UUID: Final = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NONCE: Final = r"[0-9a-f]{32}"
_VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]*"
_LONGEST_TIME: Final = 2**31 - 1


class Accelerator(StrEnum):
    """What has to execute the guest's instructions: whatever works, hardware virtualization, or QEMU's translator."""

    ANY = "any"
    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the machine may take to become ready, and the workload to end.

    `boot_seconds` are of the guest's processor time since its last sign of life, so that a busy host is not taken for a
    hung guest (launch/patience.py); `wall_seconds` are wall time.
    """

    boot_seconds: int = 120
    wall_seconds: int = 86_400

    def __post_init__(self) -> None:
        if not (0 < self.boot_seconds <= 3600 and 0 < self.wall_seconds <= _LONGEST_TIME):
            raise ValueError("a timeout is at least a second; booting takes an hour at most")


@dataclass(frozen=True, slots=True)
class Window:
    """When a plan may be used: from the first moment, up to but without the second; whole seconds, UTC."""

    not_before: datetime
    not_after: datetime

    def __post_init__(self) -> None:
        if self.not_before >= self.not_after:
            raise ValueError("the plan's validity ends before it begins")


@dataclass(frozen=True, slots=True)
class Plan:
    """What may run. Sizes in MiB where named so; `ports` are the guest's loopback ports that may be streamed.

    `policy` is the digest of the trust policy that the plan was made under, `provenance` that of the image's bundle;
    `variation` what a builder VM is made to show otherwise in a rebuild, None for every other machine.
    """

    subjects: tuple[Subject, ...]
    image: str
    verity: Verity
    command_line: str
    vcpus: int
    memory_mib: int
    scratch_mib: int
    workload: Workload
    timeouts: Timeouts
    posture: Posture
    verbs: frozenset[Verb]
    ports: tuple[int, ...]
    isolation: Isolation
    accelerator: Accelerator
    window: Window
    nonce: str
    policy: Digest
    provenance: Digest
    variation: Variation | None = None

    def __post_init__(self) -> None:
        if len(set(self.ports)) != len(self.ports):
            raise ValueError("a port stands there twice")
        if bool(self.ports) != (Verb.STREAM in self.verbs):
            raise ValueError("ports are named exactly when the verb stream is granted")
        if self.posture is Posture.SEALED and self.verbs:
            raise ValueError("a sealed guest grants no verb")
        if not self.workload.argv and Verb.EXEC not in self.verbs:
            raise ValueError("there is no command, and none can be sent later, for the verb exec is not granted")
        if self.variation is not None and self.variation.directory_order not in DirectoryOrder:
            raise ValueError(f"directories are listed in no order {self.variation.directory_order!r}")

    @classmethod
    def for_image(
        cls,
        image: Image,
        *,
        policy: Digest,
        provenance: Digest,
        now: datetime,
        lifetime: timedelta = LIFETIME,
        verbs: frozenset[Verb] = frozenset(),
        ports: tuple[int, ...] = (),
    ) -> Self:
        """A plan to run an image as its manifest says, from `now` on; `dataclasses.replace` changes what is to differ.

        It grants the verbs that are named here, whatever the image could do.
        """
        begin = now.astimezone(UTC).replace(microsecond=0)
        return cls(
            subjects=subjects_of(image.artifacts),
            image=image.name,
            verity=image.verity,
            command_line=image.command_line,
            vcpus=image.vcpus,
            memory_mib=image.memory_mib,
            scratch_mib=image.scratch_mib,
            workload=image.workload,
            timeouts=Timeouts(),
            posture=image.posture,
            verbs=verbs,
            ports=ports,
            isolation=Isolation.MICROVM,
            accelerator=Accelerator.ANY,
            window=Window(begin, begin + lifetime),
            nonce=secrets.token_hex(16),
            policy=policy,
            provenance=provenance,
        )


def to_statement(plan: Plan) -> Statement:
    """The statement that this may run."""
    return Statement(plan.subjects, PREDICATE_TYPE, _predicate(plan))


def from_statement(statement: Statement) -> Plan:
    """Read a plan. Raises RefusedError PLAN_MALFORMED with all problems at once; unknown fields are some."""
    try:
        return strict.read(statement.predicate, "plan", lambda record: _parse(record, statement.subjects))
    except strict.MalformedError as error:
        hint = "make the plan again with `mvm plan create`; docs/plan.md has the format"
        raise RefusedError(
            *(Reason(ReasonCode.PLAN_MALFORMED, "the plan", text, hint) for text in error.problems)
        ) from error


def _predicate(plan: Plan) -> Mapping[str, object]:
    return {
        "image": {
            "name": plan.image,
            "kernelCommandLine": plan.command_line,
            "verity": {
                "root": plan.verity.root.hex,
                "salt": plan.verity.salt.hex(),
                "uuid": plan.verity.uuid,
                "dataBlocks": plan.verity.data_blocks,
                "hashOffset": plan.verity.hash_offset,
            },
        },
        "resources": {"vcpus": plan.vcpus, "memoryMiB": plan.memory_mib, "scratchMiB": plan.scratch_mib},
        "workload": {
            "command": list(plan.workload.argv),
            "environment": dict(plan.workload.environment),
            "directory": plan.workload.directory,
            "user": {"uid": plan.workload.user.uid, "gid": plan.workload.user.gid},
        },
        "timeouts": {"bootSeconds": plan.timeouts.boot_seconds, "wallSeconds": plan.timeouts.wall_seconds},
        "access": {"posture": plan.posture, "verbs": sorted(plan.verbs), "ports": list(plan.ports)},
        "isolation": plan.isolation,
        "accelerator": plan.accelerator,
        "validity": {
            "notBefore": strict.show_time(plan.window.not_before),
            "notAfter": strict.show_time(plan.window.not_after),
        },
        "nonce": plan.nonce,
        "evidence": {"policy": plan.policy.hex, "provenance": plan.provenance.hex},
    } | ({} if plan.variation is None else {"variation": _shown(plan.variation)})


def _shown(variation: Variation) -> Mapping[str, object]:
    return {
        "hostname": variation.hostname,
        "clockOffsetSeconds": variation.clock_offset,
        "directoryOrder": variation.directory_order,
    }


def _parse(record: strict.Record, subjects: tuple[Subject, ...]) -> Plan:
    name, command_line, verity = record.child("image", _image)
    vcpus, memory, scratch = record.child("resources", _resources)
    posture, verbs, ports = record.child("access", _access)
    policy, provenance = record.child("evidence", lambda it: (it.digest("policy"), it.digest("provenance")))
    return Plan(
        subjects=subjects,
        image=name,
        verity=verity,
        command_line=command_line,
        vcpus=vcpus,
        memory_mib=memory,
        scratch_mib=scratch,
        workload=record.child("workload", _workload),
        timeouts=record.child("timeouts", _timeouts),
        posture=posture,
        verbs=verbs,
        ports=ports,
        isolation=record.choice("isolation", Isolation),
        accelerator=record.choice("accelerator", Accelerator),
        window=record.child("validity", lambda it: Window(it.time("notBefore"), it.time("notAfter"))),
        nonce=record.text("nonce", _NONCE),
        policy=policy,
        provenance=provenance,
        variation=record.child("variation", _variation) if record.has("variation") else None,
    )


def _image(record: strict.Record) -> tuple[str, str, Verity]:
    # launch/command_line.py says in a reason of its own what is wrong with a command line
    return (
        record.text("name", _NAME),
        record.text("kernelCommandLine", limit=4 * LONGEST),
        record.child("verity", _verity),
    )


def _verity(record: strict.Record) -> Verity:
    return Verity(
        root=record.digest("root"),
        salt=bytes.fromhex(record.text("salt", r"([0-9a-f]{2}){0,256}")),
        uuid=record.text("uuid", _UUID),
        data_blocks=record.integer("dataBlocks", 1, 2**40),
        hash_offset=record.integer("hashOffset", Verity.BLOCK, 2**52),
    )


def _resources(record: strict.Record) -> tuple[int, int, int]:
    return (
        record.integer("vcpus", 1, 64),
        record.integer("memoryMiB", 96, 2**20),
        record.integer("scratchMiB", 0, 2**20),
    )


def _workload(record: strict.Record) -> Workload:
    user = record.child("user", lambda it: User(it.integer("uid", 1, 2**32 - 2), it.integer("gid", 1, 2**32 - 2)))
    environment = record.child("environment", _environment)
    return Workload(record.texts("command", limit=1024), environment, record.text("directory", _PATH), user)


def _environment(record: strict.Record) -> Mapping[str, str]:
    for name in record.names():
        if not re.fullmatch(_VARIABLE, name):
            raise ValueError(f"{name[:80]!r} is not the name of a variable")
    return {name: record.text(name) for name in record.names()}


def _variation(record: strict.Record) -> Variation:
    return Variation(
        hostname=record.text("hostname", limit=64),
        clock_offset=record.integer("clockOffsetSeconds", -strict.MAX_INTEGER, strict.MAX_INTEGER),
        directory_order=record.choice("directoryOrder", DirectoryOrder),
    )


def _timeouts(record: strict.Record) -> Timeouts:
    return Timeouts(record.integer("bootSeconds", 1, 3600), record.integer("wallSeconds", 1, _LONGEST_TIME))


def _access(record: strict.Record) -> tuple[Posture, frozenset[Verb], tuple[int, ...]]:
    verbs = record.texts("verbs", "|".join(Verb), len(Verb))
    if list(verbs) != sorted(set(verbs)):
        raise ValueError("the verbs are not sorted, or one stands there twice")
    ports = record.integers("ports", 1, 65_535, 64)
    return record.choice("posture", Posture), frozenset(Verb(verb) for verb in verbs), ports
