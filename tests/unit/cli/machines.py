"""Starts machines by command, types to them, and lists what they left."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mvmnix.formats import strict
from tests.patience import EVENT_PATIENCE
from tests.repository import ROOT
from tests.unit.cli.plans import flake_of, signed
from tests.unit.cli.station import Station


def launch_web(station: Station, *options: str, **manifest: Any) -> None:
    """A detached machine named web, whose command runs on."""
    station.monkeypatch.setattr("mvmnix.launch.runtime.supervisor.GRACE", 0.1)
    bundle = signed(station, *options, reference=station.flake(**manifest), command=("linger",))
    said = station.mvm("launch", "--detach", "--name", "web", bundle)
    assert said.code == 0, said.err


def kinds(station: Station) -> list[str]:
    return [json.loads(line)["kind"] for line in station.mvm("audit", "tail").out.splitlines()]


def typed(station: Station, *arguments: str, stdin: bytes) -> "subprocess.CompletedProcess[bytes]":
    argv = [sys.executable, "-m", "mvmnix.cli", *arguments]
    return subprocess.run(
        argv, input=stdin, env={"HOME": str(station.home)}, cwd=ROOT, capture_output=True, check=False
    )


def on_a_terminal(
    station: Station, *arguments: str, keys: bytes = b"", environment: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """The exit code of a command whose three streams are a terminal, and what the terminal got."""
    master, terminal = os.openpty()
    argv = [sys.executable, "-m", "mvmnix.cli", *arguments]
    child = subprocess.Popen(
        argv,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={"HOME": str(station.home)} | dict(environment or {}),
        cwd=ROOT,
    )
    os.close(terminal)
    os.write(master, keys)
    said = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:  # the terminal hung up
            break
        said += data
    os.close(master)
    return child.wait(EVENT_PATIENCE), said


def ids(station: Station) -> list[str]:
    return [machine["id"] for machine in station.mvm("ps", "--all", "--json").answer("machines")]


def launched(station: Station, *command: str, name: str = "", options: tuple[str, ...] = ()) -> str:
    """A detached machine; returns its id. Whatever ends it ends it at once."""
    station.monkeypatch.setattr("mvmnix.launch.runtime.supervisor.GRACE", 0.1)
    said = station.mvm("launch", "--detach", "--name", name, signed(station, *options, command=command))
    assert said.code == 0, said.err
    return said.out.strip()


def supervisor_of(station: Station, machine: str) -> int:
    return int(station.mvm("inspect", machine).answer("machine")["supervisor"])


def ran(station: Station, *command: str) -> Path:
    """The directory of a machine named web that has run this to its end."""
    station.mvm("run", "--name", "web", flake_of(station), "--", *command)
    (machine,) = machines(station)
    return machine


def edited(home: Path, /, *without: str, **changes: object) -> None:
    """Write into the status in a machine's directory what its mvm did not."""
    path = home / "machine.json"
    status = {**json.loads(path.read_bytes()), **changes}
    path.write_bytes(strict.canonical({name: value for name, value in status.items() if name not in without}))


def machines(station: Station) -> list[Path]:
    where = station.state / "machines"
    return [path for path in where.iterdir() if path.is_dir()] if where.exists() else []


def workload(*argv: str) -> dict[str, object]:
    return {"command": list(argv), "environment": {}, "directory": "/", "user": {"uid": 1000, "gid": 1000}}
