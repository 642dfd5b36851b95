"""A receipt is written and read back whole, and says of each field who says so."""

from dataclasses import replace
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.formats import strict
from mvmnix.machines import receipt
from mvmnix.machines.diagnosis import Diagnosis, diagnosis_file
from mvmnix.machines.ending import EndReason
from mvmnix.machines.exit_status import End, ExitStatus, Step
from mvmnix.machines.receipt import Corruption, Receipt, ShareRecord
from mvmnix.plan.backend import Backend
from mvmnix.plan.share import Access, ShareKind
from mvmnix.provenance.bundle import statement
from mvmnix.vmm.boot_watchdog import StallReason
from mvmnix.vmm.port import Acceleration
from tests.unit.machines.receipts import OBSERVED, RECEIPT
from tests.unit.provenance.world import drop, put

SHARES = (
    ShareRecord("/out", Access.READ_WRITE, ShareKind.VIRTIOFS, "/usr/libexec/virtiofsd", Digest.of(b"virtiofsd")),
    ShareRecord(
        "/set", Access.READ_ONLY, ShareKind.EROFS, "/usr/bin/mkfs.erofs", Digest.of(b"mkfs"), Digest.of(b"image")
    ),
)
DIAGNOSES = tuple(
    Diagnosis(diagnosis_file(number), verdict, Digest.of(b""))
    for number, verdict in enumerate((StallReason.STALLED, StallReason.HUNG), 1)
)
PANIC = Diagnosis(diagnosis_file(1), StallReason.PANICKED, Digest.of(b""))


@pytest.mark.parametrize(
    "it",
    [
        RECEIPT,
        replace(RECEIPT, reported=None),
        *(replace(RECEIPT, observed=replace(OBSERVED, backend=backend)) for backend in Backend),
        *(replace(RECEIPT, reported=ExitStatus(end, step, 2**32 - 1)) for end in End for step in Step),
        replace(RECEIPT, reported=ExitStatus(End.SIGNALED, code=9, is_out_of_memory=True)),
        *(replace(RECEIPT, observed=replace(OBSERVED, reason=reason)) for reason in EndReason),
        replace(RECEIPT, observed=replace(OBSERVED, usage=None, console_bytes=0)),
        replace(RECEIPT, observed=replace(OBSERVED, shares=SHARES)),
        replace(RECEIPT, observed=replace(OBSERVED, template="0123456789ab")),
        replace(RECEIPT, observed=replace(OBSERVED, snapshot=Digest.of(b"snapshot"))),
        replace(RECEIPT, observed=replace(OBSERVED, ready=None, firmware=(), additions=())),
        replace(RECEIPT, observed=replace(OBSERVED, additions=OBSERVED.additions[:1])),
        replace(RECEIPT, observed=replace(OBSERVED, diagnoses=DIAGNOSES)),
        replace(RECEIPT, observed=replace(OBSERVED, diagnoses=(PANIC,))),
        replace(RECEIPT, observed=replace(OBSERVED, corruption=Corruption.of(()))),
        replace(RECEIPT, observed=replace(OBSERVED, corruption=Corruption.of(tuple(range(5000))))),
    ],
)
def test_round_trip(it: Receipt) -> None:
    written = receipt.receipt_statement(it).to_bytes()
    assert receipt.from_statement(statement.parse(written)) == it


def test_who_says_what() -> None:
    predicate = receipt.receipt_statement(RECEIPT).predicate
    assert set(predicate) == {"plan", "provenance", "policy", "observedByHost", "reportedByGuest"}
    assert predicate["reportedByGuest"] == {"end": "exited", "step": "none", "code": 3}
    assert "code" not in str(predicate["observedByHost"])


@pytest.mark.parametrize(
    ("backend", "accelerator", "boundary"),
    [
        (Backend.QEMU, Acceleration.KVM, "hardware"),
        (Backend.QEMU, Acceleration.TCG, "sandbox"),
        (Backend.CONTAINER, Acceleration.NONE, "container: not a microVM"),
        (Backend.CONTAINER, Acceleration.TCG, "container: not a microVM"),
    ],
)
def test_what_held_the_guest(backend: Backend, accelerator: Acceleration, boundary: str) -> None:
    it = replace(RECEIPT, observed=replace(OBSERVED, backend=backend, accelerator=accelerator))
    said = receipt.receipt_statement(it).predicate["observedByHost"]
    assert isinstance(said, dict)
    assert said["boundary"] == boundary


WARM = replace(RECEIPT, observed=replace(OBSERVED, template="0123456789ab"))
RESTORED = replace(RECEIPT, observed=replace(OBSERVED, snapshot=Digest.of(b"snapshot")))


@pytest.mark.parametrize(
    ("it", "start"),
    [
        (RECEIPT, {"start": "cold"}),
        (WARM, {"start": "warm", "template": "0123456789ab"}),
        (RESTORED, {"start": "restored", "snapshot": Digest.of(b"snapshot").hex}),
    ],
)
def test_how_it_started(it: Receipt, start: dict[str, str]) -> None:
    said = receipt.receipt_statement(it).predicate["observedByHost"]
    assert isinstance(said, dict)
    assert {name: value for name, value in said.items() if name in {"start", "template", "snapshot"}} == start


@pytest.mark.parametrize(
    "change",
    [
        put("cold", "predicate", "observedByHost", "start"),
        drop("predicate", "observedByHost", "template"),
        drop("predicate", "observedByHost", "start"),
        put("../../etc", "predicate", "observedByHost", "template"),
    ],
)
def test_a_warm_start_names_its_template_and_no_other_does(change: Any) -> None:
    value = strict.parse_json(receipt.receipt_statement(WARM).to_bytes())
    assert isinstance(value, dict)
    change(value)
    with pytest.raises(RefusedError) as caught:
        receipt.from_statement(statement.parse(strict.canonical(value)))
    assert set(caught.value.codes) == {ReasonCode.STATEMENT_MALFORMED}


def test_one_of_before_there_were_templates_is_of_a_cold_start() -> None:
    value = strict.parse_json(receipt.receipt_statement(RECEIPT).to_bytes())
    assert isinstance(value, dict)
    drop("predicate", "observedByHost", "start")(value)
    assert receipt.from_statement(statement.parse(strict.canonical(value))) == RECEIPT


def test_many_corrupted_blocks_are_counted() -> None:
    assert Corruption.of(tuple(range(5000))) == Corruption(5000, tuple(range(1024)))


@pytest.mark.parametrize(
    "change",
    [
        put(1, "predicate", "more"),
        put("container", "predicate", "observedByHost", "backend"),
        put("container: not a microVM", "predicate", "observedByHost", "isolation"),
        drop("predicate", "observedByHost", "boundary"),
        put("hardware", "predicate", "observedByHost", "boundary"),
        put("microvm", "predicate", "observedByHost", "boundary"),
        put("later", "predicate", "observedByHost", "endedOn"),
        put("qemu", "predicate", "observedByHost", "hypervisor", "path"),
        put("none", "predicate", "observedByHost", "endReason"),
        put("xen", "predicate", "observedByHost", "accelerator"),
        put(1, "predicate", "observedByHost", "kernelCommandLineAdditions", "init"),
        put("unstable", "predicate", "observedByHost", "kernelCommandLineAdditions", "tsc"),
        put(1, "predicate", "observedByHost", "kernelCommandLineAdditions", "tsc"),
        put("1", "predicate", "observedByHost", "kernelCommandLineAdditions", "tsc_early_khz"),
        put({"count": 3, "first": [1]}, "predicate", "observedByHost", "corruptedBlocks"),
        put(-1, "predicate", "observedByHost", "consoleBytes"),
        put([DIAGNOSES[0].value()] * 3, "predicate", "observedByHost", "diagnoses"),
        put([{**DIAGNOSES[0].value(), "file": "../machine.json"}], "predicate", "observedByHost", "diagnoses"),
        put([{**DIAGNOSES[0].value(), "verdict": "slow"}], "predicate", "observedByHost", "diagnoses"),
        put(["selinux"], "predicate", "observedByHost", "confinement"),
        put("warm", "predicate", "observedByHost", "start"),
        put("lukewarm", "predicate", "observedByHost", "start"),
        put("restored", "predicate", "observedByHost", "start"),
        put("0" * 64, "predicate", "observedByHost", "snapshot"),
        put("0123456789ab", "predicate", "observedByHost", "template"),
        put(-1, "predicate", "observedByHost", "hypervisorUsage", "userMilliseconds"),
        put(1, "predicate", "observedByHost", "hypervisorUsage", "more"),
        put("EXITED", "predicate", "reportedByGuest", "end"),
        put("exec", "predicate", "reportedByGuest", "step"),
        put(-1, "predicate", "reportedByGuest", "code"),
    ],
)
def test_malformed(change: Any) -> None:
    value = strict.parse_json(receipt.receipt_statement(RECEIPT).to_bytes())
    assert isinstance(value, dict)
    change(value)
    with pytest.raises(RefusedError) as caught:
        receipt.from_statement(statement.parse(strict.canonical(value)))
    assert set(caught.value.codes) == {ReasonCode.STATEMENT_MALFORMED}
