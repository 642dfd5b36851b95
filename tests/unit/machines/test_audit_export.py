"""An exported log: whoever changes, drops or plants something in it is found with the host's public key alone."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from mvmnix.audit.log import AuditLog
from mvmnix.audit.note import Signer
from mvmnix.audit.reading import SealedRecord
from mvmnix.audit.record import Record, RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError, UnreadableError, UsageError
from mvmnix.keys import PrivateKey
from mvmnix.machines import audit_export
from mvmnix.machines.ending import EndReason
from mvmnix.machines.receipt import NO_NETWORK, NetworkUse, Receipt, receipt_statement
from mvmnix.machines.receipt_check import check_receipt
from mvmnix.provenance.bundle import envelope
from mvmnix.system.private_dirs import Directory
from tests.unit.machines.receipts import OBSERVED, RECEIPT
from tests.unit.provenance.world import NOW

KEY = PrivateKey.generate()
PLAN = b'{"plan":1}'
MACHINES = ("0123456789aa", "0123456789ab")


@dataclass
class Site:
    """A host's log of two machines, the evidence that is kept beside it, and a place for exports."""

    path: Path
    kept: dict[Digest, bytes]

    @property
    def log(self) -> Directory:
        return Directory.create(str(self.path / "audit"))

    def find(self, digest: Digest) -> bytes | None:
        return self.kept.get(digest)

    def export(self, machine: str = "") -> Path:
        target = self.path / f"export-{machine}"
        with Directory.create(str(target)) as directory, self.log as log:
            audit_export.write_export(directory, log, KEY.public, self.find, machine)
        return target


def receipt_of(machine: str, start_record: int) -> Receipt:
    observed = replace(OBSERVED, machine=machine, start_record=start_record, ended=NOW + timedelta(seconds=9))
    return replace(RECEIPT, plan=Digest.of(PLAN), observed=observed)


def start_of(machine: str) -> Record:
    digests = {subject.name: subject.digest for subject in RECEIPT.subjects} | {
        "provenance": RECEIPT.provenance,
        "network": NO_NETWORK,
    }
    plan, policy = Digest.of(PLAN), RECEIPT.policy
    return Record(kind=RecordKind.START, time=NOW, machine=machine, plan=plan, policy=policy, digests=digests)


def end_of(machine: str, receipt: Digest) -> Record:
    return Record(
        kind=RecordKind.END,
        time=NOW + timedelta(seconds=9),
        machine=machine,
        plan=Digest.of(PLAN),
        policy=RECEIPT.policy,
        digests={"receipt": receipt},
        exit_code=3,
    )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    here = Site(tmp_path, {Digest.of(PLAN): PLAN})
    with here.log as directory:
        log = AuditLog(directory, Signer.of_log(KEY.public.raw, KEY.sign))
        for machine in MACHINES:
            log.append(Record(kind=RecordKind.ADMISSION, time=NOW, plan=Digest.of(PLAN), policy=RECEIPT.policy))
            index = log.append(start_of(machine)).index
            bundle = envelope.sign(receipt_statement(receipt_of(machine, index)).to_bytes(), KEY).to_bytes()
            here.kept[Digest.of(bundle)] = bundle
            log.append(end_of(machine, Digest.of(bundle)))
        log.append(Record(kind=RecordKind.REFUSAL, time=NOW, plan=Digest.of(b"refused"), reasons=("unsigned",)))
    return here


def check(path: Path) -> audit_export.Archive:
    with Directory.open(str(path)) as directory:
        assert audit_export.is_export(directory)
        return audit_export.check_export(directory, KEY.public)


def test_a_whole_log(site: Site) -> None:
    found = check(site.export())
    assert (found.is_whole, len(found.records), found.receipts) == (True, 7, 2)
    assert found.missing == (RECEIPT.provenance,), "which nobody kept"


def test_one_machine(site: Site) -> None:
    found = check(site.export(MACHINES[1]))
    assert [listed.index for listed in found.records] == [3, 4, 5]
    assert (found.is_whole, found.receipts, found.checkpoint.size) == (False, 1, 7)
    names = sorted(path.name for path in (site.path / f"export-{MACHINES[1]}/evidence").iterdir())
    assert len(names) == 2, "its plan and its receipt"


def test_a_machine_that_was_created_and_started_later(site: Site) -> None:
    """Its plan was admitted for both."""
    machine = "0123456789ac"
    with site.log as directory:
        log = AuditLog(directory, Signer.of_log(KEY.public.raw, KEY.sign))
        admission = Record(kind=RecordKind.ADMISSION, time=NOW, plan=Digest.of(PLAN), policy=RECEIPT.policy)
        creation = replace(start_of(machine), kind=RecordKind.CREATION)
        for record in (admission, creation, admission, start_of(machine), admission):
            log.append(record)
    found = check(site.export(machine))
    assert [listed.index for listed in found.records] == [7, 8, 9, 10]


def test_a_log_is_no_archive(site: Site) -> None:
    with site.log as log:
        assert not audit_export.is_export(log)


def test_no_machine_and_no_log(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no record about a machine"):
        site.export("000000000000")
    with (
        Directory.create(str(tmp_path / "none")) as empty,
        Directory.create(str(tmp_path / "to")) as target,
        pytest.raises(UnreadableError, match="holds no audit log"),
    ):
        audit_export.write_export(target, empty, KEY.public, site.find)


def only(path: Path, pattern: str) -> Path:
    return min(path.glob(pattern))


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes().rstrip(b" "))
    data[position] ^= 1
    path.write_bytes(data)


def plant(path: Path, name: str, data: bytes) -> None:
    (path / name).write_bytes(data)
    (path / name).chmod(0o600)


PLANTED = b"{}"
COMMON: dict[str, Callable[[Path], object]] = {
    "a changed checkpoint": lambda path: flip(path / "checkpoint", 30),
    "another checkpoint": lambda path: plant(path, "checkpoint", b"x"),
    "a changed bundle": lambda path: flip(only(path, "evidence/*"), 5),
    "a bundle that no record names": lambda path: plant(path, f"evidence/{Digest.of(PLANTED).hex}.json", PLANTED),
    "a bundle by another name": lambda path: only(path, "evidence/*").rename(path / "evidence/plan.json"),
}
LOG_ONLY: dict[str, Callable[[Path], object]] = {
    "a changed record": lambda path: flip(only(path, "log/*.jsonl"), -60),
    "a tail": lambda path: plant(
        path, "log/0000000000000000.jsonl", only(path, "log/*.jsonl").read_bytes().rstrip(b" ") + b"torn"
    ),
    "no segment": lambda path: only(path, "log/*.jsonl").unlink(),
}
PROOFS_ONLY: dict[str, Callable[[Path], object]] = {
    "a changed proof": lambda path: flip(path / "proofs/4.tlog-proof", 40),
    "a proof by another index": lambda path: (path / "proofs/4.tlog-proof").rename(path / "proofs/6.tlog-proof"),
    "a file that is no proof": lambda path: plant(path, "proofs/x", b""),
    "no record of the start": lambda path: (path / "proofs/4.tlog-proof").unlink(),
}


@pytest.mark.parametrize(
    ("machine", "way"),
    [*(("", way) for way in COMMON | LOG_ONLY), *((MACHINES[1], way) for way in COMMON | PROOFS_ONLY)],
)
def test_what_was_changed_is_found(site: Site, machine: str, way: str) -> None:
    path = site.export(machine)
    (COMMON | LOG_ONLY | PROOFS_ONLY)[way](path)
    with pytest.raises(RefusedError) as caught:
        check(path)
    assert set(caught.value.codes) == {ReasonCode.LOG_MISMATCH}


def test_another_state_of_the_same_log_is_found(site: Site) -> None:
    """A log that went on, and the checkpoint of before."""
    path = site.export()
    with Directory.open(str(path / "log")) as directory:
        AuditLog(directory, Signer.of_log(KEY.public.raw, KEY.sign)).append(start_of("0123456789ac"))
    with pytest.raises(RefusedError, match="it has 8 records, the checkpoint 7"):
        check(path)


def test_another_key(site: Site) -> None:
    path = site.export()
    with Directory.open(str(path)) as directory, pytest.raises(RefusedError) as caught:
        audit_export.check_export(directory, PrivateKey.generate().public)
    assert caught.value.codes == (ReasonCode.LOG_MISMATCH,)


GOOD = receipt_of(MACHINES[0], 1)
CHANGES: dict[str, Receipt] = {
    "machine": replace(GOOD, observed=replace(GOOD.observed, machine=MACHINES[1])),
    "plan": replace(GOOD, plan=Digest.of(b"other")),
    "policy": replace(GOOD, policy=Digest.of(b"other")),
    "provenance": replace(GOOD, provenance=Digest.of(b"other")),
    "image": replace(GOOD, subjects=(replace(GOOD.subjects[0], digest=Digest.of(b"other")),)),
    "index": replace(GOOD, observed=replace(GOOD.observed, start_record=2)),
    "time": replace(GOOD, observed=replace(GOOD.observed, started=NOW - timedelta(seconds=1))),
    "time of the end": replace(GOOD, observed=replace(GOOD.observed, ended=NOW)),
    "reason of the end": replace(GOOD, observed=replace(GOOD.observed, reason=EndReason.TIMEOUT)),
    "exit code": replace(GOOD, reported=None),
    "network": replace(GOOD, observed=replace(GOOD.observed, network=NetworkUse(Digest.of(b"other"), Digest.of(b"")))),
}


def checked(receipt: Receipt, key: PrivateKey = KEY, start: SealedRecord | None = None) -> Receipt:
    bundle = envelope.sign(receipt_statement(receipt).to_bytes(), key).to_bytes()
    end = SealedRecord(2, end_of(MACHINES[0], Digest.of(bundle)))
    return check_receipt(bundle, KEY.public, end=end, start=start)


STARTED = SealedRecord(1, start_of(MACHINES[0]))


def test_a_receipt_that_tells_what_the_log_tells() -> None:
    assert checked(GOOD, start=STARTED) == GOOD


@pytest.mark.parametrize("what", CHANGES)
def test_a_receipt_that_tells_something_else(what: str) -> None:
    with pytest.raises(RefusedError, match=f"{what}: the receipt says") as caught:
        checked(CHANGES[what], start=STARTED)
    assert set(caught.value.codes) == {ReasonCode.LOG_MISMATCH}


def test_a_second_receipt_of_a_machine() -> None:
    """By the same host, which says the same but for what the log doesn't have."""
    bundle = envelope.sign(receipt_statement(GOOD).to_bytes(), KEY).to_bytes()
    end = SealedRecord(2, end_of(MACHINES[0], Digest.of(b"the first one")))
    with pytest.raises(RefusedError, match="digest: the receipt says"):
        check_receipt(bundle, KEY.public, end=end, start=STARTED)


def test_a_receipt_of_a_machine_that_never_started() -> None:
    with pytest.raises(RefusedError, match="no record of the machine's start"):
        checked(GOOD)


def test_a_receipt_that_somebody_else_signed() -> None:
    with pytest.raises(RefusedError) as caught:
        checked(GOOD, PrivateKey.generate(), STARTED)
    assert ReasonCode.SIGNER_UNKNOWN in caught.value.codes
