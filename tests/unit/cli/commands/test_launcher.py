"""`mvm launcher`: what starts machines is shown, and ended; machines are not its matter."""

import os
import signal
from collections.abc import Iterator

import pytest

from mvmnix.api.launchers import list_launchers
from mvmnix.launch.control import launcher_socket
from tests.patience import until
from tests.support.forks import fork_that
from tests.unit.cli.station import Station

KEY = "0123456789abcdef" * 2


@pytest.fixture
def running(station: Station) -> Iterator[int]:
    """The process of a launcher, as far as its lock tells."""

    def hold() -> None:
        with station.roots() as roots:
            directory = roots.state.child(launcher_socket.DIRECTORY)
            assert launcher_socket.lock(directory, KEY) is not None
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

    with fork_that(hold) as process:
        yield process


def test_without_one_there_is_nothing_to_show_and_to_end(station: Station) -> None:
    assert station.mvm("launcher", "ls", "--json").answer("launchers") == []
    assert (station.mvm("launcher", "stop").code, station.mvm("launcher", "stop").out) == (0, "")


def test_launchers_are_listed_and_ended(station: Station, running: int) -> None:
    assert station.mvm("launcher", "ls", "--json").answer("launchers") == [{"key": KEY, "process": running}]
    assert station.mvm("launcher", "ls").out.split() == ["KEY", "PROCESS", KEY, str(running)]
    said = station.mvm("launcher", "stop")
    assert (said.code, said.out) == (0, f"{running}\n")
    with station.roots() as roots:
        until(lambda: not list_launchers(roots))


def test_the_doctor_shows_them(station: Station, running: int) -> None:
    findings = {each["what"]: each for each in station.mvm("doctor", "--json").answer("doctor")}
    assert findings["launchers"]["said"] == f"process {running}"
    assert findings["launchers"]["health"] == "good"
