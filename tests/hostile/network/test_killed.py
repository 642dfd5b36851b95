"""A supervisor that is killed at any moment leaves no process of its network, and no namespace."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.patience import POLL, until
from tests.repository import ROOT
from tests.support.processes import gone

pytestmark = pytest.mark.root("it makes network namespaces of its own")
#: Makes a network, and says how far it has come.
_SUPERVISOR = """
import fcntl, json, os, sys, time
from pathlib import Path
from mvmnix.network.host.setup import MachineNetwork
from mvmnix.plan.network import Network, parse_rules
from mvmnix.plan.network_endpoints import PublishedPort
from tests.hostile.stand_in import jail
from tests.unit.network.processes import process_ids

with jail(Path(sys.argv[1])) as made:
    print("begin", flush=True)
    rules = parse_rules(["https://api.example.com"], [])
    network = MachineNetwork(Network(rules, (PublishedPort.parse("18099:80"),)), made)
    network.attachment  # the namespace is there
    found = fcntl.ioctl(network._namespace.datagrams, 0x894C)  # SIOCGSKNS
    own = os.fstat(found).st_ino
    os.close(found)
    print(json.dumps({"namespace": own}), flush=True)
    network.start()
    print(json.dumps({"namespace": own, "pids": process_ids(network)}), flush=True)
    signal.pause()
"""


def _descendants(process: int) -> set[int]:
    """Of a process, all that it started and these did."""
    found: set[int] = set()
    for task in Path(f"/proc/{process}/task").glob("*"):
        with suppress(OSError):
            for child in map(int, (task / "children").read_text().split()):
                found |= {child} | _descendants(child)
    return found


def _has_process(namespace: int) -> bool:
    for link in Path("/proc").glob("[0-9]*/ns/net"):
        with suppress(OSError):
            if str(link.readlink()) == f"net:[{namespace}]":
                return True
    return False


@pytest.mark.parametrize("lines", [1, 2, 3], ids=["while it is made", "when it is ready", "when it runs"])
def test_nothing_is_left(tmp_path: Path, lines: int) -> None:
    words = (sys.executable, "-c", _SUPERVISOR, str(tmp_path))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    supervisor = subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, cwd=ROOT)
    assert supervisor.stdout is not None
    found: dict[str, Any] = {}
    try:
        said = [supervisor.stdout.readline() for _ in range(lines)][-1]
        found = json.loads(said) if lines > 1 else {}
        if lines == 1:
            time.sleep(POLL)
        started = _descendants(supervisor.pid)
    finally:
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait()
        supervisor.stdout.close()
    until(lambda: all(map(gone, started)))
    if lines > 1:
        assert not _has_process(found["namespace"])
    if lines > 2:
        assert set(found["pids"]) <= started
