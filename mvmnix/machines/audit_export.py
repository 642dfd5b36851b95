"""Writes a log, or what it says of one machine, with the evidence that it names into a directory; checks one like that.

What is checked here was written by its sender: nothing is trusted but the host's public key, and that only
if the reader knows whose it is.

    host.pub, checkpoint            the key, and the signed state of the log that all of this is proven by
    log/                            the log itself; or
    proofs/INDEX.tlog-proof         one proof for each record about the machine (mvmnix/audit/proof.py)
    evidence/SHA256.json            bundles that the records name: receipts, plans, provenances
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mvmnix.audit.note import MAX_NOTE, Checkpoint, NoteError, NoteKey
from mvmnix.audit.proof import MAX_PROOF, InclusionProof
from mvmnix.audit.reading import SealedRecord, leaf_hashes, records_backwards
from mvmnix.audit.record import RecordKind
from mvmnix.audit.segment import segment_name
from mvmnix.audit.tail import Head, hold_writers, is_begun, no_log, read_head, read_segment, segment_indices
from mvmnix.audit.verify import verify_log
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError, UsageError, refuse
from mvmnix.keys import PublicKey
from mvmnix.machines.receipt_check import check_receipt
from mvmnix.plural import counted
from mvmnix.provenance.bundle.envelope import BUNDLE_LIMIT
from mvmnix.system.private_dirs import Directory

#: Names in an export of the audit log (docs/reference/audit.md): the host's public key.
EXPORT_KEY: Final = "host.pub"
CHECKPOINT: Final = "checkpoint"
#: The directory of the log's records.
EXPORT_LOG: Final = "log"
PROOFS: Final = "proofs"
EVIDENCE: Final = "evidence"
_RECEIPT: Final = "receipt"
#: Digests of a record whose files are bundles; the others' are of an image's files, or of what is not written down.
_BUNDLES: Final = ("provenance", _RECEIPT)
_PROOF: Final = re.compile(r"(0|[1-9][0-9]{0,18})\.tlog-proof")
_FILE: Final = re.compile(r"([0-9a-f]{64})\.json")

#: Finds the bytes of a bundle by digest; None when they aren't kept.
type Find = Callable[[Digest], bytes | None]


@dataclass(frozen=True, slots=True)
class Archive:
    """What an archive was found to hold: the log's state, the records, how many receipts; all of it verified.

    `is_whole` says whether the records are the whole log. `missing` are bundles that records name, and that lack.
    """

    checkpoint: Checkpoint
    records: tuple[SealedRecord, ...]
    is_whole: bool
    receipts: int
    missing: tuple[Digest, ...]


def write_export(target: Directory, log: Directory, key: PublicKey, find: Find, machine: str = "") -> Archive:
    """Write into an empty directory, and check what was written. Raises UsageError when the log has no such machine."""
    note_key = NoteKey.of_log(key.raw)
    if not is_begun(log):
        raise no_log(log)
    with hold_writers(log):
        head = read_head(log, note_key)
    every = tuple(reversed(list(records_backwards(log, note_key))))[: head.checkpoint.size]
    records = every if not machine else _about(machine, every)
    if not records:
        raise UsageError(f"the log has no record about a machine {machine!r}", hint="mvm audit tail shows what it has")
    target.write_atomic(EXPORT_KEY, key.pem.encode())
    target.write_atomic(CHECKPOINT, head.checkpoint.note)
    if machine:
        _write_proofs(target, log, head, records)
    else:
        _write_log(target, log, head)
    with target.child(EVIDENCE) as evidence:
        for digest in dict.fromkeys(_named(records)):
            if (data := find(digest)) is not None:
                evidence.write_atomic(f"{digest.hex}.json", data)
    return check_export(target, key)


def is_export(directory: Directory) -> bool:
    """Whether a directory is one that `write_export` made, and not a log."""
    return directory.exists(CHECKPOINT) and (directory.exists(EXPORT_LOG) or directory.exists(PROOFS))


def check_export(directory: Directory, key: PublicKey) -> Archive:
    """Check an archive against its host's public key, and nothing else. Raises RefusedError.

    1. The checkpoint is signed by the key. 2. The log verifies in full and has exactly that state; or each record's
    proof leads to that very checkpoint. 3. Each file of evidence has the digest that its name says, and a record names
    it. 4. Each receipt is signed by the key, and tells what the records of its machine's start and end tell.
    """
    note_key = NoteKey.of_log(key.raw)
    note = directory.read(CHECKPOINT, MAX_NOTE)
    try:
        checkpoint = Checkpoint.verified(note, note_key)  # 1
    except NoteError as error:
        raise _mismatch(directory.where(CHECKPOINT), str(error)) from error
    is_whole = directory.exists(EXPORT_LOG)
    records = tuple((_logged if is_whole else _proven)(directory, note_key, checkpoint))  # 2
    found = _evidence(directory, records)  # 3
    receipts = 0
    for listed in records:
        if (digest := listed.record.digests.get(_RECEIPT)) in found:
            check_receipt(found[digest], key, end=listed, start=_start_of(listed, records))  # 4
            receipts += 1
    missing = tuple(digest for digest in dict.fromkeys(_named(records)) if digest not in found)
    return Archive(checkpoint, records, is_whole, receipts, missing)


def _about(machine: str, every: Sequence[SealedRecord]) -> tuple[SealedRecord, ...]:
    """The records that name the machine, and the admissions of its plan before its creation and its start."""
    found, admitted = dict[int, SealedRecord](), dict[Digest | None, SealedRecord]()
    for listed in every:
        record = listed.record
        if record.kind is RecordKind.ADMISSION:
            admitted[record.plan] = listed
        if record.machine == machine:
            found[listed.index] = listed
            if (
                record.kind in {RecordKind.CREATION, RecordKind.START}
                and (admission := admitted.get(record.plan)) is not None
            ):
                found[admission.index] = admission
    return tuple(found[index] for index in sorted(found))


def _named(records: Sequence[SealedRecord]) -> Iterator[Digest]:
    for listed in records:
        record = listed.record
        if record.plan is not None and record.kind is not RecordKind.REFUSAL:
            yield record.plan
        yield from (record.digests[name] for name in _BUNDLES if name in record.digests)


def _write_log(target: Directory, log: Directory, head: Head) -> None:
    with target.child(EXPORT_LOG) as copy:
        for first in segment_indices(log):
            if first < head.segment.first:
                copy.write_atomic(segment_name(first), read_segment(log, first).data)
        copy.write_atomic(segment_name(head.segment.first), head.whole.data)


def _write_proofs(target: Directory, log: Directory, head: Head, records: Sequence[SealedRecord]) -> None:
    leaves = leaf_hashes(log, head)
    with target.child(PROOFS) as proofs:
        for listed in records:
            proof = InclusionProof.make(leaves, listed.index, listed.record.line, head.checkpoint.note)
            proofs.write_atomic(f"{listed.index}.tlog-proof", proof.text)


def _logged(directory: Directory, key: NoteKey, checkpoint: Checkpoint) -> list[SealedRecord]:
    with directory.existing(EXPORT_LOG) as log:
        evidence = verify_log(log, key, checkpoint.note)
        if evidence.checkpoint != checkpoint or evidence.tail:
            raise _mismatch(
                log.path, f"it has {counted(evidence.checkpoint.size, 'record')}, the checkpoint {checkpoint.size}"
            )
        return list(reversed(list(records_backwards(log, key))))


def _proven(directory: Directory, key: NoteKey, checkpoint: Checkpoint) -> Iterator[SealedRecord]:
    with directory.existing(PROOFS) as proofs:
        for index, name in sorted((_index(proofs, name), name) for name in proofs.names()):
            proof = InclusionProof.parse(proofs.read(name, MAX_PROOF))
            if (proof.index, proof.note) != (index, checkpoint.note):
                raise _mismatch(proofs.where(name), "it is for another record, or another checkpoint")
            yield proof.verified(key).listed


def _index(proofs: Directory, name: str) -> int:
    match = _PROOF.fullmatch(name)
    if match is None:
        raise _mismatch(proofs.where(name), "it is not a proof of a record")
    return int(match[1])


def _evidence(directory: Directory, records: Sequence[SealedRecord]) -> dict[Digest, bytes]:
    named, found = set(_named(records)), {}
    with directory.existing(EVIDENCE) as evidence:
        for name in evidence.names():
            data, match = evidence.read(name, BUNDLE_LIMIT), _FILE.fullmatch(name)
            digest = Digest.of(data)
            if match is None or match[1] != digest.hex:
                raise _mismatch(evidence.where(name), f"its name is not its digest, {digest}")
            if digest not in named:
                raise _mismatch(evidence.where(name), "no record names it")
            found[digest] = data
    return found


def _start_of(end: SealedRecord, records: Sequence[SealedRecord]) -> SealedRecord | None:
    """The record of the start of the machine whose end this is."""
    starts = (each for each in records if each.record.kind is RecordKind.START and each.index < end.index)
    return next((start for start in starts if start.record.machine == end.record.machine), None)


def _mismatch(what: str, why: str) -> RefusedError:
    return refuse(ReasonCode.LOG_MISMATCH, what, why, "ask the sender of the archive for another one")
