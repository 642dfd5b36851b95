"""What a receipt names is what is kept: each of its digests is compared with something, or listed here."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mvmnix.audit.reading import SealedRecord
from mvmnix.audit.record import Record, RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.formats.strict import canonical, parse_json
from mvmnix.keys import PrivateKey
from mvmnix.machines.diagnosis import Diagnosis, diagnosis_file
from mvmnix.machines.network_log import FIRST, NEWER, OLDER
from mvmnix.machines.receipt import NetworkUse, ShareRecord, receipt_statement
from mvmnix.machines.receipt_check import FileComparison, check_receipt, compare_files, differences, kept_files
from mvmnix.plan.share import Access, ShareKind
from mvmnix.provenance.bundle import envelope
from mvmnix.system.private_dirs import Directory
from mvmnix.vmm.boot_watchdog import StallReason
from tests.repository import ROOT
from tests.unit.machines.receipts import OBSERVED, RECEIPT

KEY = PrivateKey.generate()
DIGEST = Digest.of(b"bundle")
SNAPSHOT = Digest.of(b"snapshot")
NETWORK = NetworkUse(Digest.of(b"rules"), Digest.of(b"log"))
DIAGNOSES = tuple(Diagnosis(diagnosis_file(it), StallReason.STALLED, Digest.of(b"%d" % it)) for it in (1, 2))
SHARES = (
    ShareRecord("/out", Access.READ_WRITE, ShareKind.VIRTIOFS, "/usr/libexec/virtiofsd", Digest.of(b"virtiofsd")),
    ShareRecord(
        "/set", Access.READ_ONLY, ShareKind.EROFS, "/usr/bin/mkfs.erofs", Digest.of(b"mkfs"), Digest.of(b"image")
    ),
)
#: Has all that a receipt may have.
FULL = replace(
    RECEIPT, observed=replace(OBSERVED, network=NETWORK, diagnoses=DIAGNOSES, shares=SHARES, snapshot=SNAPSHOT)
)
FILES: Mapping[str, Digest] = {
    "network log": NETWORK.log,
    "diagnosis-1.txt": DIAGNOSES[0].digest,
    "diagnosis-2.txt": DIAGNOSES[1].digest,
}
#: Digests of what isn't kept: programs may have been upgraded since, and an image of a share is gone with its machine.
UNCOMPARED = {
    "predicate.observedByHost.hypervisor.sha256",
    "predicate.observedByHost.firmware.sha256",
    "predicate.observedByHost.shares.program.sha256",
    "predicate.observedByHost.shares.image",
}


def digests(value: Any, name: str = "") -> Iterator[str]:
    """The names of all digests of a statement; while one is given out, another is in its place."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in [*pairs]:
        below = f"{name}.{key}".lstrip(".") if isinstance(key, str) else name
        if isinstance(child, str) and re.fullmatch("[0-9a-f]{64}", child):
            value[key] = Digest.of(b"another").hex
            yield below
            value[key] = child
        else:
            yield from digests(child, below)


def records(digest: Digest) -> tuple[SealedRecord, SealedRecord]:
    """The log's records of the machine's end, with this digest of its receipt, and of its start."""
    about: dict[str, Any] = {"machine": OBSERVED.machine, "plan": RECEIPT.plan, "policy": RECEIPT.policy}
    image = {it.name.partition(".")[0]: it.digest for it in RECEIPT.subjects}
    named = {**image, "provenance": RECEIPT.provenance, "network": NETWORK.rules, "snapshot": SNAPSHOT}
    start = Record(kind=RecordKind.START, time=OBSERVED.started, digests=named, **about)
    end = Record(kind=RecordKind.END, time=OBSERVED.ended, digests={"receipt": digest}, exit_code=3, **about)
    return SealedRecord(18, end), SealedRecord(17, start)


def is_refused(statement: bytes) -> bool:
    """Whether a receipt of these bytes, signed by the host, is refused beside what the log and the machine have."""
    bundle = envelope.sign(statement, KEY).to_bytes()
    end, start = records(Digest.of(bundle))
    try:
        found = check_receipt(bundle, KEY.public, end=end, start=start)
    except RefusedError:
        return True
    return compare_files(found, FILES) != FileComparison((), ())


def test_the_log_tells_how_the_machine_ended() -> None:
    end, start = records(DIGEST)
    assert [*differences(FULL, DIGEST, end, start)] == []
    another = replace(end, record=replace(end.record, exit_code=4, reasons=("timeout",)))
    found = [reason.why.partition(":")[0] for reason in differences(FULL, DIGEST, another, start)]
    assert found == ["reason of the end", "exit code"]
    assert [*differences(FULL, DIGEST, None, start)] == [], "there is no end to compare with"


def test_a_receipt_needs_a_start() -> None:
    (reason,) = differences(FULL, DIGEST, records(DIGEST)[0], None)
    assert (reason.code, reason.why) == (ReasonCode.LOG_MISMATCH, "there is no record of the machine's start")


def test_each_digest_is_compared_with_something() -> None:
    value = parse_json(receipt_statement(FULL).to_bytes())
    assert not is_refused(canonical(value))
    found = {name: is_refused(canonical(value)) for name in digests(value)}
    assert {name for name, refused in found.items() if not refused} == UNCOMPARED
    assert len(found) == len(UNCOMPARED) + 8, "plan, provenance, policy, image, rules, network log, diagnoses, snapshot"


def test_what_is_not_compared_is_documented() -> None:
    text = (ROOT / "docs/reference/machines.md").read_text()
    for name in UNCOMPARED:
        assert f"`{name.removeprefix('predicate.observedByHost.').removesuffix('.sha256')}`" in text


def test_files_are_held_against_the_receipt() -> None:
    assert compare_files(FULL, FILES) == FileComparison((), ())
    assert compare_files(FULL, {}) == FileComparison((), ("diagnosis-1.txt", "diagnosis-2.txt", "network log"))
    (reason,) = compare_files(FULL, {**FILES, "network log": Digest.of(b"other")}).reasons
    assert (reason.code, reason.what) == (
        ReasonCode.RECEIPT_MISMATCH,
        f"the network log of the machine {OBSERVED.machine}",
    )
    (planted,) = compare_files(RECEIPT, {"network log": NETWORK.log}).reasons
    assert "by the receipt there is none" in planted.why


def test_a_network_that_was_not_used_has_no_log() -> None:
    unused = replace(OBSERVED, network=replace(NETWORK, log=Digest.of(b"")))
    assert compare_files(replace(RECEIPT, observed=unused), {}) == FileComparison((), ())


@pytest.mark.parametrize("name", [FIRST, OLDER, NEWER])
def test_each_file_of_the_network_log_counts(name: str, tmp_path: Path) -> None:
    with Directory.create(str(tmp_path / "machine")) as directory:
        assert kept_files(directory) == {}
        for each in (FIRST, OLDER, NEWER):
            directory.write_atomic(each, each.encode())
        directory.write_atomic("diagnosis-2.txt", b"2")
        found = kept_files(directory)
        assert found == {
            "network log": Digest.of((FIRST + OLDER + NEWER).encode()),
            "diagnosis-2.txt": DIAGNOSES[1].digest,
        }
        directory.write_atomic(name, b"x")
        assert kept_files(directory)["network log"] != found["network log"]
