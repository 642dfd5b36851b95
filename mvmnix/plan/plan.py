"""The plan: what may run, from which image, with what means, until when; written and read as a statement; pure.

docs/reference/plan.md describes the predicate, `urn:mvmnix:plan:1`.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Self

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError, UsageError
from mvmnix.formats import strict
from mvmnix.model import DirectoryOrder, Image, Posture, Verb, Verity, Workload
from mvmnix.plan import data_disk as disks
from mvmnix.plan import fields, labels
from mvmnix.plan import network as networking
from mvmnix.plan import secret_reference as references
from mvmnix.plan import share as sharing
from mvmnix.plan.backend import Backend
from mvmnix.plan.data_disk import DataDisk
from mvmnix.plan.labels import NO_LABELS, Labels
from mvmnix.plan.limits import NO_LIMITS, PlanLimits
from mvmnix.plan.network import Network
from mvmnix.plan.secret_reference import SecretReference, SecretTarget
from mvmnix.plan.share import MOST_SHARES, Share
from mvmnix.provenance.bundle.statement import Statement, Subject
from mvmnix.provenance.isolation import Boundary, Isolation
from mvmnix.provenance.slsa.provenance import Variation, subjects_of


class Use(StrEnum):
    """How often a plan starts a machine within its window: once, or at every request; or once to leave a template.

    A template's machine is saved before its guest is told anything, and other machines start from that. Those of a pool
    start at every request, and wait for what another plan tells them. So such plans have nothing to tell.

    Every plan says it. A version that didn't know the word would take a plan for once as one for always, and a plan
    without it could mean either; so both are refused.
    """

    ONCE = "once"
    WITHIN_WINDOW = "within-window"
    TEMPLATE = "template"
    POOL = "pool"

    @property
    def is_single(self) -> bool:
        """Whether a plan starts one machine at most."""
        return self in {Use.ONCE, Use.TEMPLATE}

    @property
    def is_untold(self) -> bool:
        """Whether the guests of its machines are told nothing under it."""
        return self in {Use.TEMPLATE, Use.POOL}


class Start(StrEnum):
    """From what a machine may start: from a template, where one is kept, or by a boot alone.

    Machines of one template share what their kernel drew while it booted (docs/reference/warm-starts.md).
    """

    ANY = "any"
    COLD = "cold"


@dataclass(frozen=True, slots=True)
class Placeholders:
    """Disks of a template's machine that stand for those of the machines that are to start from it.

    `shares` is the number of images of shares, `data` whether there is a data disk. Raises ValueError.
    """

    shares: int = 0
    data: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.shares <= MOST_SHARES:
            raise ValueError(f"a machine has up to {MOST_SHARES} shares, not {self.shares}")

    def shown(self) -> Mapping[str, object]:
        """As it stands in a plan's predicate."""
        return {"shares": self.shares, "data": self.data}

    @classmethod
    def read(cls, record: strict.Record) -> Self:
        """The field `placeholders` of a plan's predicate. Raises ValueError."""
        return cls(record.integer("shares", 0, MOST_SHARES), record.flag("data"))


NO_PLACEHOLDERS: Final = Placeholders()


@dataclass(frozen=True, slots=True)
class Window:
    """When a plan may be used: from the first moment, up to but without the second; whole seconds, UTC."""

    not_before: datetime
    not_after: datetime

    def __post_init__(self) -> None:
        if self.not_before >= self.not_after:
            raise ValueError("the plan's validity ends before it begins")


PREDICATE_TYPE: Final = "urn:mvmnix:plan:1"
#: How long a plan may be used unless its author says otherwise.
LIFETIME: Final = timedelta(hours=24)

_NONCE: Final = r"[0-9a-f]{32}"
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
    hung guest (vmm/boot_watchdog.py); `wall_seconds` are wall time.
    """

    boot_seconds: int = 120
    wall_seconds: int = 86_400

    def __post_init__(self) -> None:
        if not (0 < self.boot_seconds <= 3600 and 0 < self.wall_seconds <= _LONGEST_TIME):
            raise ValueError("a timeout is at least a second; booting takes an hour at most")


@dataclass(frozen=True, slots=True)
class Plan:
    """What may run. Sizes in MiB where named so; `ports` are the guest's loopback ports that may be streamed.

    `policy` is the digest of the trust policy that the plan was made under, `provenance` that of the image's bundle;
    `variation` what a builder VM is made to show otherwise in a rebuild, None for every other machine; `secrets` what
    the guest is told in confidence, by reference; `shares` which directories of the host it is given; `data` a disk
    that it may write, and that ends with it; `network` what it may reach, None for a guest without a network device;
    `start` whether it may start from a template; `placeholders` which disks the machine of a template has;
    `snapshot_with_secrets` whether snapshots may be taken of a guest that was told the secrets.
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
    use: Use
    nonce: str
    policy: Digest
    provenance: Digest
    variation: Variation | None = None
    secrets: tuple[SecretReference, ...] = ()
    backend: Backend = Backend.QEMU
    labels: Labels = field(default_factory=lambda: NO_LABELS)
    shares: tuple[Share, ...] = ()
    limits: PlanLimits = NO_LIMITS
    data: DataDisk | None = None
    network: Network | None = None
    start: Start = Start.ANY
    placeholders: Placeholders = NO_PLACEHOLDERS
    snapshot_with_secrets: bool = False

    def __post_init__(self) -> None:
        references.check(self.secrets, self.workload.environment)
        labels.check(self.labels)
        sharing.check(self.shares, self.backend)
        disks.check(self.data, self.shares, self.backend)
        networking.check(self.network, self.backend)
        if len(set(self.ports)) != len(self.ports):
            raise ValueError("a port is listed twice")
        if bool(self.ports) != (Verb.STREAM in self.verbs):
            raise ValueError("ports are named exactly when the verb stream is granted")
        if self.posture is Posture.SEALED and self.verbs:
            raise ValueError("a sealed guest grants no verb")
        if self.use.is_untold and (told := self._told()):
            raise ValueError(f"the guest of a {self.use} is told nothing, and the plan names {told[0]}")
        if self.use is not Use.TEMPLATE and self.placeholders != NO_PLACEHOLDERS:
            raise ValueError("only the machine of a template has disks that stand for others")
        if self.snapshot_with_secrets and not (self.secrets and Verb.SNAPSHOT in self.verbs):
            raise ValueError("snapshots with secrets are for a plan that names secrets and grants the verb snapshot")
        if not self.workload.argv and Verb.EXEC not in self.verbs and not self.use.is_untold:
            raise ValueError("there is no command, and none can be sent later, for the verb exec is not granted")
        if self.limits.shared_kib is not None and not any(it.writable for it in self.shares):
            raise ValueError("sharedKiB bounds what the guest writes to its shares, and it may write to none")
        if self.variation is not None and self.variation.directory_order not in DirectoryOrder:
            raise ValueError(f"directories are listed in no order {self.variation.directory_order!r}")
        self.backend.check(self.isolation, self.accelerator)

    def _told(self) -> list[str]:
        """What of it a guest is told, or given beside its image."""
        given = {
            "a command": self.workload.argv,
            "variables": self.workload.environment,
            "verbs": self.verbs,
            "secrets": self.secrets,
            "shares": self.shares,
            "a data disk": self.data,
            "a network that lets anything through": self.network is not None and not self.network.is_closed,
            "a variation": self.variation,
        }
        return [name for name, value in given.items() if value]

    @property
    def manifest(self) -> Digest | None:
        """The digest of the manifest of the image that it is for; None where it names none."""
        return next((it.digest for it in self.subjects if it.name == "manifest.json"), None)

    @property
    def has_devices(self) -> bool:
        """Whether its machine has more than the root's disk: a network, shares or a data disk."""
        return self.network is not None or bool(self.shares) or self.data is not None

    @property
    def boundaries(self) -> tuple[Boundary, ...]:
        """What may hold what it starts: which of them does is known when a machine starts."""
        if self.backend is Backend.CONTAINER:
            return (Boundary.CONTAINER,)
        translated = () if self.accelerator is Accelerator.KVM or self.backend.needs_kvm else (Boundary.SANDBOX,)
        return translated if self.accelerator is Accelerator.TCG else (Boundary.HARDWARE, *translated)

    @classmethod
    def for_image(
        cls,
        image: Image,
        *,
        policy: Digest,
        provenance: Digest,
        now: datetime,
        lifetime: timedelta = LIFETIME,
        use: Use = Use.WITHIN_WINDOW,
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
            use=use,
            nonce=secrets.token_hex(16),
            policy=policy,
            provenance=provenance,
        )


def check_terminal(backend: Backend, secrets: Sequence[SecretReference]) -> None:
    """Raises UsageError where a plan for this backend, with these secrets, can't give its command a terminal."""
    if backend is Backend.CONTAINER:
        raise UsageError("a container gets no terminal", hint="leave out -t, or plan for the backend qemu")
    if any(it.target is SecretTarget.VARIABLE for it in secrets):
        why = "a command in a terminal is sent to the guest, and none that is sent gets secrets as variables"
        raise UsageError(why, hint="--secret makes a file of each instead; or leave out -t")


def plan_statement(plan: Plan) -> Statement:
    """The statement that this may run."""
    return Statement(plan.subjects, PREDICATE_TYPE, _predicate(plan))


def from_statement(statement: Statement) -> Plan:
    """Read a plan. Raises RefusedError PLAN_MALFORMED with all problems at once; unknown fields are some."""
    try:
        return strict.read(statement.predicate, "plan", lambda record: _parse(record, statement.subjects))
    except strict.MalformedError as error:
        hint = "make the plan again with `mvm plan create`; docs/reference/plan.md has the format"
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
        "backend": plan.backend,
        "accelerator": plan.accelerator,
        "validity": {
            "notBefore": strict.show_time(plan.window.not_before),
            "notAfter": strict.show_time(plan.window.not_after),
        },
        "use": plan.use,
        "nonce": plan.nonce,
        "evidence": {"policy": plan.policy.hex, "provenance": plan.provenance.hex},
    } | _optional(plan)


def _optional(plan: Plan) -> dict[str, object]:
    """What stands there only where there is some."""
    shown = {"variation": plan.variation.shown()} if plan.variation is not None else {}
    confided = {"secrets": references.to_json(plan.secrets)} if plan.secrets else {}
    shared = {"shares": sharing.to_json(plan.shares)} if plan.shares else {}
    limited = {"limits": plan.limits.shown()} if plan.limits != NO_LIMITS else {}
    stored = {"data": plan.data.shown()} if plan.data is not None else {}
    labelled = {"labels": dict(plan.labels)} if plan.labels else {}
    networked = {"network": networking.to_json(plan.network)} if plan.network is not None else {}
    booted = {"start": plan.start} if plan.start is not Start.ANY else {}
    replaced = {"placeholders": plan.placeholders.shown()} if plan.placeholders != NO_PLACEHOLDERS else {}
    saved = {"snapshotWithSecrets": True} if plan.snapshot_with_secrets else {}
    return {**shown, **confided, **shared, **limited, **stored, **labelled, **networked, **booted, **replaced, **saved}


def _parse(record: strict.Record, subjects: tuple[Subject, ...]) -> Plan:
    name, command_line, verity = record.child("image", fields.image)
    vcpus, memory, scratch = record.child("resources", fields.resources)
    posture, verbs, ports = record.child("access", fields.access)
    policy, provenance = record.child("evidence", lambda it: (it.digest("policy"), it.digest("provenance")))
    return Plan(
        subjects=subjects,
        image=name,
        verity=verity,
        command_line=command_line,
        vcpus=vcpus,
        memory_mib=memory,
        scratch_mib=scratch,
        workload=record.child("workload", fields.workload),
        timeouts=record.child("timeouts", _timeouts),
        posture=posture,
        verbs=verbs,
        ports=ports,
        isolation=record.choice("isolation", Isolation),
        accelerator=record.choice("accelerator", Accelerator),
        window=record.child("validity", lambda it: Window(it.time("notBefore"), it.time("notAfter"))),
        use=record.choice("use", Use),
        nonce=record.text("nonce", _NONCE),
        policy=policy,
        provenance=provenance,
        variation=record.child("variation", _variation) if record.has("variation") else None,
        secrets=references.from_record(record),
        backend=record.choice("backend", Backend),
        labels=record.child("labels", labels.read) if record.has("labels") else NO_LABELS,
        shares=sharing.from_record(record),
        limits=record.child("limits", PlanLimits.read) if record.has("limits") else NO_LIMITS,
        data=record.child("data", DataDisk.read) if record.has("data") else None,
        network=record.child("network", networking.from_record) if record.has("network") else None,
        start=record.choice("start", Start) if record.has("start") else Start.ANY,
        placeholders=record.child("placeholders", Placeholders.read) if record.has("placeholders") else NO_PLACEHOLDERS,
        snapshot_with_secrets=record.has("snapshotWithSecrets") and record.flag("snapshotWithSecrets"),
    )


def _timeouts(record: strict.Record) -> Timeouts:
    return Timeouts(record.integer("bootSeconds", 1, 3600), record.integer("wallSeconds", 1, _LONGEST_TIME))


def _variation(record: strict.Record) -> Variation:
    """As `Variation.shown` wrote it. Raises ValueError."""
    return Variation(
        hostname=record.text("hostname", limit=64),
        clock_offset=record.integer("clockOffsetSeconds", -strict.MAX_INTEGER, strict.MAX_INTEGER),
        directory_order=record.choice("directoryOrder", DirectoryOrder),
    )
