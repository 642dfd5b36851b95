"""A user at a terminal, for each test a new one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.system.private_dirs import Directory
from tests.support import forked_launcher
from tests.unit.cli.releases import Release, release
from tests.unit.cli.station import Station, ready
from tests.unit.launch.house import end_machines


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Station]:
    """A user who never ran mvm, on a machine without a policy of its own. Afterwards none of its machines runs on."""
    (tmp_path / "home").mkdir(mode=0o700)
    for name in [name for name in os.environ if name.startswith(("XDG_", "MVMNIX_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("mvmnix.system.checkouts.home_of", lambda _: str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("mvmnix.provenance.policy.policy_files.FLOOR", str(tmp_path / "etc"))
    monkeypatch.chdir("/")
    forked_launcher.use(monkeypatch)
    made = Station(tmp_path, capfd, monkeypatch)
    yield made
    machines = made.state / "machines"
    if machines.exists():
        with Directory.open(str(machines)) as directory:
            end_machines(directory)


@pytest.fixture
def settled(station: Station) -> Station:
    """A user who has run something before: keys, a policy, the builder image."""
    return ready(station)


@pytest.fixture
def it(station: Station) -> Release:
    """A file that somebody downloaded, with its provenance beside it."""
    return release(station)
