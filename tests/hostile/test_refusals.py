"""The table of what must be refused, of claims: real artifacts, outer layers signed anew, one reason for each row."""

import pytest

from mvmnix.errors import ReasonCode as Code
from tests.hostile.claims import (
    lock_with_another_node,
    of_another_build,
)
from tests.hostile.refusal_rows import ROWS
from tests.hostile.rig import Move, Rig

pytestmark = pytest.mark.vm


def test_the_twin_of_all_rows_passes(rig: Rig) -> None:
    rig.admit().close()


@pytest.mark.parametrize("row", ROWS)
def test_refused_for_one_reason(rig: Rig, row: str) -> None:
    move, code = ROWS[row]
    move(rig)
    assert rig.refusal() == {code}


def test_evidence_of_another_build(rig: Rig) -> None:
    of_another_build(rig)
    assert rig.refusal() == {
        Code.SUBJECT_MISMATCH,
        Code.BUILDER_NOT_ADMITTED,
        Code.LOCK_MISMATCH,
        Code.DEPENDENCY_MISMATCH,
    }


@pytest.mark.parametrize("move", [lock_with_another_node, lambda it: setattr(it, "lock", None)], ids=["other", "none"])
def test_a_lock_that_names_other_sources(rig: Rig, move: Move) -> None:
    move(rig)
    assert rig.refusal() == {Code.LOCK_MISMATCH, Code.DEPENDENCY_MISMATCH}
