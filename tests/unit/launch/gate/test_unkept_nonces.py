"""Starts whose nonces are not kept are named as long as their plans could start again."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mvmnix.audit.record import Record, RecordKind, spelled
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode
from mvmnix.launch.gate.nonces import Nonces, Spent
from mvmnix.launch.gate.unkept_nonces import UnkeptStarts
from mvmnix.system.private_dirs import Directory
from tests.unit.provenance.world import NOW

SECOND = timedelta(seconds=1)
NONCE = Digest.of(b"nonce")
START = Record(
    kind=RecordKind.START,
    time=NOW,
    machine="0123456789ab",
    plan=Digest.of(b"plan"),
    policy=Digest.of(b"policy"),
    digests={"argv": Digest.of(b"argv"), "nonce": NONCE},
    expires=NOW,
)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with Directory.create(str(tmp_path / "replay")) as made:
        yield made


def found(directory: Directory, *records: Record, ago: timedelta = SECOND) -> list[str]:
    unkept = UnkeptStarts(directory)
    for index, record in enumerate(records):
        unkept.visit(index, spelled(record.line))
    reasons = unkept.reasons(NOW - ago)
    assert {reason.code for reason in reasons} <= {ReasonCode.STATE_MISMATCH}
    return [reason.why for reason in reasons]


def test_a_start_is_named_until_its_plan_s_window_is_over(directory: Directory) -> None:
    (why,) = found(directory, START)
    assert why.startswith("record 0 of the log is the start of machine 0123456789ab")
    assert found(directory, START, ago=timedelta()) == []


@pytest.mark.parametrize("data", [None, b""])
def test_a_nonce_that_is_kept_is_no_matter(directory: Directory, data: bytes | None) -> None:
    """Nor one that can't be read: it is spent."""
    Nonces(directory).spend(NONCE, Spent(Digest.of(b"plan"), "a" * 12, NOW, NOW, NOW))
    if data is not None:
        (path,) = Path(directory.path).glob("??/*")
        path.write_bytes(data)
    assert found(directory, START) == []


def test_of_several_starts_of_one_plan_the_last_is_named(directory: Directory) -> None:
    (why,) = found(directory, START, replace(START, machine="b" * 12))
    assert "record 1 of the log is the start of machine bbbbbbbbbbbb" in why


@pytest.mark.parametrize(
    "record",
    [
        replace(START, expires=None),
        replace(START, digests={"argv": NONCE}),
        replace(START, digests={}),
        replace(START, kind=RecordKind.END, expires=None),
    ],
)
def test_what_says_nothing_of_a_nonce_and_its_time(directory: Directory, record: Record) -> None:
    assert found(directory, record) == []
