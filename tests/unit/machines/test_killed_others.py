"""A hypervisor killed in each state that has one: its supervisor puts the end down by itself, and nothing is left."""

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mvmnix.audit.record import RecordKind
from mvmnix.errors import MvmnixError
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.start import start_machine
from mvmnix.machines import cleanup, registry
from mvmnix.machines.ending import EndReason
from mvmnix.machines.machine_dir import MachineHome
from mvmnix.machines.status import MachineState
from mvmnix.vmm.process import JailedProcess
from tests.support.processes import gone
from tests.unit.launch.house import House, house

CREATED, STARTING, WAITING, RUNNING, PAUSED, STOPPING, ENDED = MachineState


def paused(machine: Machine) -> None:
    with suppress(MvmnixError):  # it is told when it is dead already
        machine.set_paused(True, lambda _: None)
    machine.wait()


#: What is done with a machine, so that it comes into each state in which there is a hypervisor.
WORK: Mapping[MachineState, Callable[[Machine], object]] = {
    STARTING: Machine.wait,
    RUNNING: Machine.wait,
    PAUSED: paused,
    STOPPING: Machine.stop,
}


def test_no_state_with_a_hypervisor_is_missing() -> None:
    assert set(MachineState) - {CREATED, WAITING, ENDED} == WORK.keys()


def be_deadly(wanted: MachineState, hit: Path) -> None:
    """In the supervisor: kill its hypervisor as soon as the machine is in this state, and note that down."""
    advance, spawn, pids = MachineHome.advance, JailedProcess.spawn, list[int]()

    def strike() -> None:
        os.kill(pids[0], signal.SIGKILL)
        hit.write_text(str(pids[0]))

    def deadly_advance(self: MachineHome, state: MachineState, **more: Any) -> None:
        advance(self, state, **more)
        if state is wanted and pids:
            strike()

    def deadly_spawn(*arguments: Any) -> JailedProcess:
        process = spawn(*arguments)
        pids.append(process.pid)
        if wanted is STARTING:
            strike()
        return process

    MachineHome.advance = deadly_advance  # type: ignore[method-assign]
    JailedProcess.spawn = deadly_spawn  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("state", WORK)
def test_its_supervisor_puts_the_end_down_by_itself(tmp_path: Path, state: MachineState) -> None:
    hit = tmp_path / "hit"
    with house(tmp_path / "house") as here:
        with here.plan("linger") as plan:
            child = os.fork()
            if child == 0:
                with suppress(BaseException):
                    be_deadly(state, hit)
                    WORK[state](start_machine(plan, here.host(), name="web"))
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        assert gone(int(hit.read_text())), "the state was never reached, or a hypervisor was left"
        assert_ended(here, EndReason.HYPERVISOR_DIED)


def assert_ended(here: House, reason: EndReason) -> None:
    machines = here.directory("machines")
    assert cleanup.scan_machines(machines).is_tidy, "nothing is left for the next call"
    (entry,) = registry.list_entries(machines)
    assert (entry.state, entry.status.reason) == ("ended", reason)
    assert [record.kind for record in here.log() if record.kind is not RecordKind.PAUSE] == [
        RecordKind.START,
        RecordKind.END,
    ]
    (receipt,) = here.receipts()
    assert receipt.observed.reason is reason
    left = {path.name for path in (here.path / "machines" / entry.status.machine).iterdir()}
    assert left == {
        "machine.json",
        "plan.sigstore.json",
        "lock",
        "console.log",
        "end.note",
        "receipt.sigstore.json",
    }
