"""Machines that stand still: who may have them do so, what is refused meanwhile, and that they still end."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest

from mvmnix.api.calls import call, change
from mvmnix.audit.record import RecordKind
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.launch.control.codec import LIMIT, encode
from mvmnix.launch.control.messages import Exec, Pause, Resume
from mvmnix.launch.runtime.finalize import RunObservations
from mvmnix.machines import cleanup, control_socket, registry
from mvmnix.machines.ending import EndReason
from mvmnix.machines.registry import MachineEntry
from mvmnix.machines.status import MachineState
from mvmnix.model import Posture, Verb
from mvmnix.plan.limits import PlanLimits
from mvmnix.system.descriptors import receive_packet, send_packet
from mvmnix.vmm.boot_watchdog import BootBudget
from mvmnix.vmm.qmp import QmpMonitor
from tests.patience import EVENT_PATIENCE, scaled, until
from tests.support.processes import gone
from tests.unit.launch.house import House, detach, end_machines

EXEC: dict[str, Any] = {"verbs": frozenset({Verb.EXEC})}


@pytest.fixture
def here(here: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr("mvmnix.launch.runtime.supervisor.GRACE", 0.1)
    yield here
    end_machines(here.directory("machines"))


def running(here: House, *command: str, **changes: Any) -> MachineEntry:
    with here.plan(*(command or ("linger",)), **changes) as plan:
        machine = detach(plan, here.host, name="web")
    return registry.find_machine(here.directory("machines"), machine)


def become(here: House, asked: Pause | Resume) -> str:
    """Its state afterwards, by whoever looks."""
    change(here.directory("machines"), "web", asked)
    return registry.find_machine(here.directory("machines"), "web").state


def kinds(here: House) -> list[RecordKind]:
    return [record.kind for record in here.log()]


def ended(here: House) -> tuple[str, EndReason | None]:
    entry = registry.find_machine(here.directory("machines"), "web")
    return entry.state, entry.status.reason


@pytest.mark.parametrize("posture", Posture)
def test_it_takes_no_verb_of_the_plan(here: House, posture: Posture) -> None:
    running(here, posture=posture)
    assert become(here, Pause()) == MachineState.PAUSED
    assert become(here, Resume()) == MachineState.RUNNING
    assert kinds(here) == [RecordKind.START, RecordKind.PAUSE, RecordKind.RESUME]


def test_the_guest_stands_still(here: House) -> None:
    running(here, **EXEC)
    with call(here.directory("machines"), "web", Exec(("linger",)), ()) as before:
        become(here, Pause())
        before.signal(signal.SIGUSR1)
        with (
            pytest.raises(UsageError, match="is paused") as caught,
            call(here.directory("machines"), "web", Exec(("echo", "no")), ()) as it,
        ):
            it.wait()
        assert "mvm resume" in caught.value.hint
        assert kinds(here).count(RecordKind.EXEC) == 1, "what was refused was not run"
        become(here, Resume())
        assert before.wait().code == signal.SIGUSR1, "what was under way goes on"


def test_what_is_so_already(here: House) -> None:
    running(here)
    with pytest.raises(UsageError, match="is running"):
        become(here, Resume())
    become(here, Pause())
    with pytest.raises(UsageError, match="is paused"):
        become(here, Pause())
    registry.kill(here.directory("machines"), "web")
    for asked in (Pause(), Resume()):
        with pytest.raises(UsageError, match="isn't running"):
            become(here, asked)


@pytest.mark.parametrize("end", [registry.stop, registry.kill])
def test_a_paused_machine_is_ended(here: House, end: Any) -> None:
    """Stopped in order, which takes a guest that goes on; or killed as it is."""
    running(here)
    become(here, Pause())
    end(here.directory("machines"), "web", patience=EVENT_PATIENCE)
    assert ended(here) == (MachineState.ENDED, EndReason.STOPPED)
    (receipt,) = here.receipts()
    assert receipt.observed.reason is EndReason.STOPPED
    assert kinds(here) == [RecordKind.START, RecordKind.PAUSE, RecordKind.END]


def test_a_killed_supervisor_takes_a_paused_machine_along(here: House) -> None:
    entry = running(here)
    become(here, Pause())
    supervisor = entry.supervisor or 0
    (hypervisor,) = map(int, Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split())
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: gone(hypervisor))
    machines = here.directory("machines")
    until(lambda: registry.find_machine(machines, "web").state == "dead")
    cleanup.clean_up(machines, here.ledger(), here.host().clock, here.notices.append)
    assert ended(here) == (MachineState.ENDED, EndReason.SUPERVISOR_DIED)


def test_wall_time_goes_on(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever pauses a machine does not prolong it: the plan's word is about the host's clock."""
    monkeypatch.setattr("mvmnix.launch.runtime.machine._GRACE", 0.0)
    running(here, wall_seconds=scaled(3))
    with suppress(UsageError):  # it has ended before
        become(here, Pause())
    registry.wait_for_end(here.directory("machines"), "web")
    assert ended(here) == (MachineState.ENDED, EndReason.TIMEOUT)


def test_nothing_that_waits_for_signs_of_life_ends_it(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The boot's watch is over when the guest is ready, and what stands still isn't idle."""
    flag = here.path / "running"
    monkeypatch.setattr(BootBudget, "exhausted", lambda *_, **__: flag.exists())
    idle = scaled(2)
    running(here, limits=PlanLimits(idle_seconds=idle))
    become(here, Pause())
    flag.touch()
    until(lambda: _age(here) > 1.5 * idle)
    assert become(here, Resume()) == MachineState.RUNNING


def _age(here: House) -> float:
    """Seconds since its console was last written."""
    (console,) = here.path.glob("machines/*/console.log")
    return time.time() - console.stat().st_mtime


def test_a_hypervisor_that_does_not_answer(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.launch.runtime.pausing.PATIENCE", 0.2)
    monkeypatch.setattr(QmpMonitor, "pause", lambda _: b"\n")
    running(here)
    with pytest.raises(MvmnixError, match="hasn't answered"):
        become(here, Pause())
    registry.kill(here.directory("machines"), "web")
    assert ended(here) == (MachineState.ENDED, EndReason.STOPPED)


def test_one_question_on_a_connection(here: House) -> None:
    entry = running(here, **EXEC)
    with (
        here.directory("machines").existing(entry.status.machine) as directory,
        control_socket.connect(directory, entry.supervisor or 0) as connection,
    ):
        for asked in (Pause(), Exec(("true",))):
            send_packet(connection, encode(asked))
        with suppress(ConnectionResetError):  # it hung up before it read the second one
            assert b"failure" in receive_packet(connection, LIMIT, 3).data
    until(lambda: registry.find_machine(here.directory("machines"), "web").state == MachineState.PAUSED)
    assert kinds(here) == [RecordKind.START, RecordKind.PAUSE]


def test_a_log_that_can_not_be_written_leaves_it_running(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise MvmnixError("the log is full")

    monkeypatch.setattr(RunObservations, "record", full)
    running(here)
    with pytest.raises(MvmnixError, match="full"):
        become(here, Pause())
    assert registry.find_machine(here.directory("machines"), "web").state == MachineState.RUNNING
