"""A user whose launcher keeps machines waiting, with a hypervisor that saves and restores, without a machine."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.launch.control.caller_check import CallerCheck
from mvmnix.launch.control.connection import Connection
from mvmnix.launcher import session
from mvmnix.launcher.held_templates import HeldTemplates
from mvmnix.launcher.pools import Pools
from mvmnix.launcher.waiting import wait_for_claim
from mvmnix.system.roots import Roots
from tests.patience import until
from tests.unit.cli.station import Station
from tests.unit.launcher.serving import Serving, serving


def states(station: Station) -> list[object]:
    return [machine["state"] for machine in station.mvm("ps", "--all", "--json").answer("machines")]


@pytest.fixture
def pooled(settled: Station, monkeypatch: pytest.MonkeyPatch) -> Station:
    """A user whose hypervisor saves guests, and whose host's counter is always measured the same."""
    monkeypatch.setattr("mvmnix.launcher.waiting._LOOK", 0.1)
    settled.saves_guests()
    return settled


@pytest.fixture
def launcher(pooled: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    """A launcher that keeps pools, in a fork of this process."""
    held, pools, check = HeldTemplates(), Pools(), CallerCheck.of_this_process()

    def serve(connection: socket.socket) -> int:
        return session.serve(connection, check, held, pools)

    def wait(end: socket.socket, plan: int) -> int:
        return wait_for_claim(end, plan, check, held)

    def quieten() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)

    with serving(tmp_path / "run", serve, quieten, wait=wait, kept=(held, pools)) as made:

        def reach(_roots: Roots, *, private: bool) -> Connection:
            assert not private
            return Connection(made.connect())

        monkeypatch.setattr("mvmnix.api.launch.reach", reach)
        yield made
        os.kill(made.process, signal.SIGTERM)
        made.wait()
    until(lambda: "waiting" not in states(pooled))
