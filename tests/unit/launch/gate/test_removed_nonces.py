"""A nonce whose file was removed: the log has the start, and is asked for it as far back as the plan's window goes."""

from datetime import datetime, timedelta

import pytest

from mvmnix.audit import tail
from mvmnix.audit.record import Record, RecordKind
from mvmnix.audit.segment import CAPACITY, Segment
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.gate.clock import TOLERANCE
from mvmnix.plan.plan import Use, Window
from mvmnix.system.private_dirs import Directory
from tests.unit.launch.gate.starts import SECOND, files, plan_no, refused, removed, run
from tests.unit.launch.house import House
from tests.unit.provenance.world import NOW


def test_a_nonce_that_was_removed_does_not_start_its_plan_again(here: House) -> None:
    with plan_no(here, 1) as one, plan_no(here, 2) as two:
        run(here, one)
        run(here, two)
        removed(here, one)
        machine = here.log()[0].machine
        why = refused(here, one, ReasonCode.REPLAY)
        assert why.startswith(f"it may start once: record 0 of the log is its start, as machine {machine}")
        with pytest.raises(RefusedError, match="record 0 of the log"):
            here.replay().judge(one.plan)
        assert len(files(here)) == 1, "nor is it kept anew"


def test_a_nonce_of_a_plan_for_more_that_was_removed_is_older_than_the_log(here: House) -> None:
    with plan_no(here, 1, Use.WITHIN_WINDOW) as often, plan_no(here, 2) as two:
        run(here, often)
        run(here, two)
        removed(here, often)
        assert "is not what the log says" in refused(here, often, ReasonCode.STATE_MISMATCH)


def filled(it: House, count: int, time: datetime) -> None:
    """Records of another machine, at one time."""
    log, digest = it.ledger(), Digest.of(b"filled")
    for _ in range(count):
        log.append(Record(kind=RecordKind.PAUSE, time=time, machine="f" * 12, plan=digest, policy=digest))


@pytest.mark.usefixtures("volatile")
def test_a_start_is_found_as_far_back_as_its_plan_s_window_goes(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many records were written since; of what is older one full segment is read, and no more."""
    window = Window(NOW - timedelta(minutes=5), NOW + timedelta(hours=1))
    filled(here, 3 * CAPACITY, window.not_before - TOLERANCE - SECOND)
    with here.plan(use=Use.ONCE, nonce="1" * 32, window=window) as one, plan_no(here, 2) as two:
        run(here, one)
        filled(here, CAPACITY, NOW + timedelta(minutes=1))
        run(here, two)
        removed(here, one)
        assert f"record {3 * CAPACITY} of the log" in refused(here, one, ReasonCode.REPLAY)
    read = set[int]()

    def read_segment(directory: Directory, first: int, *, is_end: bool = True) -> Segment:
        read.add(first)
        return tail.read_segment(directory, first, is_end=is_end)

    monkeypatch.setattr("mvmnix.audit.reading.read_segment", read_segment)
    with here.plan(use=Use.ONCE, nonce="3" * 32, window=window) as three:
        run(here, three)
    assert read == {3 * CAPACITY, 2 * CAPACITY}
