"""Real machines one of whose processes is killed: the next call leaves nothing of them, and says how they ended."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mvmnix.machines.ending import EndReason
from mvmnix.machines.status import MachineState
from tests import soak
from tests.conftest import Home, World
from tests.hypervisors import hypervisors
from tests.patience import PATIENCE
from tests.sample import sample
from tests.soak import Held
from tests.support.processes import field, gone
from tests.vm.machines import states, wait_for

pytestmark = pytest.mark.vm


def first_process(qemu: int) -> int:
    return int(field(qemu, "PPid")[0])


def bubblewrap(qemu: int) -> int:
    return int(field(first_process(qemu), "PPid")[0])


def supervisor(qemu: int) -> int:
    return int(field(bubblewrap(qemu), "PPid")[0])


def groups_of(qemu: int) -> set[str]:
    lines = Path(f"/proc/{qemu}/cgroup").read_text().splitlines()
    return {Path(line.split(":", 2)[2]).name for line in lines}


#: Which process is killed, in which state, and what the log calls that end.
VICTIMS: dict[str, tuple[Callable[[int], int], MachineState, EndReason]] = {
    "hypervisor of a booting one": (int, MachineState.STARTING, EndReason.HYPERVISOR_DIED),
    "jailer of a booting one": (bubblewrap, MachineState.STARTING, EndReason.HYPERVISOR_DIED),
    "supervisor of a booting one": (supervisor, MachineState.STARTING, EndReason.SUPERVISOR_DIED),
    "first process of a booting one": (first_process, MachineState.STARTING, EndReason.HYPERVISOR_DIED),
    "first process": (first_process, MachineState.RUNNING, EndReason.HYPERVISOR_DIED),
    "hypervisor": (int, MachineState.RUNNING, EndReason.HYPERVISOR_DIED),
    "supervisor": (supervisor, MachineState.RUNNING, EndReason.SUPERVISOR_DIED),
    "jailer of a paused one": (bubblewrap, MachineState.PAUSED, EndReason.HYPERVISOR_DIED),
    "supervisor of a paused one": (supervisor, MachineState.PAUSED, EndReason.SUPERVISOR_DIED),
    "hypervisor of a stopping one": (int, MachineState.STOPPING, EndReason.HYPERVISOR_DIED),
    "supervisor of a stopping one": (supervisor, MachineState.STOPPING, EndReason.SUPERVISOR_DIED),
}


def test_every_state_that_has_processes_is_killed_in() -> None:
    """One that is only created has none, one that has ended has none left; one that waits: tests/vm/test_pool.py."""
    others = {MachineState.CREATED, MachineState.WAITING, MachineState.ENDED}
    assert {state for _, state, _ in VICTIMS.values()} == set(MachineState) - others


@pytest.fixture(scope="module")
def place(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Path]]:
    """A home of its own, and a signed plan in it for a machine that runs on."""
    base = tmp_path_factory.mktemp("killed")
    mine = world.copy(base / "home")
    plan = soak.signed_plan(mine.home, mine.tree, base, "/bin/busybox", "sleep", "3600")
    assert mine.home.mvm("rm", *soak.at_once(mine.home, plan, 1), "--force").returncode == 0  # its nonce is spent now
    yield mine, plan
    assert hypervisors(mine.home) == []


def freeze(world: World) -> None:
    """Have the one hypervisor get no further."""
    (qemu,) = hypervisors(world.home)
    os.kill(qemu, signal.SIGSTOP)


@contextmanager
def brought(world: World, bundle: Path, state: MachineState) -> Iterator[str]:
    """A machine that is in this state; who brings it there has ended afterwards."""
    home, callers = world.home, []
    if state is MachineState.STARTING:
        callers = [home.start("launch", "--detach", bundle)]
        wait_for(lambda: hypervisors(world.home))
        freeze(world)
        (machine,) = shown(home)
    else:
        (machine,) = soak.at_once(home, bundle, 1)
    if state is MachineState.PAUSED:
        assert home.mvm("pause", machine).returncode == 0
    elif state is MachineState.STOPPING:
        freeze(world)
        callers = [home.start("stop", machine)]
        wait_for(lambda: states(world)[machine]["state"] != MachineState.RUNNING)
    yield machine
    for caller in callers:
        caller.communicate(timeout=PATIENCE)


def shown(home: Home) -> dict[str, str]:
    """The machines that live, and their states."""
    return {each["id"]: each["state"] for each in json.loads(home.mvm("ps", "--json").stdout)["result"]}


@pytest.mark.parametrize("name", sample([*VICTIMS], 3))
def test_nothing_is_left_on_the_host(place: tuple[World, Path], name: str) -> None:
    victim, state, reason = VICTIMS[name]
    it, bundle = place
    before = Held.by(it.home)
    with brought(it, bundle, state) as machine:
        (qemu,) = hypervisors(it.home)
        processes = [qemu, bubblewrap(qemu), supervisor(qemu)]
        groups = groups_of(qemu)
        assert shown(it.home) == {machine: state}
        os.kill(victim(qemu), signal.SIGKILL)
    wait_for(lambda: shown(it.home) == {})
    wait_for(lambda: all(map(gone, processes)))
    told = json.loads(it.home.mvm("inspect", machine).stdout)["result"]
    assert (told["state"], told["ended"]) == (MachineState.ENDED, reason)
    assert it.home.mvm("rm", machine).returncode == 0
    assert Held.by(it.home).but_memory == before.but_memory
    assert not groups & {path.name for path in Path("/sys/fs/cgroup").rglob("mvmnix-*")}
