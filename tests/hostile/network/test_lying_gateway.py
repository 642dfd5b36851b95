"""A gateway that was taken over and lies to the supervisor: the log has what the dialer connected, and no more."""

import os
from collections.abc import Mapping
from pathlib import Path
from shutil import copy

import pytest

from mvmnix.network.host import setup
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from tests.hostile.network import lies
from tests.hostile.network.clients import echo
from tests.hostile.network.world import Server, machine, own_network

pytestmark = pytest.mark.root("it makes network namespaces of its own")
_ALLOW = (f"tcp:{lies.NAME}:{lies.PORT},id=api", f"tcp:{lies.NAME}:{lies.CLOSED_PORT},id=closed")
_TAKEN_OVER = """
import sys
sys.modules["ssl"] = None
sys.path += ["/code", "/code/lies"]
import lies
from mvmnix.network.gateway import process as gateway
gateway.Gateway.serve, lies.lie = lies.serve, %r
from mvmnix.network.%%s.process import main
main(*map(int, sys.argv[1:]))
"""


def events_of(lie: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[NetworkEvent]:
    """What is logged of a machine whose gateway tells this lie, from its start to its end."""
    (tmp_path / "lies").mkdir(mode=0o755)
    copy(lies.__file__, tmp_path / "lies/lies.py")
    (tmp_path / "lies/lies.py").chmod(0o644)
    given = setup.code_directories

    def code_directories(*libraries: str) -> Mapping[str, int]:
        opened = os.open(tmp_path / "lies", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return {**given(*libraries), "/code/lies": opened}

    monkeypatch.setattr(setup, "code_directories", code_directories)
    monkeypatch.setattr(setup, "_START", _TAKEN_OVER % lie)
    with (
        own_network([lies.ADDRESS]),
        Server(lies.ADDRESS, lies.PORT, echo) as server,
        machine(tmp_path, _ALLOW, hosts=f"{lies.ADDRESS} {lies.NAME}") as here,
    ):
        told = {"hide": NetworkEventKind.OPENED, "suggest": NetworkEventKind.DENIED}.get(lie, NetworkEventKind.FORGED)
        here.event(told)
        if lie != "hide":
            here.until(lambda: here.ended)
    assert len(server.peers) == sum(it.kind is NetworkEventKind.OPENED for it in here.events), "all of them are told"
    return [it for it in here.events if it.kind is not NetworkEventKind.READY]


OPENED, FORGED, UNREPORTED = NetworkEventKind.OPENED, NetworkEventKind.FORGED, NetworkEventKind.UNREPORTED
EXPECTED = {
    "hide": [(OPENED, lies.NAME, 5), (UNREPORTED, lies.NAME, 5)],
    "hide behind another": [
        *((OPENED, lies.NAME, 5), (OPENED, lies.NAME, 5), (FORGED, lies.NAME, 5), (UNREPORTED, lies.NAME, 5))
    ],
    "forge": [(FORGED, lies.NAME, 9)],
    "rename": [(OPENED, lies.NAME, 5), (FORGED, "innocent.example.com", 5), (UNREPORTED, lies.NAME, 5)],
}


@pytest.mark.parametrize("lie", EXPECTED)
def test_connections_are_those_that_the_dialer_made(lie: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = events_of(lie, tmp_path, monkeypatch)
    assert [(it.kind, it.name, it.connection) for it in found] == EXPECTED[lie]
    assert {(it.rule, it.address, it.protocol) for it in found if it.kind is OPENED} <= {("api", lies.ADDRESS, "tcp")}


def test_an_option_is_never_the_gateways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made of a name, which has to be one; what has a text more isn't a packet."""
    (denied,) = events_of("suggest", tmp_path, monkeypatch)
    assert (denied.kind, denied.flag) == (NetworkEventKind.DENIED, "")
