"""The receipt: what became of a machine, each field marked as seen by the host or told by the guest; pure.

A statement with the predicate `urn:mvmnix:receipt:1`, about the plan's subjects, for the host key to sign. What the
guest told is worth what the guest is worth; a hostile one may report any exit status it likes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode
from mvmnix.formats import strict
from mvmnix.machines.diagnosis import MOST_BOOTS, Diagnosis
from mvmnix.machines.ending import EndReason
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.plan.backend import Backend
from mvmnix.plan.kernel_command_line import LARGEST_ADDITION, Addition, BackendParameter
from mvmnix.plan.share import MOST_SHARES, Access, ShareKind
from mvmnix.provenance.bundle.statement import Statement, Subject
from mvmnix.provenance.isolation import Boundary, Isolation
from mvmnix.vmm.confinement import IsolationLayer
from mvmnix.vmm.port import Acceleration, Usage

PREDICATE_TYPE: Final = "urn:mvmnix:receipt:1"
#: The network's digest of a machine that has none, as the record of its start has it.
NO_NETWORK: Final = Digest.of(strict.canonical([]))
#: So many corrupted blocks are named one by one; the others are counted.
MOST_BLOCKS: Final = 1024

_PATH: Final = r"/[^\x00-\x1f\x7f]{0,4095}"
_MACHINE: Final = r"[a-z0-9][a-z0-9-]{0,63}"
_LAYER: Final = "|".join(IsolationLayer)
_LARGEST: Final = strict.MAX_INTEGER


@dataclass(frozen=True, slots=True)
class HostFile:
    """A program or firmware of the host that took part: where it lay, and its bytes."""

    path: str
    digest: Digest

    def value(self) -> Mapping[str, object]:
        """As it stands in a predicate."""
        return {"path": self.path, "sha256": self.digest.hex}

    @classmethod
    def read(cls, record: strict.Record) -> "HostFile":
        """As `value` wrote it. Raises ValueError."""
        return cls(record.text("path", _PATH), record.digest())


@dataclass(frozen=True, slots=True)
class Corruption:
    """Data blocks (4,096 bytes each) of the root filesystem that fit no hash: how many, and the first by number."""

    count: int
    first: tuple[int, ...]

    @classmethod
    def of(cls, blocks: tuple[int, ...]) -> "Corruption":
        """What `verity.find_corruption` found."""
        return cls(len(blocks), blocks[:MOST_BLOCKS])


@dataclass(frozen=True, slots=True)
class NetworkUse:
    """The digests of the plan's network and of what is kept of the machine's network log; the proxy as typed, or ""."""

    rules: Digest
    log: Digest
    proxy: str = ""

    def value(self) -> Mapping[str, object]:
        """As a receipt has it."""
        proxied = {"proxy": self.proxy} if self.proxy else {}
        return {"rules": self.rules.hex, "log": self.log.hex, **proxied}

    @classmethod
    def read(cls, record: strict.Record) -> "NetworkUse":
        """Raises MalformedError."""
        proxy = record.text("proxy") if record.has("proxy") else ""
        return cls(record.digest("rules"), record.digest("log"), proxy)


@dataclass(frozen=True, slots=True)
class ShareRecord:
    """A share as receipts have it: `program` served it or made its image, `digest` is that of the program's bytes."""

    guest: str
    access: Access
    kind: ShareKind
    program: str
    digest: Digest
    #: The image's, where the guest got one.
    image: Digest | None = None

    def value(self) -> Mapping[str, object]:
        """As it stands in the receipt."""
        program = {"path": self.program, "sha256": self.digest.hex}
        value = {"guest": self.guest, "access": self.access, "fileSystem": self.kind, "program": program}
        return value if self.image is None else {**value, "image": self.image.hex}

    @classmethod
    def read(cls, record: strict.Record) -> "ShareRecord":
        """As `value` wrote it. Raises ValueError."""
        program, digest = record.child("program", lambda it: (it.text("path", _PATH), it.digest()))
        image = record.digest("image") if record.has("image") else None
        kind = record.choice("fileSystem", ShareKind)
        return cls(record.text("guest", _PATH), record.choice("access", Access), kind, program, digest, image)


@dataclass(frozen=True, slots=True)
class Observed:
    """What the host saw. `ready` is None for a guest that never got so far; `start_record` the start's audit log index.

    `corruption` is None when not checked: after an orderly end the disk is not read again. `usage` is that of the
    hypervisor's process, None when the kernel didn't tell; `console_bytes` is what came over the console, kept or not;
    `shares` how the guest got the directories that the plan names. `diagnoses` are of the boots that made no progress,
    in their order; what stands beside them is of the last boot. `network` is None for a machine without one.
    """

    machine: str
    started: datetime
    ready: datetime | None
    ended: datetime
    accelerator: Acceleration
    hypervisor: HostFile
    firmware: tuple[HostFile, ...]
    additions: tuple[Addition, ...]
    reason: EndReason
    corruption: Corruption | None
    start_record: int
    usage: Usage | None = None
    console_bytes: int = 0
    backend: Backend = Backend.QEMU
    shares: tuple[ShareRecord, ...] = ()
    confinement: tuple[IsolationLayer, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    network: NetworkUse | None = None
    #: The machine that left the template from which this one started; None for one that booted.
    template: str | None = None
    #: The digest of the signed statement of the snapshot from which this one went on; None for another start.
    snapshot: Digest | None = None

    @property
    def start(self) -> str:
        """How its guest began: cold, warm or restored."""
        return "restored" if self.snapshot is not None else "cold" if self.template is None else "warm"

    @property
    def boundary(self) -> Boundary:
        """What held the guest."""
        return Boundary.CONTAINER if self.backend is Backend.CONTAINER else self.accelerator.boundary


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a plan: digests of its bundle, of the provenance's and of the policy, and both sides' word.

    `reported` is how the plan's command ended, as the guest told; None when it told nothing.
    """

    subjects: tuple[Subject, ...]
    plan: Digest
    provenance: Digest
    policy: Digest
    observed: Observed
    reported: ExitStatus | None


def receipt_statement(receipt: Receipt) -> Statement:
    """The statement for the host key to sign."""
    predicate = {
        "plan": receipt.plan.hex,
        "provenance": receipt.provenance.hex,
        "policy": receipt.policy.hex,
        "observedByHost": _observed_value(receipt.observed),
        "reportedByGuest": {} if receipt.reported is None else receipt.reported.value(),
    }
    return Statement(receipt.subjects, PREDICATE_TYPE, predicate)


def from_statement(statement: Statement) -> Receipt:
    """Read a receipt. Raises RefusedError STATEMENT_MALFORMED with all problems at once."""
    try:
        return strict.read(statement.predicate, "receipt", lambda record: _parse(record, statement.subjects))
    except strict.MalformedError as error:
        hint = "take the receipt as mvm wrote it"
        raise error.refused(ReasonCode.STATEMENT_MALFORMED, "the receipt", hint) from error


def additions_value(additions: tuple[Addition, ...]) -> Mapping[str, object]:
    """What a backend added to the kernel command line, as predicates have it."""
    return {added.parameter: added.value for added in additions}


def read_additions(record: strict.Record) -> tuple[Addition, ...]:
    """Read what `additions_value` wrote. Raises ValueError."""
    wanted = [name for name in BackendParameter if record.has(name)]
    return tuple(
        Addition(name, record.integer(name, 0, LARGEST_ADDITION) if name.word is None else record.text(name))
        for name in wanted
    )


def _observed_value(it: Observed) -> Mapping[str, object]:
    value: dict[str, object] = {
        "machine": it.machine,
        "startedOn": strict.show_time(it.started),
        "endedOn": strict.show_time(it.ended),
        "backend": it.backend,
        "isolation": it.backend.isolation,
        "boundary": it.boundary,
        "accelerator": it.accelerator,
        "hypervisor": it.hypervisor.value(),
        "firmware": [file.value() for file in it.firmware],
        "confinement": list(it.confinement),
        "kernelCommandLineAdditions": additions_value(it.additions),
        "endReason": it.reason,
        "startRecord": it.start_record,
        "consoleBytes": it.console_bytes,
    }
    if it.usage is not None:
        value["hypervisorUsage"] = {
            "userMilliseconds": it.usage.user_ms,
            "systemMilliseconds": it.usage.system_ms,
            "peakResidentKiB": it.usage.peak_kib,
        }
    if it.shares:
        value["shares"] = [share.value() for share in it.shares]
    if it.diagnoses:
        value["diagnoses"] = [one.value() for one in it.diagnoses]
    if it.network is not None:
        value["network"] = it.network.value()
    value["start"] = it.start
    if it.template is not None:
        value["template"] = it.template
    if it.snapshot is not None:
        value["snapshot"] = it.snapshot.hex
    if it.ready is not None:
        value["readyOn"] = strict.show_time(it.ready)
    if it.corruption is not None:
        value["corruptedBlocks"] = {"count": it.corruption.count, "first": list(it.corruption.first)}
    return value


def _parse(record: strict.Record, subjects: tuple[Subject, ...]) -> Receipt:
    return Receipt(
        subjects=subjects,
        plan=record.digest("plan"),
        provenance=record.digest("provenance"),
        policy=record.digest("policy"),
        observed=record.child("observedByHost", _observed),
        reported=record.child("reportedByGuest", lambda it: ExitStatus.read(it) if it.names() else None),
    )


def _observed(record: strict.Record) -> Observed:
    boundary = record.choice("boundary", Boundary)
    template, snapshot = _origin(record)
    found = Observed(
        machine=record.text("machine", _MACHINE),
        started=record.time("startedOn"),
        ready=record.time("readyOn") if record.has("readyOn") else None,
        ended=record.time("endedOn"),
        backend=_backend(record),
        accelerator=record.choice("accelerator", Acceleration),
        hypervisor=record.child("hypervisor", HostFile.read),
        firmware=record.each("firmware", HostFile.read, 16),
        confinement=tuple(IsolationLayer(name) for name in record.texts("confinement", _LAYER, len(IsolationLayer))),
        additions=record.child("kernelCommandLineAdditions", read_additions),
        reason=record.choice("endReason", EndReason),
        corruption=record.child("corruptedBlocks", _corruption) if record.has("corruptedBlocks") else None,
        start_record=record.integer("startRecord", 0, _LARGEST),
        usage=record.child("hypervisorUsage", _usage) if record.has("hypervisorUsage") else None,
        console_bytes=record.integer("consoleBytes", 0, _LARGEST),
        shares=record.each("shares", ShareRecord.read, MOST_SHARES) if record.has("shares") else (),
        diagnoses=record.each("diagnoses", Diagnosis.read, MOST_BOOTS) if record.has("diagnoses") else (),
        network=record.child("network", NetworkUse.read) if record.has("network") else None,
        template=template,
        snapshot=snapshot,
    )
    if boundary is not found.boundary:
        raise ValueError(f"its boundary is {str(boundary)!r}, and with that backend and accelerator it was another one")
    return found


def _origin(record: strict.Record) -> tuple[str | None, Digest | None]:
    """What the guest went on from, a template's machine or a snapshot; receipts of before there were any name none."""
    start = record.text("start", "cold|warm|restored") if record.has("start") else "cold"
    template = record.text("template", _MACHINE) if record.has("template") else None
    snapshot = record.digest("snapshot") if record.has("snapshot") else None
    if (start == "warm", start == "restored") != (template is not None, snapshot is not None):
        why = "a warm start names the machine that left its template, a restored one its snapshot, and no other does"
        raise ValueError(why)
    return template, snapshot


def _backend(record: strict.Record) -> Backend:
    backend, isolation = record.choice("backend", Backend), record.choice("isolation", Isolation)
    if isolation is not backend.isolation:
        raise ValueError(f"its isolation is {str(isolation)!r}, which the backend {backend} doesn't have")
    return backend


def _usage(record: strict.Record) -> Usage:
    names = ("userMilliseconds", "systemMilliseconds", "peakResidentKiB")
    return Usage(*(record.integer(name, 0, _LARGEST) for name in names))


def _corruption(record: strict.Record) -> Corruption:
    count, first = record.integer("count", 0, _LARGEST), record.integers("first", 0, _LARGEST, MOST_BLOCKS)
    if len(first) != min(count, MOST_BLOCKS):
        raise ValueError("the first blocks are not as many as they should be")
    return Corruption(count, first)
