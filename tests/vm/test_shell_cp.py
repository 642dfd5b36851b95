"""Terminals in a real machine and copies into and out of it, by the real agent and kernel."""

import json
import os
import signal
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import World
from tests.patience import until
from tests.seat import Seat

pytestmark = pytest.mark.vm

#: What the machine was started with; its verbs are those that `mvm run` grants unasked.
OPTIONS = (
    "-d",
    "--rm",
    "--name",
    "open",
    "-m",
    "160m",
    "-c",
    "2",
    "-e",
    "GREETING=hello there",
    "-w",
    "/tmp",
    "-u",
    "1234:1235",
)


@pytest.fixture(scope="module")
def machine(world: World, minimal: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    room = tmp_path_factory.mktemp("shell")
    (room / "shared").mkdir(mode=0o755)
    (room / "shared/greeting").write_text("from the host\n")
    volume = ("-v", f"{room / 'shared'}:/tmp/shared:ro")
    launched = world.home.mvm("run", *OPTIONS, *volume, minimal, "--", "/bin/busybox", "sleep", "1000")
    assert launched.returncode == 0, launched.stderr.decode()
    found = launched.stdout.decode().strip()
    yield found
    assert world.home.mvm("stop", found).returncode == 0
    until(lambda: world.home.mvm("inspect", found).returncode == 2, lambda: "--rm keeps it")


def sits(world: World, *arguments: str, command: tuple[str, ...] = ("shell",)) -> Seat:
    """`mvm shell`, or another command, at a terminal."""
    return Seat(world.home.argv(*command, *arguments), world.home.environment | {"TERM": "vt220"}, Path("/"))


def test_what_a_detached_run_was_told_is_so_in_its_guest(world: World, machine: str) -> None:
    script = "id -u; id -g; pwd; nproc; echo $GREETING; cat /tmp/shared/greeting; grep MemTotal /proc/meminfo"
    done = world.home.mvm("exec", "open", "/bin/busybox", "sh", "-c", f"{script}; echo x 2>&1 >/tmp/shared/new")
    *lines, memory, failed = done.stdout.decode().splitlines()
    assert lines == ["1234", "1235", "/tmp", "2", "hello there", "from the host"], done.stderr.decode()
    assert 96 * 1024 < int(memory.split()[1]) <= 160 * 1024
    assert "Read-only file system" in failed
    listed = json.loads(world.home.mvm("ps", "--json").stdout)["result"]
    assert [(it["name"], it["state"], it["exitCode"]) for it in listed if it["id"] == machine] == [
        ("open", "running", None)
    ]


def test_exec_with_a_terminal(world: World, machine: str) -> None:
    seat = sits(
        world,
        "-e",
        "WORD=typed",
        machine,
        "/bin/busybox",
        "sh",
        "-c",
        "tty; stty size; echo $WORD; cat",
        command=("exec", "-it"),
    )
    seat.until(b"drive this terminal")
    seat.until(b"/dev/pts/0\r\n30 100\r\ntyped\r\n")
    seat.types(b"again\r\x04")
    seat.until(b"again\r\nagain\r\n")
    assert seat.leaves() == 0


def test_a_run_in_a_terminal(world: World, machine: str, minimal: str) -> None:
    """Another machine of the same image, whose command is the one that the terminal is for."""
    script = "tty; stty size; id -u; exit 5"
    seat = sits(world, "-it", minimal, "--", "/bin/busybox", "sh", "-c", script, command=("run",))
    seat.until(b"drive this terminal")
    seat.until(b"/dev/pts/0\r\n30 100\r\n1000\r\n")
    assert seat.leaves() == 5
    last = json.loads(world.home.mvm("ps", "--all", "--json").stdout)["result"][-1]
    assert (last["image"], last["ended"], last["exitCode"]) == ("minimal", "guest-exit", 5)


def test_a_shell_on_a_terminal(world: World, machine: str) -> None:
    seat = sits(world, machine)
    seat.until(b"drive this terminal")
    seat.types(b"stty size; tty; id -u; echo $TERM\r")
    seat.until(b"30 100\r\n/dev/pts/0\r\n1234\r\nvt220\r\n")
    termios.tcsetwinsize(seat.seat, (50, 132))
    seat.child.send_signal(signal.SIGWINCH)
    seat.types(b"while [ $(stty size | cut -c1) = 3 ]; do :; done; stty size\r")
    seat.until(b"50 132\r\n")
    seat.types(b"exec 3</dev/ptmx && echo $((6 * 7)); exit 5\r")
    seat.until(b"42\r\n")
    assert seat.leaves() == 5


def test_a_command_on_a_terminal_and_its_keys(world: World, machine: str) -> None:
    seat = sits(world, machine, "/bin/busybox", "sh", "-c", "trap 'exit 6' INT; echo ready; sleep 100 & wait")
    seat.until(b"ready\r\n")
    seat.types(b"\x03")
    assert seat.leaves() == 6


def test_copies(world: World, machine: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "d/deeper").mkdir(parents=True)
    (tree / "d/large").write_bytes(os.urandom(3_000_000))
    (tree / os.fsdecode(b"\xff\n")).write_bytes(b"oddly named")
    (tree / "run").write_bytes(b"#!/bin/sh\n")
    (tree / "run").chmod(0o4755)
    into = world.home.mvm("cp", tree, f"{machine}:/tmp")
    assert into.returncode == 0, into.stderr.decode()
    seat = sits(world, machine, "/bin/busybox", "stat", "-c", "%a %u", "/tmp/tree/run")
    seat.until(b"755 1234\r\n")
    assert seat.leaves() == 0
    out = world.home.mvm("cp", f"{machine}:/tmp/tree", tmp_path / "back")
    assert out.returncode == 0, out.stderr.decode()
    for path in tree.rglob("*"):
        other = tmp_path / "back" / path.relative_to(tree)
        assert path.is_dir() if other.is_dir() else path.read_bytes() == other.read_bytes()
    again = world.home.mvm("cp", tree, f"{machine}:/tmp")
    assert (again.returncode, b"File exists" in again.stderr) == (1, True)
    assert world.home.mvm("cp", tree, f"{machine}:/etc").returncode == 1, "that is read-only"
    assert world.home.mvm("cp", f"{machine}:/dev/zero", tmp_path / "zero").returncode == 1
    links = world.home.mvm("cp", f"{machine}:/usr/bin", tmp_path / "bin")
    assert (links.returncode, b"refused [copy-refused]" in links.stderr) == (126, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "tree"]
