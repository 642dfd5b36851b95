"""The gate between a verification and the log, while others write to that log."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mvmnix.audit.record import Record, RecordKind, Serials
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.gate.admission import admit
from mvmnix.launch.gate.verify import Submission, VerifiedPlan, verify_plan
from tests.unit.provenance.world import NOW, World, new_world

SERIALS: Serials = (0, 1, 0, 0)
NEWER: Serials = (0, 2, 0, 0)


class Journal:
    """A log in memory."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, record: Record) -> None:
        self.records.append(record)

    def latest_serials(self) -> Serials | None:
        return next((it.serials for it in reversed(self.records) if it.serials is not None), None)


type Admit = Callable[[], VerifiedPlan]


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def gate(tmp_path: Path, journal: Journal) -> Iterator[Admit]:
    world: World = new_world(tmp_path)
    files = world.open(tmp_path)
    handed_in = Submission(world.plan_bundle, world.evidence, files)
    yield lambda: admit(handed_in, policy=world.policy, journal=journal, clock=lambda: NOW)
    for fd in (files.kernel, files.initrd, files.rootfs):
        os.close(fd)


def test_an_admission_has_the_policy_s_serials(journal: Journal, gate: Admit) -> None:
    gate().close()
    assert [(it.kind, it.serials) for it in journal.records] == [(RecordKind.ADMISSION, SERIALS)]


def test_what_is_admitted_is_closed_where_it_is_left(gate: Admit) -> None:
    with gate() as verified:
        fd = verified.rootfs
        os.fstat(fd)
    with pytest.raises(KeyError):
        _ = verified.rootfs
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_an_older_policy_verifies_nothing(journal: Journal, gate: Admit, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.append(Record(kind=RecordKind.REFUSAL, time=NOW, reasons=("another",), serials=NEWER))
    monkeypatch.setattr("mvmnix.launch.gate.admission.verify_plan", lambda *_, **__: pytest.fail("it was verified"))
    with pytest.raises(RefusedError) as caught:
        gate()
    assert caught.value.codes == (ReasonCode.POLICY_ROLLBACK,)


def test_nothing_is_admitted_that_is_not_in_the_log(
    journal: Journal, gate: Admit, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = list[VerifiedPlan]()

    def noted(it: Submission, **known: Any) -> VerifiedPlan:
        verified.append(verify_plan(it, **known))
        return verified[0]

    monkeypatch.setattr("mvmnix.launch.gate.admission.verify_plan", noted)
    monkeypatch.setattr(journal, "append", full)
    with pytest.raises(OSError, match="No space left"):
        gate()
    with pytest.raises(KeyError):
        _ = verified[0].rootfs


def full(_: Record) -> None:
    raise OSError(28, "No space left on device")


def test_a_policy_that_is_replaced_meanwhile_admits_nothing(
    journal: Journal, gate: Admit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else this admission, the last one in the log, would let the older policy be put back."""
    verified = list[VerifiedPlan]()

    def slowly(it: Submission, **known: Any) -> VerifiedPlan:
        verified.append(verify_plan(it, **known))
        journal.append(Record(kind=RecordKind.REFUSAL, time=NOW, reasons=("another",), serials=NEWER))
        return verified[-1]

    monkeypatch.setattr("mvmnix.launch.gate.admission.verify_plan", slowly)
    with pytest.raises(RefusedError) as caught:
        gate()
    assert caught.value.codes == (ReasonCode.POLICY_ROLLBACK,)
    assert journal.latest_serials() == NEWER
    last = journal.records[-1]
    assert (last.kind, last.reasons, last.serials) == (RecordKind.REFUSAL, (ReasonCode.POLICY_ROLLBACK,), None)
    with pytest.raises(KeyError):
        _ = verified[0].rootfs
