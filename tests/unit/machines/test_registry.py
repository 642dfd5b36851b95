"""Which machines live is the kernel's word; the dead are found, and the living can be stopped."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.audit.record import RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, UsageError
from mvmnix.launch.runtime.start import start_machine
from mvmnix.machines import cleanup, registry
from mvmnix.machines.ending import EndReason
from mvmnix.machines.logs import read_console, read_output
from mvmnix.machines.output_log import Output, Piece
from mvmnix.machines.registry import MachineEntry
from mvmnix.plan.plan import Accelerator, Use
from tests.patience import EVENT_PATIENCE, SHORT, until
from tests.support.processes import gone
from tests.unit.launch.fake_hypervisor import Scenario
from tests.unit.launch.house import House, detach, end_machines, house


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    # the fake's `sleep` doesn't listen meanwhile, so that each stop of it waits for the whole grace
    monkeypatch.setattr("mvmnix.launch.runtime.supervisor.GRACE", 0.1)
    monkeypatch.setattr("mvmnix.launch.runtime.machine._AFTERMATH", 0.1)
    with house(tmp_path / "house") as it:
        yield it
        end_machines(it.directory("machines"))


def detached(here: House, *argv: str, name: str = "", scenario: Scenario = Scenario.BOOTS) -> MachineEntry:
    with here.plan(*argv) as plan:
        machine = detach(plan, lambda: here.host(scenario), name=name)
    return registry.find_machine(here.directory("machines"), machine)


def hypervisor_of(entry: MachineEntry) -> int:
    (child,) = Path(f"/proc/{entry.supervisor}/task/{entry.supervisor}/children").read_text().split()
    return int(child)


def test_a_detached_machine_runs_its_command_and_ends(here: House) -> None:
    machines = here.directory("machines")
    entry = detached(here, "complain", "no", name="web")
    assert entry.supervisor != os.getpid()
    until(lambda: registry.find_machine(machines, "web").state == "ended")
    status = registry.find_machine(machines, "web").status
    assert (status.reason, status.exit_code) == (EndReason.GUEST_EXIT, 3)
    assert list(read_output(machines, "web")) == [Piece(Output.STDERR, b"no")]
    assert list(read_output(machines, "web", (Output.STDOUT,))) == []
    assert list(read_console(machines, entry.status.machine[:6])) == [Piece(Output.STDOUT, b"booted\n")]
    assert [record.kind for record in here.log()] == [RecordKind.START, RecordKind.END]
    assert len(here.receipts()) == 1


def test_a_detached_machine_spends_its_plan_and_whoever_asks_again_is_told(here: House) -> None:
    with here.plan("sleep", "60", use=Use.ONCE) as plan:
        machine = detach(plan, here.host)
        with here.verified() as anew, pytest.raises(RefusedError, match=f"spent by machine {machine}") as caught:
            detach(anew, here.host)
    assert caught.value.codes == (ReasonCode.REPLAY,)
    assert [record.kind for record in here.log()] == [RecordKind.START, RecordKind.REFUSAL]
    registry.stop(here.directory("machines"), machine, patience=EVENT_PATIENCE)


def test_a_running_machine_is_stopped(here: House) -> None:
    machines = here.directory("machines")
    entry = detached(here, "sleep", "60", name="web")
    assert entry.state == "running"
    assert entry.supervisor is not None
    assert os.getsid(entry.supervisor) != os.getsid(0)
    hypervisor = hypervisor_of(entry)
    stopped = registry.stop(machines, "web", patience=EVENT_PATIENCE)
    assert (stopped.state, stopped.status.reason) == ("ended", EndReason.STOPPED)
    assert gone(hypervisor)
    with pytest.raises(UsageError, match="isn't running"):
        registry.stop(machines, "web", patience=EVENT_PATIENCE)


def test_a_supervisor_that_does_not_listen_is_killed(here: House) -> None:
    machines = here.directory("machines")
    entry = detached(here, "sleep", "60")
    assert entry.supervisor is not None
    hypervisor = hypervisor_of(entry)
    os.kill(entry.supervisor, signal.SIGSTOP)
    stopped = registry.stop(machines, entry.status.machine, patience=SHORT)
    assert stopped.state == "dead"
    until(lambda: gone(hypervisor))


def test_a_machine_whose_supervisor_was_killed_is_dead_and_tidied(here: House) -> None:
    machines, host = here.directory("machines"), here.host()
    entry = detached(here, "sleep", "60", name="web")
    assert entry.supervisor is not None
    hypervisor = hypervisor_of(entry)
    assert cleanup.clean_up(machines, here.ledger(), host.clock, here.notices.append) == ()
    os.kill(entry.supervisor, signal.SIGKILL)
    until(lambda: gone(hypervisor) and registry.find_machine(machines, "web").state == "dead")
    (dead,) = cleanup.clean_up(machines, here.ledger(), host.clock, here.notices.append)
    assert dead.machine == entry.status.machine
    assert cleanup.clean_up(machines, here.ledger(), host.clock, here.notices.append) == ()
    after = registry.find_machine(machines, "web")
    assert (after.state, after.status.reason) == ("ended", EndReason.SUPERVISOR_DIED)
    assert [(record.kind, record.reasons) for record in here.log()] == [
        (RecordKind.START, ()),
        (RecordKind.END, (EndReason.SUPERVISOR_DIED,)),
    ]


def test_the_record_of_a_lost_machines_end_is_of_the_plan_that_was_started(here: House) -> None:
    """Whatever the status file says, which nobody signs."""
    machines, host = here.directory("machines"), here.host()
    entry = detached(here, "sleep", "60")
    assert entry.supervisor is not None
    os.kill(entry.supervisor, signal.SIGKILL)
    until(lambda: registry.find_machine(machines, entry.status.machine).state == "dead")
    status = registry.find_machine(machines, entry.status.machine).status
    forged = replace(status, plan=Digest("0" * 64), policy=Digest("1" * 64))
    with machines.existing(forged.machine) as directory:
        directory.write_atomic("machine.json", forged.to_bytes())
    cleanup.clean_up(machines, here.ledger(), host.clock, here.notices.append)
    start, end = here.log()
    assert (end.kind, end.plan, end.policy) == (RecordKind.END, start.plan, start.policy)
    assert start.plan == entry.status.plan


def test_a_directory_that_was_never_filled_is_removed(here: House) -> None:
    machines, host = here.directory("machines"), here.host()
    machines.child("0123456789ab").close()
    assert registry.list_entries(machines) == ()
    assert cleanup.clean_up(machines, here.ledger(), host.clock, here.notices.append) == ()
    assert not machines.exists("0123456789ab")


def test_a_failing_start_is_told_to_whoever_detached(here: House) -> None:
    with here.plan() as plan, pytest.raises(MvmnixError, match="guest-panic"):
        detach(plan, lambda: here.host(Scenario.PANICS))
    with here.plan(accelerator=Accelerator.KVM) as plan, pytest.raises(RefusedError) as caught:
        detach(plan, here.host)
    assert caught.value.codes == (ReasonCode.ACCELERATOR_UNAVAILABLE,)
    with here.plan() as plan, pytest.raises(UsageError, match="not a machine's name"):
        detach(plan, here.host, name="/")


def test_names_and_beginnings_of_ids(here: House) -> None:
    machines = here.directory("machines")
    host = here.host()
    with here.plan() as plan:
        with start_machine(plan, host, name="web") as first:
            pass
        with start_machine(plan, host, name="web") as second:
            assert registry.find_machine(machines, "web").status.machine == second.id
        assert registry.find_machine(machines, first.id).status.machine == first.id
        assert registry.find_machine(machines, first.id[:8]).status.machine == first.id
        assert [entry.status.machine for entry in registry.list_entries(machines)] == sorted([first.id, second.id])
    for text in ("", "nothing", "../web"):
        with pytest.raises(UsageError, match="no machine"):
            registry.find_machine(machines, text)
    with pytest.raises(UsageError, match=r"has no output: its command has not begun.*--console"):
        list(read_output(machines, first.id))


def test_removal(here: House) -> None:
    machines, host = here.directory("machines"), here.host()
    with here.plan() as plan, start_machine(plan, host) as machine, pytest.raises(UsageError, match="is running"):
        registry.remove(machines, machine.id)
    assert registry.remove(machines, machine.id).machine == machine.id
    assert registry.list_entries(machines) == ()


def test_a_machine_is_found_by_its_id_without_a_look_at_the_others(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = here.directory("machines")
    entry = detached(here, "linger", name="web")
    detached(here, "linger", name="other")

    def refuse(_: object) -> tuple[MachineEntry, ...]:
        raise AssertionError("all machines were read")

    monkeypatch.setattr(registry, "list_entries", refuse)
    assert registry.find_machine(machines, entry.status.machine) == entry
    with pytest.raises(AssertionError, match="all machines were read"):
        registry.find_machine(machines, entry.status.machine[:11])
    monkeypatch.undo()
    with pytest.raises(UsageError, match="no machine with the name or id"):
        registry.find_machine(machines, "0" * 12)
