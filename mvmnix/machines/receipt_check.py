"""Checks a machine's receipt: that its host signed it, that it tells what the log tells, and the files that it names.

Of its other digests nothing is kept that they could be compared with (docs/reference/machines.md).
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from mvmnix.audit.reading import SealedRecord
from mvmnix.audit.record import Record
from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.formats import strict
from mvmnix.keys import PublicKey, Role
from mvmnix.machines.diagnosis import MOST_BOOTS, diagnosis_file
from mvmnix.machines.ending import end_reason
from mvmnix.machines.network_log import has_network_log, kept_digest
from mvmnix.machines.receipt import NO_NETWORK, Receipt, from_statement
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.identity.trust import Signer, Trust
from mvmnix.provenance.verify.authentication import authenticate
from mvmnix.system.private_dirs import Directory

_WHAT: Final = "the receipt"
_HINT: Final = "keep both as evidence: one of them is not what the host wrote when the machine ended"
_NETWORK_LOG: Final = "network log"
_NOTHING: Final = Digest.of(b"")


def check_receipt(bundle: bytes, key: PublicKey, *, end: SealedRecord, start: SealedRecord | None) -> Receipt:
    """The receipt, once it is its host's and agrees with the log's records of the machine's start and end.

    1. The bundle's one signature is the host key's. 2. It is a statement with a receipt. 3. Machine, plan, policy and
    time are those of the end's record, how it ended, and the bundle's digest. 4. The start's record has the index that
    the receipt names, and the same machine, plan, policy, time, provenance, image and network. Raises RefusedError.
    """
    trust = Trust((Signer("host", key, frozenset({Role.HOST})),))
    authentic = authenticate(bundle, trust=trust, role=Role.HOST, what=_WHAT)  # 1
    receipt = from_statement(statement.parse(authentic.payload))  # 2
    if differing := [*differences(receipt, Digest.of(bundle), end, start)]:  # 3, 4
        raise RefusedError(*differing)
    return receipt


def differences(
    receipt: Receipt, digest: Digest, end: SealedRecord | None, start: SealedRecord | None
) -> Iterator[Reason]:
    """Compare a receipt with the log's records of the machine [log-mismatch].

    Args:
        receipt: What the bundle says.
        digest: Of the bundle.
        end: The record of the machine's end that has a receipt's digest; None where there is none to compare with.
        start: The record of its start; a receipt without one is a difference.
    """
    found = [*(() if end is None else _end(receipt, digest, end.record)), *_start(receipt, start)]
    yield from (Reason(ReasonCode.LOG_MISMATCH, _WHAT, why, _HINT) for why in found)


@dataclass(frozen=True, slots=True)
class FileComparison:
    """How the files of a machine differ from its receipt, and the names of those that are not kept any more."""

    reasons: tuple[Reason, ...]
    missing: tuple[str, ...]


def kept_files(directory: Directory) -> Mapping[str, Digest]:
    """The digests of what a machine's directory has of the files that receipts name. Raises MvmnixError, OSError."""
    found = {_NETWORK_LOG: kept_digest(directory)} if has_network_log(directory) else {}
    for name in map(diagnosis_file, range(1, MOST_BOOTS + 1)):
        with suppress(FileNotFoundError), os.fdopen(directory.open_file(name), "rb") as file:
            found[name] = Digest(hashlib.file_digest(file, "sha256").hexdigest())
    return found


def compare_files(receipt: Receipt, files: Mapping[str, Digest]) -> FileComparison:
    """Compare what is kept of a machine with its receipt [receipt-mismatch]."""
    observed = receipt.observed
    named = {one.file: one.digest for one in observed.diagnoses}
    if observed.network is not None and observed.network.log != _NOTHING:
        named[_NETWORK_LOG] = observed.network.log
    reasons = (
        Reason(
            ReasonCode.RECEIPT_MISMATCH,
            f"the {name} of the machine {observed.machine}",
            f"its digest is {digest}, by the receipt {named.get(name, 'there is none')}",
            _HINT,
        )
        for name, digest in files.items()
        if named.get(name) != digest
    )
    return FileComparison(tuple(reasons), tuple(name for name in named if name not in files))


def _end(receipt: Receipt, digest: Digest, record: Record) -> Iterator[str]:
    observed, status = receipt.observed, receipt.reported
    pairs = {
        "machine": (observed.machine, record.machine),
        "plan": (receipt.plan, record.plan),
        "policy": (receipt.policy, record.policy),
        "time of the end": (observed.ended, record.time),
        "reason of the end": (str(observed.reason), end_reason(record)),
        "exit code": (None if status is None else status.exit_code, record.exit_code),
        "digest": (digest, record.digests.get("receipt")),
    }
    yield from _differing("end", pairs)


def _start(receipt: Receipt, start: SealedRecord | None) -> Iterator[str]:
    if start is None:
        yield "there is no record of the machine's start"
        return
    record, observed = start.record, receipt.observed
    image = {subject.name.partition(".")[0]: subject.digest for subject in receipt.subjects}
    pairs = {
        "index": (observed.start_record, start.index),
        "machine": (observed.machine, record.machine),
        "plan": (receipt.plan, record.plan),
        "policy": (receipt.policy, record.policy),
        "time": (strict.show_time(observed.started), strict.show_time(record.time)),
        "provenance": (receipt.provenance, record.digests.get("provenance")),
        "image": (image, {name: record.digests.get(name) for name in image}),
        "snapshot": (observed.snapshot, record.digests.get("snapshot")),
        "network": (NO_NETWORK if observed.network is None else observed.network.rules, record.digests.get("network")),
    }
    yield from _differing("start", pairs)


def _differing(which: str, pairs: Mapping[str, tuple[object, object]]) -> Iterator[str]:
    for name, (told, logged) in pairs.items():
        if told != logged:
            yield f"{name}: the receipt says {told}, the record of the {which} {logged}"
