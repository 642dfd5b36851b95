"""Plans for once on the command line: the second launch says replay, and so does the log; and what a clock may say."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from mvmnix.digest import Digest
from mvmnix.launch.gate.clock import CLOCK, Mark, Moment
from tests.unit.cli.plans import drafted, log, set_mark, signed
from tests.unit.cli.policies import keep_checkpoints
from tests.unit.cli.station import Said, Station
from tests.unit.launch.fake_hypervisor import Scenario


def refused(station: Station, said: Said, code: str) -> None:
    """It exits as a refusal does, says why, and it is the last thing in the log; nothing started."""
    assert (said.code, said.out) == (126, "")
    assert f"refused [{code}]" in said.err
    last = log(station)[-1]
    assert (last["kind"], last["reasons"]) == ("refusal", [code])
    assert "plan" in last


def test_a_plan_for_once_starts_once(settled: Station) -> None:
    bundle = signed(settled, "--single-use", command=("echo", "once"))
    said = settled.mvm("launch", bundle)
    assert (said.code, said.out) == (0, "once\n")
    (machine,) = (path for path in (settled.state / "machines").iterdir() if path.is_dir())
    refused(settled, settled.mvm("launch", bundle), "replay")
    again = settled.mvm("launch", bundle)
    refused(settled, again, "replay")
    assert f"its nonce was spent by machine {machine.name} at " in again.err
    kinds = [record["kind"] for record in log(settled)]
    assert kinds == ["admission", "start", "end", "admission", "refusal", "admission", "refusal"]
    settled.mvm("plan", "sign", "-o", bundle, settled.path / "plan.json")
    refused(settled, settled.mvm("launch", bundle), "replay")


def test_a_plan_for_more_says_so(settled: Station) -> None:
    bundle = signed(settled)
    assert json.loads((settled.path / "plan.json").read_bytes())["predicate"]["use"] == "within-window"
    assert [settled.mvm("launch", bundle).code for _ in range(2)] == [0, 0]


def test_the_plan_of_a_run_is_for_once(settled: Station) -> None:
    assert settled.mvm("run", settled.flake(), "--", "true").code == 0
    (bundle,) = (settled.state / "machines").glob("*/plan*")
    refused(settled, settled.mvm("launch", bundle), "replay")


def test_a_guest_that_did_not_boot_has_spent_it(settled: Station) -> None:
    bundle = signed(settled, "--single-use")
    settled.hypervisor(Scenario.PANICS)
    assert settled.mvm("launch", bundle).code == 125
    settled.hypervisor()
    refused(settled, settled.mvm("launch", bundle), "replay")


def test_a_name_that_is_none_spends_nothing(settled: Station) -> None:
    bundle = signed(settled, "--single-use")
    assert settled.mvm("launch", "--name", "../x", bundle).code == 2
    assert settled.mvm("launch", bundle).code == 0


def test_a_plan_that_says_nothing_about_its_use(settled: Station) -> None:
    drafted(settled)
    plan = settled.path / "plan.json"
    value = json.loads(plan.read_bytes())
    del value["predicate"]["use"]
    plan.write_text(json.dumps(value))
    said = settled.mvm("plan", "sign", plan)
    assert said.code == 126
    assert "plan.use: missing" in said.err


def test_nonces_that_were_lost(settled: Station) -> None:
    bundle = signed(settled, "--single-use")
    settled.mvm("launch", bundle)
    shutil.rmtree(settled.state / "replay")
    refused(settled, settled.mvm("launch", bundle), "state-mismatch")


def remove_nonce(station: Station) -> None:
    """Of a plan that started, but not last."""
    assert station.mvm("run", station.flake("other"), "--", "true").code == 0
    nonce = json.loads((station.path / "plan.json").read_bytes())["predicate"]["nonce"]
    (path,) = (station.state / "replay").glob(f"??/{Digest.of(nonce.encode()).hex}")
    path.unlink()


def test_a_nonce_that_was_removed(settled: Station) -> None:
    """The log has the start: the plan doesn't start again, and a check of the log says so."""
    bundle = signed(settled, "--single-use")
    assert settled.mvm("launch", bundle).code == 0
    assert settled.mvm("audit", "verify").code == 0
    remove_nonce(settled)
    said = settled.mvm("audit", "verify")
    assert (said.code, said.out) == (1, "")
    assert "refused [state-mismatch]" in said.err
    assert "record 1 of the log is the start of machine " in said.err
    (reason,) = settled.mvm("audit", "verify", "--json").answer("log")["reasons"]
    assert reason["code"] == "state-mismatch"
    refused(settled, settled.mvm("launch", bundle), "replay")
    copy = settled.path / "copy"
    shutil.copytree(settled.state / "audit", copy)
    assert settled.mvm("audit", "verify", "--directory", copy).code == 0, "another log's nonces are elsewhere"


def test_a_nonce_that_may_be_forgotten_is_not_missed(settled: Station) -> None:
    bundle = signed(settled, "--single-use", "--valid-for", "1")
    assert settled.mvm("launch", bundle).code == 0
    remove_nonce(settled)
    for ahead, code in ((timedelta(hours=1), 1), (timedelta(hours=1, minutes=10), 0)):
        settled.monkeypatch.setattr(
            "mvmnix.launch.gate.clock.HostClock.look",
            lambda self, ahead=ahead: Moment(datetime.now(UTC) + ahead, datetime.now(UTC) + ahead),
        )
        assert settled.mvm("audit", "verify").code == code


def test_a_clock_that_went_back(settled: Station) -> None:
    bundle = signed(settled, "--single-use")
    reference = settled.flake("other")
    set_mark(settled, timedelta(minutes=6))
    for command in (("launch", bundle), ("run", reference, "--", "true")):
        refused(settled, settled.mvm(*command), "clock-went-back")
    assert not [path for path in (settled.state / "replay").glob("??") if path.is_dir()]
    set_mark(settled, timedelta(minutes=4))
    assert settled.mvm("launch", bundle).code == 0


def test_a_clock_that_jumped_is_told_once(settled: Station) -> None:
    reference = settled.flake()
    settled.mvm("run", reference, "--", "true")
    path = settled.state / "replay" / CLOCK
    mark = Mark.parse(path.read_bytes())
    value = json.loads(mark.to_bytes()) | {"wallMicros": 0}
    path.write_text(json.dumps(value, sort_keys=True, separators=(",", ":")))
    said = settled.mvm("run", reference, "--", "true")
    assert said.code == 0
    assert said.err.count("the host's clock was set forward by ") == 1
    assert "clock" not in settled.mvm("run", reference, "--", "true").err
    assert Mark.parse(path.read_bytes()).least < datetime.now(UTC)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff"])
def test_a_mark_that_was_written_over(settled: Station, data: bytes) -> None:
    bundle = signed(settled, "--single-use")
    settled.mvm("launch", bundle)
    (settled.state / "replay" / CLOCK).write_bytes(data)
    refused(settled, settled.mvm("launch", bundle), "state-mismatch")


# A state that is older than its anchor


@pytest.mark.parametrize("required", [True, False])
def test_a_state_that_was_put_back_never_starts_a_plan_again(settled: Station, required: bool) -> None:
    """However often it is tried, and however much longer than the anchor's the log becomes by that."""
    usb = settled.path / "usb"
    usb.mkdir(mode=0o700)
    keep_checkpoints(settled, usb / "checkpoint", required=required)
    bundle = signed(settled, "--single-use")
    assert settled.mvm("run", settled.flake("other"), "--", "true").code == 0
    shutil.copytree(settled.state, settled.path / "backup")
    assert settled.mvm("launch", bundle).code == 0
    seen = (usb / "checkpoint").read_bytes()

    shutil.rmtree(settled.state)
    shutil.copytree(settled.path / "backup", settled.state)
    logged = log(settled)
    for _ in range(6):
        said = settled.mvm("launch", bundle)
        assert (said.code, said.out) == (126, "")
        assert "refused [log-mismatch]" in said.err
        settled.mvm("ps")
    assert (usb / "checkpoint").read_bytes() == seen
    assert log(settled) == logged, "what is evidence stays as it is"


def test_a_log_that_was_removed_brings_no_plan_back(settled: Station) -> None:
    bundle = signed(settled, "--single-use")
    assert settled.mvm("launch", bundle).code == 0
    shutil.rmtree(settled.state / "audit")
    said = settled.mvm("launch", bundle)
    assert (said.code, "refused [log-mismatch]" in said.err) == (126, True)
    assert settled.mvm("audit", "new-log").code == 0
    refused(settled, settled.mvm("launch", bundle), "replay")


def test_the_same_state_by_another_way_is_the_same_state(settled: Station) -> None:
    """Where a symbolic link of the user's leads there, or is not followed, nothing starts twice."""
    bundle = signed(settled, "--single-use")
    assert settled.mvm("launch", bundle).code == 0
    link = settled.path / "elsewhere"
    link.symlink_to(settled.state.parent)
    settled.monkeypatch.setenv("XDG_STATE_HOME", str(link))
    said = settled.mvm("launch", bundle)
    assert (said.code, said.out) == (126, "")


@pytest.mark.parametrize("removed", [("audit",), ("audit", "replay"), ("replay",)], ids="+".join)
def test_with_an_anchor_no_part_of_the_state_can_be_lost_unnoticed(settled: Station, removed: tuple[str, ...]) -> None:
    usb = settled.path / "usb"
    usb.mkdir(mode=0o700)
    keep_checkpoints(settled, usb / "checkpoint")
    bundle = signed(settled, "--single-use")
    assert settled.mvm("launch", bundle).code == 0
    for name in removed:
        shutil.rmtree(settled.state / name)
    for _ in range(3):
        said = settled.mvm("launch", bundle)
        assert (said.code, said.out) == (126, "")
        assert f"refused [{'log-mismatch' if 'audit' in removed else 'state-mismatch'}]" in said.err
