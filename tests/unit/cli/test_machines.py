"""`mvm ps`, `stop` and `logs`: by the kernel's word, and with nothing of a guest's that a terminal would obey."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.station import Station


def ids(station: Station) -> list[str]:
    return [machine["id"] for machine in station.mvm("ps", "--all", "--json").answer("machines")]


def test_nothing_runs(settled: Station) -> None:
    said = settled.mvm("ps")
    assert said.code == 0
    assert said.out.split() == ["ID", "NAME", "IMAGE", "STATE", "ACCELERATOR", "CREATED", "ENDED", "EXIT"]
    assert settled.mvm("ps", "--json").answer("machines") == []


def test_a_machine_that_has_ended(settled: Station) -> None:
    settled.mvm("run", "--name", "web", settled.flake(), "--", "complain")
    assert settled.mvm("ps", "--json").answer("machines") == []
    (machine,) = settled.mvm("ps", "--all", "--json").answer("machines")
    assert (machine["name"], machine["image"], machine["state"]) == ("web", "hello", "ended")
    assert (machine["exitCode"], machine["ended"]) == (3, "guest-exit")
    row = settled.mvm("ps", "--all").out.splitlines()[1]
    assert row.startswith(f"{machine['id']}  web   hello  ended  ")


@pytest.mark.parametrize("which", ["web", "id", "prefix"])
def test_its_console(settled: Station, which: str) -> None:
    settled.mvm("run", "--name", "web", settled.flake(), "--", "true")
    (machine,) = ids(settled)
    name = {"web": "web", "id": machine, "prefix": machine[:4]}[which]
    assert settled.mvm("logs", name).out == "booted\n"
    assert settled.mvm("logs", "--console", name).out == "booted\n"


def test_a_log_that_it_does_not_have(settled: Station) -> None:
    settled.mvm("run", "--name", "web", settled.flake(), "--", "true")
    for log in ("stdout", "stderr"):
        said = settled.mvm("logs", f"--{log}", "web")
        assert said.code == 2
        assert "it has: console.log" in said.err


def test_a_console_s_controls_are_written_out_for_a_terminal_only(settled: Station) -> None:
    settled.mvm("run", "--name", "web", settled.flake(), "--", "true")
    (machine,) = ids(settled)
    (settled.state / "machines" / machine / "console.log").write_bytes(b"\x1b[2Ja\r\nb\xff\xe2\x80\xae\n")
    raw = settled.mvm("logs", "web")
    assert raw.out.startswith("\x1b[2Ja")
    settled.monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert settled.mvm("logs", "web").out == "\\u001b[2Ja\nb�\\u202e\n"


def test_what_is_not_there(settled: Station) -> None:
    settled.mvm("run", settled.flake(), "--", "true")
    for command in ("stop", "logs"):
        for name in ("nothing", "", "../x"):
            said = settled.mvm(command, name)
            assert said.code == 2
            assert "mvm ps --all lists them" in said.err


def test_a_machine_that_does_not_run_can_t_be_stopped(settled: Station) -> None:
    settled.mvm("run", "--name", "web", settled.flake(), "--", "true")
    said = settled.mvm("stop", "web")
    assert said.code == 2
    assert "isn't running" in said.err


HOLDER = """
import sys
from mvmnix.state import Directory
with Directory.open(sys.argv[1]) as directory:
    lock = directory.lock("lock")
    print("held", flush=True)
    sys.stdin.read()
"""


def revive(station: Station, machine: str) -> "subprocess.Popen[bytes]":
    """A process that holds a machine's lock, as its supervisor would."""
    path = station.state / "machines" / machine
    status = json.loads((path / "machine.json").read_bytes())
    status["state"] = "running"
    for name in ("reason", "exitCode"):
        status.pop(name, None)
    (path / "machine.json").write_text(json.dumps(status, sort_keys=True, separators=(",", ":")))
    argv = [sys.executable, "-c", HOLDER, str(path)]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3])
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    return child


def test_a_supervisor_that_was_killed_leaves_an_end_in_the_log(settled: Station) -> None:
    settled.mvm("run", "--name", "web", settled.flake(), "--", "true")
    (machine,) = ids(settled)
    with revive(settled, machine) as child:
        (alive,) = settled.mvm("ps", "--json").answer("machines")
        assert (alive["id"], alive["state"]) == (machine, "running")
        child.kill()
    assert settled.mvm("ps", "--json").answer("machines") == []
    (dead,) = settled.mvm("ps", "--all", "--json").answer("machines")
    assert (dead["state"], dead["ended"]) == ("ended", "supervisor-died")
    last = json.loads(settled.mvm("audit", "tail", "-n", "1").out)
    assert (last["kind"], last["machine"]) == ("end", machine)


def test_stop_ends_the_supervisor(settled: Station) -> None:
    settled.mvm("run", "--name", "web", settled.flake(), "--", "true")
    (machine,) = ids(settled)
    with revive(settled, machine) as child:
        said = settled.mvm("stop", "web")
        assert (said.code, said.out) == (0, f"{machine}\n")
        assert child.wait(30) == -signal.SIGTERM
    assert settled.mvm("ps", "--json").answer("machines") == []


def test_without_a_host_key_the_end_of_a_machine_can_t_be_written_down(settled: Station) -> None:
    settled.mvm("run", "--name", "web", settled.flake(), "--", "true")
    os.rename(settled.config / "keys/host.pem", settled.path / "gone")  # noqa: PTH104
    said = settled.mvm("ps")
    assert said.code == 125
    assert "mvm key create host" in said.err
