"""Waits for machines of a world and finds their processes and states."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.conftest import World
from tests.hypervisors import supervisor
from tests.patience import PATIENCE, until

HELLO = "./examples/hello"


def done(world: World, *words: str | Path) -> str:
    """Run `mvm` in a world, where it has to succeed, and return what it prints."""
    finished = world.home.mvm(*words)
    assert finished.returncode == 0, finished.stderr.decode()
    return finished.stdout.decode().strip()


def inside(world: World, machine: str, script: str) -> str:
    """The same of a shell in a machine."""
    return done(world, "exec", machine, "/bin/busybox", "sh", "-c", script)


def wait_for(what: Callable[[], object]) -> None:
    """Wait until something is so."""
    until(what, seconds=PATIENCE)


def states(world: World) -> dict[str, dict[str, str]]:
    """By each machine's id, what its status file says."""
    found = {}
    for path in (world.home.state / "machines").glob("*/machine.json"):
        found[path.parent.name] = json.loads(path.read_bytes())
    return found


def machines(world: World) -> list[dict[str, object]]:
    listed = world.home.mvm("ps", "--all", "--json")
    assert listed.returncode == 0, listed.stderr.decode()
    return list(json.loads(listed.stdout)["result"])


def child(parent: int, name: str) -> int:
    """The one child with such a name."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        if f"\nPPid:\t{parent}\n" in text and text.startswith(f"Name:\t{name}"):
            return int(status.parent.name)
    raise LookupError(name)


def processes_of(world: World, machine: str) -> tuple[int, int]:
    """Supervisor and hypervisor: who holds the machine's lock, by the kernel's word, and the QEMU of its bubblewrap."""
    holder = supervisor(world.home, machine)
    assert holder is not None
    return holder, child(child(child(holder, "bwrap"), "bwrap"), "qemu")
