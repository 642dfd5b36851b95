"""Draws a machine: its records in the audit log, its end, its receipt, and whether all of them tell the same; pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mvmnix.audit.merkle import leaf_hash
from mvmnix.audit.note import Checkpoint, NoteKey
from mvmnix.audit.reading import SealedRecord
from mvmnix.audit.record import Record, RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError
from mvmnix.evidence.build import Judge
from mvmnix.evidence.graph import Draft, EdgeKind, Node, NodeKind, Verdict, refused, unverified, verdict_of, verified
from mvmnix.evidence.plan_nodes import PLAN
from mvmnix.evidence.trust import POLICY, signing
from mvmnix.formats.strict import show_time
from mvmnix.keys import Role
from mvmnix.machines import receipt as receipts
from mvmnix.machines.ending import end_reason
from mvmnix.machines.receipt import Receipt
from mvmnix.machines.receipt_check import compare_files, differences
from mvmnix.machines.registry import MachineEntry
from mvmnix.plural import counted
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.verify.authentication import Authentic, authenticate

MACHINE: Final = "machine"
_WHAT: Final = "the receipt"
_LOG: Final = "log"
_HINT: Final = "find out who can write to mvm's state directory"

#: What something is, by the one and by the other.
type Pairs = list[tuple[str, Digest | str | None, Digest | str | None]]


@dataclass(frozen=True, slots=True)
class MachineRecords:
    """What a log that verified in full says of a machine: its checkpoint, the key, and the machine's own records.

    `tail` is how many bytes at the log's end no seal covers.
    """

    checkpoint: Checkpoint
    key: NoteKey
    records: tuple[SealedRecord, ...]
    tail: int = 0

    @property
    def end(self) -> Record | None:
        """The last record of its end: a process that tidies up after a lost supervisor may write a second one."""
        ends = (listed.record for listed in reversed(self.records) if listed.record.kind is RecordKind.END)
        return next(ends, None)

    @property
    def attested_end(self) -> SealedRecord | None:
        """The last record of its end that has a receipt's digest."""
        ends = (listed for listed in reversed(self.records) if listed.record.kind is RecordKind.END)
        return next((listed for listed in ends if "receipt" in listed.record.digests), None)

    def first(self, kind: RecordKind) -> SealedRecord | None:
        """The machine's first record of a kind."""
        return next((listed for listed in self.records if listed.record.kind is kind), None)


@dataclass(frozen=True, slots=True)
class StoredMachine:
    """A machine as it lies there: its status, the log or why it can't be trusted, its receipt's bytes, if any.

    `files` are the digests of the files that a receipt names.
    """

    entry: MachineEntry
    log: MachineRecords | MvmnixError
    receipt: bytes | MvmnixError | None
    files: Mapping[str, Digest] | MvmnixError

    @property
    def start(self) -> SealedRecord | None:
        """The start of it that the log seals."""
        return self.log.first(RecordKind.START) if isinstance(self.log, MachineRecords) else None

    @property
    def plan(self) -> Digest:
        """The plan that it was started from, by the log; without one, by its own directory, which proves nothing."""
        said = None if self.start is None else self.start.record.plan
        return said or self.entry.status.plan

    @property
    def build(self) -> tuple[Digest | None, Digest | None]:
        """The manifest and the provenance of the image that ran, likewise."""
        said, status = {} if self.start is None else self.start.record.digests, self.entry.status
        return said.get("manifest", status.manifest), said.get("provenance", status.provenance)


def add_machine(draft: Draft, stored: StoredMachine, judge: Judge) -> str:
    """Add a machine with its records and its receipt; returns its key."""
    draft.add(_machine(stored))
    draft.add_edges(PLAN, EdgeKind.RAN_AS, MACHINE)
    if isinstance(stored.log, MvmnixError):
        draft.add(Node(_LOG, NodeKind.LOG, "the host's audit log", verdict_of(stored.log)))
    else:
        _add_records(draft, stored.log)
    if stored.receipt is not None or not (stored.entry.alive or stored.entry.status.waits):
        draft.add(_receipt(stored, judge))
        draft.add_edges(MACHINE, EdgeKind.ATTESTED_BY, "receipt")
        draft.add_edges("receipt", EdgeKind.VERIFIED_UNDER, POLICY)
    return MACHINE


def _machine(stored: StoredMachine) -> Node:
    status = stored.entry.status
    name = f"{status.machine} ({status.name})"
    if not isinstance(stored.log, MachineRecords) or stored.start is None:
        facts = [("state", stored.entry.state), ("created", show_time(status.created))]
        return Node(MACHINE, NodeKind.MACHINE, name, _machine_verdict(stored), facts=tuple(facts))
    end = None if stored.entry.alive else stored.log.end
    facts = [
        ("state", stored.entry.state if end is None else "ended"),
        ("started", show_time(stored.start.record.time)),
    ]
    if end is not None:
        facts.append(("ended", f"{show_time(end.time)}, {', '.join(end.reasons) or 'in order'}"))
    if end is not None and end.exit_code is not None:
        facts.append(("exit code", f"{end.exit_code}, as the guest reported it"))
    return Node(MACHINE, NodeKind.MACHINE, name, _machine_verdict(stored), "", stored.log.key.name, tuple(facts))


def _machine_verdict(stored: StoredMachine) -> Verdict:
    """Nothing vouches for a machine's directory; the host vouches for the log."""
    if isinstance(stored.log, MvmnixError):
        return unverified("the audit log, which would vouch for it, does not verify")
    if stored.start is None:
        return unverified("the audit log has no start of it")
    if reasons := [*_against_the_log(stored, stored.start.record, stored.log.end)]:
        return refused(reasons)
    if not stored.entry.alive and stored.log.end is None:
        return unverified("it has ended, and the audit log has no end of it; `mvm ps` writes down lost ends")
    return verified("the sealed audit log has its start, from this plan and image, and its end if it has ended")


def _against_the_log(stored: StoredMachine, start: Record, end: Record | None) -> Iterator[Reason]:
    """What its directory says otherwise than the log."""
    status = stored.entry.status
    pairs: Pairs = [
        ("plan", status.plan, start.plan),
        ("policy", status.policy, start.policy),
        ("image", status.manifest, start.digests.get("manifest")),
        ("provenance", status.provenance, start.digests.get("provenance")),
        ("start", show_time(status.began), show_time(start.time)),
    ]
    if end is not None and status.reason is not None:
        pairs.append(("end", status.reason, end_reason(end)))
        ours, theirs = (None if code is None else str(code) for code in (status.exit_code, end.exit_code))
        pairs.append(("exit code", ours, theirs))
    yield from _contradictions("the machine's status", "the log", pairs)


def _contradictions(what: str, other: str, pairs: Pairs) -> Iterator[Reason]:
    for name, ours, theirs in pairs:
        if ours != theirs:
            why = f"its {name} is {ours or 'none'}, by {other} it is {theirs or 'none'}"
            yield Reason(ReasonCode.LOG_MISMATCH, what, why, _HINT)


def _add_records(draft: Draft, log: MachineRecords) -> None:
    size, root = log.checkpoint.size, str(log.checkpoint.root)
    facts = (("log", log.key.name),)
    if log.tail:
        left = "its records verify; a writer was interrupted, or something was added to it"
        verdict = unverified(f"no seal covers the last {log.tail} bytes: {left}")
    else:
        verdict = verified("every record was checked against the checkpoint that the host's key signed")
    draft.add(Node(_LOG, NodeKind.LOG, counted(size, "record"), verdict, root, log.key.name, facts))
    for listed in log.records:
        key = draft.add(_record(listed, log))
        draft.add_edges(key, EdgeKind.SEALED_BY, _LOG)
        match listed.record.kind:
            case RecordKind.START:
                draft.add_edges(MACHINE, EdgeKind.STARTED_IN, key)
            case RecordKind.END:
                draft.add_edges(MACHINE, EdgeKind.ENDED_IN, key)
            case RecordKind.ADMISSION:
                draft.add_edges(PLAN, EdgeKind.ADMITTED_IN, key)
            case _:
                draft.add_edges(MACHINE, EdgeKind.LOGGED_IN, key)


def _record(listed: SealedRecord, log: MachineRecords) -> Node:
    record, index = listed.record, listed.index
    facts = [("index", str(index)), ("time", show_time(record.time))]
    facts += [(name, str(digest)) for name, digest in (("plan", record.plan), ("policy", record.policy)) if digest]
    facts += [(name, str(digest)) for name, digest in sorted(record.digests.items())]
    facts += [("reasons", ", ".join(record.reasons))] if record.reasons else []
    facts += [("exit code", str(record.exit_code))] if record.exit_code is not None else []
    digest = str(Digest(leaf_hash(record.line).hex()))
    verdict = verified(f"it is leaf {index} of the tree whose root the checkpoint signs")
    name = f"{index}: {record.kind}"
    return Node(f"record/{index}", NodeKind.RECORD, name, verdict, digest, log.key.name, tuple(facts))


def _receipt(stored: StoredMachine, judge: Judge) -> Node:
    if stored.receipt is None:
        end = stored.log.end if isinstance(stored.log, MachineRecords) else None
        reason = "its supervisor was lost" if end is None else end_reason(end)
        why = unverified(f"there is none: {reason}")
        return Node("receipt", NodeKind.RECEIPT, "missing", why)
    if isinstance(stored.receipt, MvmnixError):
        return Node("receipt", NodeKind.RECEIPT, "unreadable", verdict_of(stored.receipt))
    digest = Digest.of(stored.receipt)
    try:
        authentic, found = _read(stored.receipt, judge)
    except RefusedError as error:
        verdict = _unknown_host(stored, error) or refused(error.reasons)
        return Node("receipt", NodeKind.RECEIPT, "not trusted", verdict, str(digest))
    facts = (*signing(authentic), *_observed(found))
    verdict = _receipt_verdict(stored, found, digest)
    seen = found.observed
    name = f"of {seen.machine}, start: {seen.start}"
    if seen.template is not None:
        name += f" (template of the machine {seen.template})"
    if seen.snapshot is not None:
        name += f" (snapshot {seen.snapshot})"
    return Node("receipt", NodeKind.RECEIPT, name, verdict, str(digest), authentic.signer.name, facts)


def _read(bundle: bytes, judge: Judge) -> tuple[Authentic, Receipt]:
    authentic = authenticate(bundle, trust=judge.policy.trust, role=Role.HOST, what=_WHAT)
    said = statement.parse(authentic.payload)
    if said.predicate_type != receipts.PREDICATE_TYPE:
        why = f"its predicate is {said.predicate_type!r}, not {receipts.PREDICATE_TYPE!r}"
        raise RefusedError(Reason(ReasonCode.PREDICATE_TYPE, _WHAT, why, "take the receipt as mvm wrote it"))
    return authentic, receipts.from_statement(said)


def _unknown_host(stored: StoredMachine, error: RefusedError) -> Verdict | None:
    """A receipt that the log vouches for, by a key that the policy doesn't know: strange, and not broken."""
    if set(error.codes) != {ReasonCode.SIGNER_UNKNOWN} or not isinstance(stored.log, MachineRecords):
        return None
    end = stored.log.attested_end
    if end is None or not isinstance(stored.receipt, bytes):
        return None
    if end.record.digests["receipt"] != Digest.of(stored.receipt):
        return None
    return unverified("the host's key is not in the trust policy; the audit log has the receipt's digest")


def _receipt_verdict(stored: StoredMachine, found: Receipt, digest: Digest) -> Verdict:
    files = {} if isinstance(stored.files, MvmnixError) else stored.files
    compared = compare_files(found, files)
    if reasons := [*_disagreements(stored, found, digest), *compared.reasons]:
        return refused(reasons)
    if isinstance(stored.files, MvmnixError):
        return verdict_of(stored.files)
    if isinstance(stored.log, MvmnixError):
        return unverified("a host of the policy signed it; the audit log, which would have its digest, does not verify")
    if stored.log.attested_end is None:
        return unverified("a host of the policy signed it; the audit log has no digest of it")
    if compared.missing:
        return unverified(f"a host of the policy signed it; not kept any more: {', '.join(compared.missing)}")
    return verified("signed by a host of the policy, and of one mind with the log and the files that it names")


def _disagreements(stored: StoredMachine, found: Receipt, digest: Digest) -> Iterator[Reason]:
    status, log = stored.entry.status, stored.log
    if found.observed.machine != status.machine:
        why = f"it is of the machine {found.observed.machine}, not of {status.machine}"
        yield Reason(ReasonCode.LOG_MISMATCH, _WHAT, why, _HINT)
    end = log.attested_end if isinstance(log, MachineRecords) else None
    if end is None and stored.start is None:
        pairs: Pairs = [
            ("plan", found.plan, status.plan),
            ("policy", found.policy, status.policy),
            ("provenance", found.provenance, status.provenance),
        ]
        yield from _contradictions(_WHAT, "the machine's status", pairs)
    else:
        yield from differences(found, digest, end, stored.start)


def _observed(found: Receipt) -> Iterator[tuple[str, str]]:
    seen = found.observed
    yield "started", show_time(seen.started)
    yield "ended", f"{show_time(seen.ended)}, {seen.reason}"
    yield "backend", seen.backend.logged
    yield "accelerator", str(seen.accelerator)
    yield "held by", seen.boundary.explained
    for file in (seen.hypervisor, *seen.firmware):
        yield "took part", f"{file.path} {file.digest}"
    for share in seen.shares:
        image = "" if share.image is None else f", image {share.image}"
        yield "shared", f"{share.guest}: by {share.program} {share.digest}{image}"
    for diagnosis in seen.diagnoses:
        yield "did not boot", f"{diagnosis.verdict}: {diagnosis.file} {diagnosis.digest}"
    if seen.network is not None:
        yield "network log", str(seen.network.log)
    if found.reported is not None:
        yield "the guest reported", str(found.reported)
    if seen.corruption is not None and seen.corruption.count:
        yield "corrupted blocks", str(seen.corruption.count)
