"""Checks a machine's receipt: that its host signed it, and that it tells what the log tells; pure."""

from collections.abc import Iterator, Mapping
from typing import Final

from mvmnix.audit.reading import SealedRecord
from mvmnix.audit.record import Record
from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.formats import strict
from mvmnix.keys import PublicKey, Role
from mvmnix.machines.ending import end_reason
from mvmnix.machines.receipt import Receipt, from_statement
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.identity.trust import Signer, Trust
from mvmnix.provenance.verify.authentication import authenticate

_WHAT: Final = "the receipt"
_HINT: Final = "keep both as evidence: one of them is not what the host wrote when the machine ended"


def check_receipt(bundle: bytes, key: PublicKey, *, end: SealedRecord, start: SealedRecord | None) -> Receipt:
    """The receipt, once it is its host's and agrees with the log's records of the machine's start and end.

    1. The bundle's one signature is the host key's. 2. It is a statement with a receipt. 3. Machine, plan, policy and
    time are those of the end's record, and how it ended. 4. The start's record has the index that the receipt names,
    and the same machine, plan, policy, time, provenance and image. Raises RefusedError.
    """
    trust = Trust((Signer("host", key, frozenset({Role.HOST})),))
    authentic = authenticate(bundle, trust=trust, role=Role.HOST, what=_WHAT)  # 1
    receipt = from_statement(statement.parse(authentic.payload))  # 2
    differing = [*_end(receipt, end.record), *_start(receipt, start)]  # 3, 4
    if differing:
        raise RefusedError(*(Reason(ReasonCode.LOG_MISMATCH, _WHAT, why, _HINT) for why in differing))
    return receipt


def _end(receipt: Receipt, record: Record) -> Iterator[str]:
    observed, status = receipt.observed, receipt.reported
    pairs = {
        "machine": (observed.machine, record.machine),
        "plan": (receipt.plan, record.plan),
        "policy": (receipt.policy, record.policy),
        "time of the end": (observed.ended, record.time),
        "reason of the end": (str(observed.reason), end_reason(record)),
        "exit code": (None if status is None else status.exit_code, record.exit_code),
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
    }
    yield from _differing("start", pairs)


def _differing(which: str, pairs: Mapping[str, tuple[object, object]]) -> Iterator[str]:
    for name, (told, logged) in pairs.items():
        if told != logged:
            yield f"{name}: the receipt says {told}, the record of the {which} {logged}"
