"""Real machines one of whose processes is killed: the next call leaves nothing of them, and says how they ended."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import soak
from tests.conftest import World
from tests.soak import Held
from tests.vm.test_ends import ended, field, hypervisors, wait_for

pytestmark = pytest.mark.vm


def bubblewrap(qemu: int) -> int:
    return int(field(qemu, "PPid")[0])


def supervisor(qemu: int) -> int:
    return int(field(bubblewrap(qemu), "PPid")[0])


def groups_of(qemu: int) -> set[str]:
    lines = Path(f"/proc/{qemu}/cgroup").read_text().splitlines()
    return {Path(line.split(":", 2)[2]).name for line in lines}


#: Which process is killed, in which state, and what the log calls that end.
VICTIMS: dict[str, tuple[Callable[[int], int], str, str]] = {
    "hypervisor": (int, "running", "hypervisor-died"),
    "jailer of a paused one": (bubblewrap, "paused", "hypervisor-died"),
    "supervisor of a paused one": (supervisor, "paused", "supervisor-died"),
}


@pytest.fixture(scope="module")
def place(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Path]]:
    """A home of its own, and a signed plan in it for a machine that runs on."""
    base = tmp_path_factory.mktemp("killed")
    mine = world.copy(base / "home")
    yield mine, soak.signed_plan(mine.home, mine.tree, base, "/bin/busybox", "sleep", "3600")
    assert hypervisors(mine) == []


@pytest.mark.parametrize("name", VICTIMS)
def test_nothing_is_left_on_the_host(place: tuple[World, Path], name: str) -> None:
    victim, state, reason = VICTIMS[name]
    it, bundle = place
    assert it.home.mvm("rm", *soak.at_once(it.home, bundle, 1), "--force").returncode == 0  # its nonce is spent now
    before = Held.by(it.home)
    (machine,) = soak.at_once(it.home, bundle, 1)
    (qemu,) = hypervisors(it)
    processes = [qemu, bubblewrap(qemu), supervisor(qemu)]
    groups = groups_of(qemu)
    if state == "paused":
        assert it.home.mvm("pause", machine).returncode == 0
    (listed,) = json.loads(it.home.mvm("ps", "--json").stdout)["result"]
    assert (listed["id"], listed["state"]) == (machine, state)
    os.kill(victim(qemu), signal.SIGKILL)
    wait_for(lambda: json.loads(it.home.mvm("ps", "--json").stdout)["result"] == [])
    wait_for(lambda: all(map(ended, processes)))
    shown = json.loads(it.home.mvm("inspect", machine).stdout)["result"]
    assert (shown["state"], shown["ended"]) == ("ended", reason)
    assert it.home.mvm("rm", machine).returncode == 0
    assert Held.by(it.home).but_memory == before.but_memory
    assert not groups & {path.name for path in Path("/sys/fs/cgroup").rglob("mvmnix-*")}
