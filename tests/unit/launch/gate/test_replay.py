"""A plan for once starts once: through the whole start, and the gate's own steps, each refused by its code."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mvmnix.audit.record import RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, UsageError, refuse
from mvmnix.formats import strict
from mvmnix.launch.gate.clock import CLOCK, TOLERANCE
from mvmnix.launch.gate.nonces import NEIGHBOURS, Nonces, Spent
from mvmnix.launch.gate.replay import nonce_of
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.start import start_machine
from mvmnix.machines import registry
from mvmnix.plan import plan as plans
from mvmnix.plan.plan import Accelerator, Use, Window
from tests.unit.launch.fake_hypervisor import Scenario
from tests.unit.launch.gate.starts import ONCE, SECOND, files, kept, plan_no, refused, removed, run
from tests.unit.launch.house import House
from tests.unit.provenance.world import NOW

OFTEN: dict[str, Any] = {"use": Use.WITHIN_WINDOW, "nonce": "1" * 32}


class FullJournal:
    """A log on a full disk."""

    def append(self, record: object) -> object:
        raise MvmnixError("No space left on device")


def wait(it: House, passed: timedelta) -> None:
    it.reading = replace(it.reading, wall=it.reading.wall + passed, elapsed=it.reading.elapsed + passed)


def test_a_plan_for_once_starts_once(here: House) -> None:
    with here.plan(**ONCE) as plan:
        run(here, plan)
        first = here.log()[0]
        refused(here, plan, ReasonCode.REPLAY)
        why = refused(here, plan, ReasonCode.REPLAY)
    assert why == f"it may start once, and its nonce was spent by machine {first.machine} at 2026-09-01 12:00:01 UTC"
    assert first.digests["nonce"] == nonce_of(plan.plan) == Digest.of(b"1" * 32)
    assert files(here) == [Digest.of(b"1" * 32).hex]
    assert kept(here)[0].stat().st_mode & 0o777 == 0o600


def test_a_plan_for_more_starts_as_often_as_asked(here: House) -> None:
    with here.plan(**OFTEN) as plan:
        for _ in range(3):
            run(here, plan)
    assert len(files(here)) == 1
    assert [record.kind for record in here.log()] == [RecordKind.START, RecordKind.END] * 3


def test_the_same_plan_in_another_bundle_is_the_same_plan(here: House) -> None:
    """ECDSA signs the same in different bytes; another planner does so too."""
    with here.plan(**ONCE) as one, here.plan(**ONCE) as two:
        assert one.plan == two.plan
        assert one.digest != two.digest
        run(here, one)
        refused(here, two, ReasonCode.REPLAY)
    with plan_no(here, 2, Use.WITHIN_WINDOW) as one, plan_no(here, 2, Use.WITHIN_WINDOW) as two:
        run(here, one)
        run(here, two)


@pytest.mark.parametrize(("first", "second"), [(ONCE, OFTEN), (OFTEN, ONCE), (OFTEN, OFTEN | {"vcpus": 2})], ids=str)
def test_another_plan_with_the_same_nonce(here: House, first: dict[str, Any], second: dict[str, Any]) -> None:
    with here.plan(**first) as plan:
        run(here, plan)
        statement = Digest.of(plans.plan_statement(plan.plan).to_bytes())
    with here.plan(**second) as plan:
        why = refused(here, plan, ReasonCode.REPLAY)
    assert f"another plan ({statement})" in why


def test_what_is_refused_before_spends_nothing(here: House) -> None:
    with here.plan(**ONCE) as plan:
        with pytest.raises(RefusedError, match="ports"):
            start_machine(plan, here.host(), services={80: lambda wake: pytest.fail(f"called with {wake}")})
        with pytest.raises(UsageError):
            start_machine(plan, here.host(), name="../web")
        assert files(here) == []
        run(here, plan)
    with here.plan(**ONCE | {"nonce": "2" * 32, "accelerator": Accelerator.KVM}) as plan:
        refused(here, plan, ReasonCode.ACCELERATOR_UNAVAILABLE)
    assert len(files(here)) == 1


@pytest.mark.parametrize("scenario", [Scenario.PANICS, Scenario.ABORTS])
def test_a_boot_that_fails_has_spent_it(here: House, scenario: Scenario) -> None:
    with here.plan(**ONCE) as plan:
        with pytest.raises(MvmnixError):
            start_machine(plan, here.host(scenario))
        refused(here, plan, ReasonCode.REPLAY)


def test_a_start_that_cannot_be_logged_has_spent_it(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    host = here.host()
    with here.plan(**ONCE) as plan:
        with pytest.raises(MvmnixError, match="No space"):
            start_machine(plan, replace(host, journal=FullJournal()))  # type: ignore[arg-type]
        assert here.log() == []
        refused(here, plan, ReasonCode.REPLAY)
    with here.plan(**ONCE | {"nonce": "2" * 32}) as plan:
        run(here, plan)


# Where nothing can be kept, nothing starts


@pytest.mark.parametrize("call", ["fsync", "link", "open", "mkdir"])
def test_a_disk_that_takes_nothing(here: House, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    host, real = here.host(), getattr(os, call)
    shard = "/replay/"

    def full(*arguments: object, **more: object) -> object:
        where = more.get("dir_fd", more.get("src_dir_fd", arguments[0]))
        if isinstance(where, int) and shard in os.readlink(f"/proc/self/fd/{where}") + "/":  # noqa: PTH115
            raise OSError(28, "No space left on device")
        return real(*arguments, **more)

    with here.plan(**ONCE) as plan:
        with monkeypatch.context() as patched:
            patched.setattr(os, call, full)
            with pytest.raises(MvmnixError, match=r"No space left.*nothing starts"):
                start_machine(plan, host)
        assert here.log() == []
        assert registry.list_entries(here.directory("machines")) == ()
        assert files(here) == []
        run(here, plan)


def test_a_directory_that_others_could_have_changed(here: House) -> None:
    with here.plan(**OFTEN) as plan:
        run(here, plan)
        kept(here)[0].parent.chmod(0o777)
        refused(here, plan, ReasonCode.STATE_PERMISSIONS)


# What is kept is as new as the log


def snapshot(it: House, room: str) -> Callable[[], None]:
    """Put a room back as it is now."""
    source, copy = it.path / room, it.path / f"{room}.old"
    shutil.copytree(source, copy, dirs_exist_ok=True)

    def restore() -> None:
        shutil.rmtree(source)
        copy.rename(source)

    return restore


def test_nonces_that_were_put_back_are_older_than_the_log(here: House) -> None:
    with plan_no(here, 1) as one, plan_no(here, 2) as two, plan_no(here, 3) as three:
        run(here, one)
        restore = snapshot(here, "replay")
        run(here, two)
        restore()
        for plan in (two, one, three):
            why = refused(here, plan, ReasonCode.STATE_MISMATCH)
            assert "older than the log" in why


def test_a_plan_for_more_that_starts_again_hides_nothing(here: House) -> None:
    """Its nonce was there before too: only for whom it was spent last tells that all is older than the log."""
    with plan_no(here, 1, Use.WITHIN_WINDOW) as often, plan_no(here, 2) as once:
        run(here, often)
        restore = snapshot(here, "replay")
        run(here, once)
        run(here, often)
        restore()
        for plan in (once, often):
            why = refused(here, plan, ReasonCode.STATE_MISMATCH)
            assert "older than the log" in why


def test_a_start_that_was_never_logged_locks_nobody_out(here: House) -> None:
    host = here.host()
    with plan_no(here, 1, Use.WITHIN_WINDOW) as often, plan_no(here, 2) as once:
        run(here, often)
        for _ in range(2):
            with pytest.raises(MvmnixError, match="No space"):
                start_machine(often, replace(host, journal=FullJournal()))  # type: ignore[arg-type]
        run(here, once)
        with pytest.raises(MvmnixError, match="No space"):
            start_machine(often, replace(host, journal=FullJournal()))  # type: ignore[arg-type]
        for _ in range(2):
            run(here, often)


def test_nonces_that_an_older_mvm_kept(here: House) -> None:
    """They don't say for whom a nonce was spent last, so there is nothing to compare until the next start."""
    with plan_no(here, 1, Use.WITHIN_WINDOW) as often:
        for _ in range(2):
            run(here, often)
        (path,) = kept(here)
        told = json.loads(path.read_bytes())
        assert (told.pop("before"), told.pop("version")) == (here.log()[0].machine, 2)
        path.write_bytes(strict.canonical(told | {"version": 1, "machine": here.log()[0].machine}))
        run(here, often)
        assert json.loads(path.read_bytes())["version"] == 2


def test_nonces_that_were_removed_are_older_than_the_log(here: House) -> None:
    with plan_no(here, 1) as one, plan_no(here, 2, Use.WITHIN_WINDOW) as two:
        run(here, one)
        shutil.rmtree(here.path / "replay")
        refused(here, one, ReasonCode.STATE_MISMATCH)
        refused(here, two, ReasonCode.STATE_MISMATCH)
        (here.path / "audit").rename(here.path / "audit.bad")
        run(here, two)


def test_refusals_and_ends_do_not_hide_the_last_start(here: House) -> None:
    with plan_no(here, 1) as one, plan_no(here, 2) as two:
        run(here, one)
        restore = snapshot(here, "replay")
        run(here, two)
        for _ in range(3):
            refused(here, two, ReasonCode.REPLAY)
        restore()
        refused(here, two, ReasonCode.STATE_MISMATCH)


def test_a_mark_that_was_put_back_is_older_than_the_log(here: House) -> None:
    with plan_no(here, 1) as one, plan_no(here, 2) as two:
        run(here, one)
        old = (here.path / "replay" / CLOCK).read_bytes()
        wait(here, timedelta(hours=1))
        run(here, two)
        here.reading = replace(here.reading, epoch="another boot")
        (here.path / "replay" / CLOCK).write_bytes(old)
        why = refused(here, two, ReasonCode.STATE_MISMATCH)
    assert "mark is older" in why


def test_the_whole_state_put_back_is_found_by_the_anchor_alone(here: House) -> None:
    with plan_no(here, 1) as one, plan_no(here, 2) as two:
        run(here, one)
        restores = [snapshot(here, room) for room in ("replay", "audit", "machines")]
        run(here, two)
        seen = len(here.log())
        for restore in restores:
            restore()

        def contradicted() -> None:
            if len(here.log()) < seen:
                raise refuse(ReasonCode.LOG_MISMATCH, "the log", "it was rolled back", "find out who did")

        here.check_anchors = contradicted
        refused(here, two, ReasonCode.LOG_MISMATCH)
        here.check_anchors = lambda: None
        run(here, two)


def test_a_log_from_before_there_were_nonces(here: House) -> None:
    with plan_no(here, 1) as plan:
        run(here, plan)
        begin, _ = here.log()
        for room in ("audit", "replay"):
            shutil.rmtree(here.path / room)
        here.host().journal.append(replace(begin, digests={"argv": begin.digests["argv"]}))
        run(here, plan)
        refused(here, plan, ReasonCode.REPLAY)


@pytest.mark.parametrize("data", [b"", b"{}", b"\0" * 9000])
def test_a_nonce_that_cannot_be_read_is_spent(here: House, data: bytes) -> None:
    with plan_no(here, 1, Use.WITHIN_WINDOW) as one, plan_no(here, 2) as two, plan_no(here, 3) as three:
        run(here, one)
        spoiled = kept(here)[0]
        run(here, two)
        good = spoiled.read_bytes()
        spoiled.write_bytes(data)
        refused(here, one, ReasonCode.REPLAY)
        run(here, three)
        spoiled.write_bytes(good)
        run(here, one)
        spoiled.write_bytes(data)
        refused(here, one, ReasonCode.STATE_MISMATCH)


# The clock


def test_a_clock_that_went_back(here: House) -> None:
    with plan_no(here, 1) as one, plan_no(here, 2) as two:
        run(here, one)
        here.reading = replace(here.reading, wall=here.reading.wall - TOLERANCE - SECOND)
        refused(here, two, ReasonCode.CLOCK_WENT_BACK)
        here.reading = replace(here.reading, wall=here.reading.wall + TOLERANCE + SECOND)
        run(here, two)


# Without a step, what it refuses starts


def nothing(*_arguments: object) -> None:
    """Stands for a step that is taken out."""


def rolled_back(it: House) -> VerifiedPlan:
    with plan_no(it, 1) as one, plan_no(it, 2) as two:
        run(it, one)
        restore = snapshot(it, "replay")
        run(it, two)
        restore()
    return plan_no(it, 3)


def set_back(it: House) -> VerifiedPlan:
    with plan_no(it, 1) as one:
        run(it, one)
    it.reading = replace(it.reading, wall=it.reading.wall - TOLERANCE - SECOND)
    return plan_no(it, 2)


def outlived(it: House) -> VerifiedPlan:
    plan = plan_no(it, 1)
    wait(it, timedelta(days=1))
    return plan


def forgotten(it: House) -> VerifiedPlan:
    with plan_no(it, 1) as one, plan_no(it, 2) as two:
        run(it, one)
        run(it, two)
        removed(it, one)
    return plan_no(it, 1)


def another(it: House) -> VerifiedPlan:
    with plan_no(it, 1, Use.WITHIN_WINDOW) as one:
        run(it, one)
    return it.plan(nonce=f"{1:032x}", vcpus=2)


#: How a plan comes to be refused, and by which step; that is taken out by what stands beside it.
REFUSED: list[tuple[Callable[[House], VerifiedPlan], ReasonCode, str, object]] = [
    (set_back, ReasonCode.CLOCK_WENT_BACK, "clock.TOLERANCE", timedelta(hours=1)),
    (rolled_back, ReasonCode.STATE_MISMATCH, "replay.Replay._as_new_as_the_log", nothing),
    (forgotten, ReasonCode.REPLAY, "replay.Replay._no_start_of", nothing),
    (outlived, ReasonCode.PLAN_EXPIRED, "replay._within_window", nothing),
    (another, ReasonCode.REPLAY, "replay.Replay._unspent", lambda *_: spent(timedelta(hours=1))),
]


@pytest.mark.parametrize(("prepare", "code", "step", "instead"), REFUSED)
def test_each_step_is_what_refuses_a_judgement_and_a_start(
    here: House,
    prepare: Callable[[House], VerifiedPlan],
    code: ReasonCode,
    step: str,
    instead: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A judgement changes nothing."""
    with prepare(here) as plan:
        before, told = contents(here), len(here.notices)
        with pytest.raises(RefusedError) as caught:
            here.replay().judge(plan.plan)
        assert (caught.value.codes, contents(here), len(here.notices)) == ((code,), before, told)
        refused(here, plan, code)
        monkeypatch.setattr(f"mvmnix.launch.gate.{step}", instead)
        run(here, plan)


def contents(it: House) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in it.path.rglob("*") if path.is_file()}


def test_a_judgement_spends_nothing(here: House) -> None:
    with here.plan(**ONCE) as plan:
        before = contents(here)
        here.replay().judge(plan.plan)
        assert contents(here) == before, "not even a lock is made"
        run(here, plan)
        here.reading = replace(here.reading, wall=here.reading.wall + timedelta(hours=1))
        before = contents(here)
        with plan_no(here, 2) as two:
            here.replay().judge(two.plan)
        assert (contents(here), here.notices[1:]) == (before, []), "that the clock was set is for a start to tell"


def test_a_window_that_ends_while_another_start_is_waited_for(here: House) -> None:
    with for_hours(here, FIRST, 1) as plan:
        wait(here, plan.plan.window.not_after - here.reading.wall - SECOND)
        here.replay().judge(plan.plan)
        wait(here, SECOND)
        refused(here, plan, ReasonCode.PLAN_EXPIRED)


def test_the_commit_refuses_too_what_was_spent_meanwhile(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exclusive by itself, whatever the step before it saw."""
    with plan_no(here, 1) as plan:
        run(here, plan)
        monkeypatch.setattr("mvmnix.launch.gate.replay.Replay._unspent", nothing)
        assert refused(here, plan, ReasonCode.REPLAY) == "it was spent just now"


# What is forgotten


def spent(until: timedelta) -> Spent:
    return Spent(Digest.of(b"plan"), "a" * 12, NOW, NOW + until, NOW)


def neighbour(nonce: str) -> str:
    """Another nonce that is kept in the same directory."""
    shard = Digest.of(nonce.encode()).hex[:2]
    others = (f"{number:032x}" for number in range(100_000))
    return next(it for it in others if it != nonce and Digest.of(it.encode()).hex[:2] == shard)


def for_hours(it: House, nonce: str, hours: int) -> VerifiedPlan:
    window = Window(NOW - timedelta(minutes=5), NOW + timedelta(hours=hours))
    return it.plan(nonce=nonce, use=Use.ONCE, window=window)


FIRST = "1" * 32
NEAR = neighbour(FIRST)


def test_a_forgotten_nonce_leaves_no_way_back(here: House) -> None:
    """Its plan expired by the mark, which no clock that is accepted from then on says otherwise."""
    with for_hours(here, FIRST, 1) as one, for_hours(here, NEAR, 9) as two, plan_no(here, 7) as between:
        run(here, one)
        run(here, between)
        wait(here, timedelta(hours=1) + TOLERANCE)
        run(here, two)
        assert set(files(here)) == {nonce_of(it.plan).hex for it in (between, two)}
        refused(here, one, ReasonCode.PLAN_EXPIRED)
        here.reading = replace(here.reading, wall=one.plan.window.not_after - SECOND)
        refused(here, one, ReasonCode.CLOCK_WENT_BACK)
        here.reading = replace(here.reading, epoch="another boot", elapsed=SECOND)
        refused(here, one, ReasonCode.CLOCK_WENT_BACK)


def test_a_nonce_is_kept_as_long_as_a_clock_could_bring_its_plan_back(here: House) -> None:
    with for_hours(here, FIRST, 1) as one, for_hours(here, NEAR, 9) as two, plan_no(here, 7) as between:
        run(here, one)
        run(here, between)
        wait(here, timedelta(hours=1) + TOLERANCE - 2 * SECOND)
        run(here, two)
        assert len(files(here)) == 3
        here.reading = replace(here.reading, wall=here.reading.wall - TOLERANCE)
        refused(here, one, ReasonCode.REPLAY)


def test_a_clock_that_jumped_forward_makes_nothing_forgotten(here: House) -> None:
    with for_hours(here, FIRST, 1) as one, for_hours(here, NEAR, 90) as two, plan_no(here, 7) as between:
        run(here, one)
        run(here, between)
        here.reading = replace(here.reading, wall=here.reading.wall + timedelta(days=3))
        run(here, two)
        refused(here, one, ReasonCode.PLAN_EXPIRED)
        here.reading = replace(here.reading, wall=here.reading.wall - timedelta(days=3))
        refused(here, one, ReasonCode.REPLAY)
    assert [notice.split(" since")[0] for notice in here.notices if "clock" in notice] == [
        "the host's clock was set forward by 3 days, 0:00:00",
        "the host's clock was set back by 3 days, 0:00:00",
    ]


def test_the_last_start_s_nonce_is_never_forgotten(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a start that spent its own and wasn't logged would leave a log that seems newer than the nonces."""
    with for_hours(here, FIRST, 1) as one, for_hours(here, NEAR, 9) as two, plan_no(here, 7) as three:
        run(here, one)
        wait(here, timedelta(hours=2))
        with pytest.raises(MvmnixError, match="No space"):
            start_machine(two, replace(here.host(), journal=FullJournal()))  # type: ignore[arg-type]
        assert len(files(here)) == 2
        run(here, three)


def test_a_start_looks_at_a_bounded_number_of_nonces(here: House) -> None:
    nonces, near = Nonces(here.directory("replay")), Digest("00" + "8" * 62)
    hour = spent(timedelta(hours=1))
    for number in range(2 * NEIGHBOURS + 10):
        nonces.spend(Digest(f"00{number:062x}"), hour)
    counts = [nonces.forget(near, before=hour.until, keep=frozenset()) for _ in range(4)]
    assert counts == [NEIGHBOURS, NEIGHBOURS, 10, 0]
    assert nonces.forget(Digest("f" * 64), before=hour.until, keep=frozenset()) == 0


@pytest.mark.parametrize("data", [b"", b"{}", b"x" * 9000])
def test_what_cannot_be_read_is_never_forgotten(here: House, data: bytes) -> None:
    nonces, near = Nonces(here.directory("replay")), Digest("0" * 64)
    nonces.spend(Digest("0" * 63 + "1"), spent(timedelta()))
    kept(here)[0].write_bytes(data)
    assert nonces.forget(near, before=NOW + timedelta(days=99), keep=frozenset()) == 0
    assert len(files(here)) == 1


def test_a_nonce_is_given_once(here: House) -> None:
    nonces, nonce = Nonces(here.directory("replay")), Digest("0" * 64)
    first, second = (Spent(Digest.of(bytes([n])), "a" * 12, NOW, NOW, NOW) for n in (1, 2))
    assert nonces.find(nonce) is None
    nonces.spend(nonce, first)
    with pytest.raises(FileExistsError):
        nonces.spend(nonce, second)
    assert nonces.find(nonce) == first
    assert files(here) == [nonce.hex]


def test_what_a_killed_writer_left_is_swept(here: House) -> None:
    nonces, nonce = Nonces(here.directory("replay")), Digest("0" * 64)
    nonces.spend(nonce, Spent(Digest.of(b""), "a" * 12, NOW, NOW, NOW))
    left = here.path / "replay/00/.x.0123456789abcdef.tmp"
    left.write_bytes(b"half")
    nonces.forget(nonce, before=NOW, keep=frozenset({nonce}))
    assert not left.exists()
