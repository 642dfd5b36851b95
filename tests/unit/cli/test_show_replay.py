"""`mvm show` ticks no plan that would not start: what a start says of nonces, clock and log, it says, too."""

import shutil
from collections.abc import Callable
from datetime import timedelta

import pytest

from mvmnix.errors import ReasonCode as Code
from tests.unit.cli.plans import set_mark, signed
from tests.unit.cli.policies import keep_checkpoints
from tests.unit.cli.shown import broken, log_changed, nodes, snapshot
from tests.unit.cli.station import Station


def as_it_is(_: Station) -> None:
    """Nothing happens to it."""


def lost(station: Station) -> None:
    shutil.rmtree(station.state / "replay")


def set_back(station: Station) -> None:
    set_mark(station, timedelta(minutes=6))


def anchor_gone(station: Station) -> None:
    station.path.joinpath("usb").rename(station.path / "unplugged")


@pytest.fixture
def anchored(settled: Station) -> Station:
    """A user whose every start has to be handed to an anchor."""
    (settled.path / "usb").mkdir(mode=0o700)
    keep_checkpoints(settled, settled.path / "usb/checkpoint")
    return settled


@pytest.mark.parametrize(
    ("happens", "code"),
    [
        (lost, Code.STATE_MISMATCH),
        (set_back, Code.CLOCK_WENT_BACK),
        (anchor_gone, Code.ANCHOR_UNAVAILABLE),
        (log_changed, Code.LOG_MISMATCH),
        (as_it_is, Code.REPLAY),
    ],
)
def test_a_plan_that_would_not_start(anchored: Station, happens: Callable[[Station], None], code: Code) -> None:
    bundle = signed(anchored, "--single-use")
    assert anchored.mvm("launch", bundle).code == 0
    happens(anchored)
    said = anchored.mvm("show", bundle, "--json")
    assert (said.code, broken(said)["plan"]) == (1, f"refused ['{code}']")
    launched = anchored.mvm("launch", bundle)
    assert launched.code == 126
    assert f"refused [{code}]" in launched.err


def test_a_state_that_was_put_back(anchored: Station) -> None:
    """The anchor knows better than the log: no plan of this state would start, and nothing of the log is ticked."""
    bundle = signed(anchored, "--single-use")
    assert anchored.mvm("run", anchored.flake("other"), "--", "true").code == 0
    shutil.copytree(anchored.state, anchored.path / "backup")
    assert anchored.mvm("launch", bundle).code == 0
    shutil.rmtree(anchored.state)
    shutil.copytree(anchored.path / "backup", anchored.state)
    said = anchored.mvm("show", bundle, "--json")
    assert (said.code, broken(said)["plan"]) == (1, f"refused ['{Code.LOG_MISMATCH}']")
    (machine,) = anchored.mvm("ps", "--all", "--json").answer("machines")
    said = anchored.mvm("show", machine["id"], "--json")
    assert (said.code, broken(said)["log"]) == (1, f"refused ['{Code.LOG_MISMATCH}']")
    assert {broken(said)[key] for key in ("machine", "receipt", "policy")} == {"not verified"}


def test_what_cannot_be_told_without_a_key(settled: Station) -> None:
    """Nothing was logged yet: no key is needed. Then it is, to read the log, and nothing is ticked without it."""
    bundle = signed(settled, "--single-use")
    key, away = settled.config / "keys/host.pem", settled.path / "host.pem"
    key.rename(away)
    said = settled.mvm("show", bundle, "--json")
    assert (said.code, broken(said)) == (0, {})
    away.rename(key)
    assert settled.mvm("launch", bundle).code == 0
    key.rename(away)
    said = settled.mvm("show", bundle, "--json")
    assert (said.code, broken(said)) == (2, {"plan": "not verified", "policy": "not verified"})
    assert all("there is no host key" in nodes(said)[key]["verdict"]["why"] for key in ("plan", "policy"))


def test_under_a_clock_that_went_back_nothing_is_called_in_force(settled: Station) -> None:
    bundle = signed(settled)
    set_mark(settled, timedelta(minutes=6))
    before = snapshot(settled)
    said = settled.mvm("show", bundle, "--json")
    wanted = {"plan": f"refused ['{Code.CLOCK_WENT_BACK}']", "policy": "not verified"}
    assert (said.code, broken(said)) == (1, wanted)
    assert "whether it has expired can't be told: " in nodes(said)["policy"]["verdict"]["why"]
    assert snapshot(settled) == before


def test_showing_a_plan_where_nothing_ever_ran_changes_nothing(settled: Station) -> None:
    bundle = signed(settled, "--single-use")
    before = snapshot(settled)
    assert settled.mvm("show", bundle).code == 0
    assert snapshot(settled) == before
