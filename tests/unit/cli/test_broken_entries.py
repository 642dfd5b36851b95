"""What lies among the machines' directories and is no machine is named, left out, and left alone."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mvmnix.formats import strict
from tests.unit.cli.machines import edited, launched, ran, supervisor_of
from tests.unit.cli.station import Station

ID = "0123456789ab"


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(data)


def copied(machines: Path) -> None:
    """Another machine's status, as it stands there."""
    (machine,) = (path for path in machines.iterdir() if path.is_dir())
    put(machines / ID / "machine.json", (machine / "machine.json").read_bytes())


def writable(machines: Path) -> None:
    (machines / ID).mkdir()
    (machines / ID).chmod(0o777)


def locked(machines: Path) -> Path:
    """The status of a machine, beside a lock."""
    copied(machines)
    edited(machines / ID, machine=ID)
    return machines / ID


BROKEN: dict[str, Callable[[Path], object]] = {
    "a malformed status": lambda machines: put(machines / ID / "machine.json", b"{"),
    "an empty status": lambda machines: put(machines / ID / "machine.json", b""),
    "a status of another machine": copied,
    "a status that is no file": lambda machines: (machines / ID / "machine.json").mkdir(parents=True),
    "a lock that is a link": lambda machines: (locked(machines) / "lock").symlink_to("/etc/passwd"),
    "a lock that is no file": lambda machines: (locked(machines) / "lock").mkdir(),
    "no status, beside other files": lambda machines: put(machines / ID / "receipt.sigstore.json", b"{}"),
    "a file": lambda machines: put(machines / ID, b"no directory"),
    "a link": lambda machines: (machines / ID).symlink_to(machines.parent),
    "a directory that others may write to": writable,
    "a file by another name": lambda machines: put(machines / "notes.txt", b"no machine"),
}


def contents(path: Path) -> dict[str, bytes | None]:
    if path.is_symlink():
        return {str(path): os.fsencode(path.readlink())}
    return {str(each): each.read_bytes() if each.is_file() else None for each in (path, *path.rglob("*"))}


@pytest.mark.parametrize("way", BROKEN)
def test_the_others_are_listed_and_started(settled: Station, way: str) -> None:
    flake = settled.flake()
    assert settled.mvm("run", "--name", "web", flake, "--", "complain").code == 3
    machines = settled.state / "machines"
    BROKEN[way](machines)
    (broken,) = (path for path in machines.iterdir() if path.name in {ID, "notes.txt"})
    before = contents(broken)
    said = settled.mvm("ps", "--all", "--json")
    assert (said.code, [machine["name"] for machine in said.answer("machines")]) == (0, ["web"])
    assert f"left out: {broken}" in said.err
    assert settled.mvm("wait", "web").out == "3\n"
    said = settled.mvm("run", flake, "--", "true")
    assert said.code == 0
    assert said.err.count("left out") == 1, "and once by one command"
    assert settled.mvm("rm", "web").code == 0
    assert settled.mvm("audit", "verify").code == 0
    assert contents(broken) == before


def test_what_is_asked_for_by_its_id_says_what_is_broken(settled: Station) -> None:
    assert settled.mvm("ps").code == 0
    put(settled.state / "machines" / ID / "machine.json", b"{")
    for command, times in (("inspect", 2), ("wait", 2), ("show", 1)):
        said = settled.mvm(command, ID[:6])
        assert said.code in {2, 125}
        assert said.err.count("machine.json is not what mvm writes") == times, "and what puts in order names it too"


def test_a_machine_that_runs_without_a_status_is_named_with_its_supervisor(settled: Station) -> None:
    machine = launched(settled, "linger")
    supervisor = supervisor_of(settled, machine)
    path = settled.state / "machines" / machine / "machine.json"
    good = path.read_bytes()
    path.write_bytes(b"{")
    said = settled.mvm("ps", "--json")
    assert (said.code, said.answer("machines")) == (0, [])
    assert f"its supervisor is process {supervisor}" in said.err
    path.write_bytes(good)
    assert settled.mvm("kill", machine).code == 0


def test_the_end_of_another_machine_is_written_down(settled: Station) -> None:
    machine = launched(settled, "linger", name="web")
    put(settled.state / "machines" / ID / "machine.json", b"{")
    os.kill(supervisor_of(settled, machine), signal.SIGKILL)
    assert settled.mvm("wait", "web").out == "supervisor-died\n"
    last = json.loads(settled.mvm("audit", "tail", "-n", "1").out)
    assert (last["kind"], last["machine"]) == ("end", machine)


def test_a_status_that_is_missing_keeps_what_lies_beside_it(settled: Station) -> None:
    """It may have been removed to have the next command remove the receipt."""
    machine = ran(settled, "true")
    (machine / "machine.json").unlink()
    assert settled.mvm("ps").code == 0
    assert (machine / "receipt.sigstore.json").exists()


def test_a_directory_that_was_half_made_is_removed(settled: Station) -> None:
    settled.mvm("run", settled.flake(), "--", "true")
    put(settled.state / "machines" / ID / "plan.sigstore.json", strict.canonical({}))
    said = settled.mvm("ps")
    assert (said.code, "left out" in said.err) == (0, False)
    assert not (settled.state / "machines" / ID).exists()


def made_up(station: Station) -> Path:
    """A directory that says that a machine runs, which was never started; made from that of a machine that was."""
    machines = station.state / "machines"
    copied(machines)
    edited(machines / ID, "reason", "exitCode", machine=ID, name="forged", state="running")
    put(machines / ID / "lock", b"")
    return machines / ID


def test_no_end_is_recorded_of_a_machine_that_never_started(settled: Station) -> None:
    """The host's key signs each record: a directory alone would have it sign what never was."""
    settled.mvm("run", "--name", "web", settled.flake(), "--", "complain")
    forged = made_up(settled)
    before, log = contents(forged), settled.mvm("audit", "tail").out
    for _ in range(2):
        said = settled.mvm("ps", "--all", "--json")
        states = {machine["name"]: machine["state"] for machine in said.answer("machines")}
        assert (said.code, states) == (0, {"web": "ended", "forged": "dead"})
        assert f"left as it is: {forged}: it says that its machine ran" in said.err
    assert settled.mvm("wait", "forged").out == "dead\n"
    assert (contents(forged), settled.mvm("audit", "tail").out) == (before, log)
    said = settled.mvm("run", settled.flake("other"), "--", "true")
    assert (said.code, f"mvm rm {ID} removes it" in said.err) == (0, True)
    assert settled.mvm("rm", ID).code == 0
    assert "left as it is" not in settled.mvm("ps").err


def test_without_a_host_key_the_others_are_listed(settled: Station) -> None:
    """Nothing of the log can be read then, and nothing be recorded."""
    machine = launched(settled, "linger", name="web")
    settled.mvm("run", settled.flake("other"), "--", "true")
    (other,) = (path for path in (settled.state / "machines").iterdir() if path.is_dir() and path.name != machine)
    edited(other, "reason", "exitCode", state="running")
    (settled.config / "keys/host.pem").rename(settled.path / "host.pem")
    before = contents(other)
    said = settled.mvm("ps", "--json")
    assert (said.code, [machine["name"] for machine in said.answer("machines")]) == (0, ["web"])
    assert f"left as it is: {other}: its end can't be recorded: there is no host key" in said.err
    assert contents(other) == before
    (settled.path / "host.pem").rename(settled.config / "keys/host.pem")
    assert settled.mvm("ps").code == 0
    assert json.loads((other / "machine.json").read_text())["state"] == "ended"
    assert settled.mvm("kill", machine).code == 0
