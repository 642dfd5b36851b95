"""Callers killed while they wait for something of a machine: it stays as it is, and nothing of theirs is left in it."""

import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from mvmnix.machines.status import MachineState
from tests.patience import until
from tests.unit.cli.machines import launch_web, supervisor_of
from tests.unit.cli.station import Station


def launched(station: Station) -> int:
    """The supervisor of a detached machine named web, whose command runs on."""
    launch_web(station, "--verb", "exec")
    opened_last = {"control", "output.log"}
    until(lambda: {path.name for path in station.state.glob("machines/*/*")} >= opened_last)
    return supervisor_of(station, "web")


@dataclass(frozen=True, slots=True)
class Caller:
    """A command that waits for something of a machine, and how one sees that it does."""

    words: tuple[str, ...]
    #: What it has printed by then, or nothing.
    says: bytes = b""
    ends_it: bool = False


CALLERS = {
    "exec": Caller(("exec", "web", "linger")),
    "logs": Caller(("logs", "--console", "--follow", "web"), says=b"booted\n"),
    "events": Caller(("events", "--follow", "web"), says=b"{"),
    "wait": Caller(("wait", "web")),
    "stop": Caller(("stop", "web"), ends_it=True),
}


@pytest.mark.parametrize("state", [MachineState.RUNNING, MachineState.PAUSED])
@pytest.mark.parametrize("name", CALLERS)
def test_a_killed_caller_leaves_the_machine_as_it_is(settled: Station, name: str, state: MachineState) -> None:
    caller = CALLERS[name]
    supervisor = launched(settled)
    before = descriptors(supervisor)
    if state is MachineState.PAUSED and name != "exec":
        assert settled.mvm("pause", "web").code == 0
    calling = settled.start(*caller.words)
    until(lambda: is_waiting(settled, calling, name))
    if caller.says:
        assert calling.stdout is not None
        assert calling.stdout.readline().startswith(caller.says)
    if state is MachineState.PAUSED and name == "exec":
        assert settled.mvm("pause", "web").code == 0
    calling.kill()
    calling.communicate()
    if caller.ends_it:
        until(lambda: settled.mvm("ps", "--json").answer("machines") == [])
        assert settled.mvm("inspect", "web").answer("machine")["ended"] == "stopped"
        return
    (listed,) = settled.mvm("ps", "--json").answer("machines")
    assert listed["state"] == state
    if state is MachineState.PAUSED:
        assert settled.mvm("resume", "web").code == 0
    until(lambda: descriptors(supervisor) <= before)
    assert settled.mvm("kill", "web").code == 0


def descriptors(process: int) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def is_waiting(station: Station, calling: "subprocess.Popen[bytes]", name: str) -> bool:
    """Whether it has come so far that it waits: its command runs, or it looked at the machines and sleeps."""
    if name == "exec":
        return '"exec"' in station.mvm("audit", "tail").out
    if name == "stop":
        states = {each["state"] for each in station.mvm("ps", "--json").answer("machines")}
        return not states & {"running", "paused"}
    status = Path(f"/proc/{calling.pid}/status").read_text()
    opened = list[str]()
    for fd in Path(f"/proc/{calling.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            opened.append(str(fd.readlink()))
    return "\nState:\tS" in status and any(path.endswith("/machines") for path in opened)
