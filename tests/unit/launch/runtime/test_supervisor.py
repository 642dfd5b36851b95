"""Signals to a supervisor in the foreground: the first lets the guest end in order, the second ends it."""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mvmnix.audit.record import RecordKind
from mvmnix.errors import MvmnixError
from mvmnix.launch.control.caller_check import CallerCheck
from mvmnix.launch.control.server import Control
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime import supervisor
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.start import start_machine
from mvmnix.launch.runtime.supervisor import SupervisedEnd
from mvmnix.machines.ending import EndReason
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.system.loop import Loop
from mvmnix.system.stop_signals import StopRequestedError, stopping_signals
from tests.patience import EVENT_PATIENCE, QUIET
from tests.unit.launch.fake_hypervisor import Scenario
from tests.unit.launch.house import House, nowhere, run_foreground


def supervise(plan: VerifiedPlan, host: Host, work: Callable[[Machine], ExitStatus]) -> SupervisedEnd:
    """Supervise a machine that no other process calls."""

    def alone(machine: Machine, _control: Control) -> ExitStatus:
        return work(machine)

    return supervisor.supervise(
        plan, host, partial(start_machine, plan, host), alone, check=CallerCheck.of_this_process()
    )


def test_the_exit_code_is_the_commands(here: House) -> None:
    out, err = bytearray(), bytearray()
    with here.plan("complain", "no") as plan:
        finished = run_foreground(plan, here.host(), stdout=out.extend, stderr=err.extend)
    assert (finished.exit_code, finished.ended.reason) == (3, EndReason.GUEST_EXIT)
    assert (bytes(out), bytes(err)) == (b"", b"no")


def test_a_running_machine_has_no_memory_for_its_kernels_file(here: House) -> None:
    """It lies in the guest's memory since the boot; the hypervisor keeps what it was loaded from open."""
    sizes = {}

    def work(machine: Machine) -> ExitStatus:
        for fd in Path(f"/proc/{machine._guest.process.pid}/fd").iterdir():
            sizes[str(fd.readlink())] = fd.stat().st_blocks
        return machine.run(stdout=nowhere, stderr=nowhere)

    with here.plan() as plan:
        finished = supervise(plan, here.host(), work)
        with pytest.raises(MvmnixError, match="has its kernel"):
            start_machine(plan, here.host())
        assert len(here.receipts()) == 1, "nothing was made for another one"
    assert finished.ended.reason is EndReason.GUEST_EXIT
    assert sizes["/memfd:kernel (deleted)"] == 0
    assert sizes["/memfd:initrd (deleted)"] > 0


def test_standard_input_reaches_the_command(here: House) -> None:
    out = bytearray()
    with here.plan("cat") as plan:
        run_foreground(plan, here.host(), stdout=out.extend, stderr=out.extend, stdin=b"some input")
    assert out == b"some input"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_the_machine(here: House, number: signal.Signals) -> None:
    host = here.host()
    before = signal.getsignal(number)
    reading, writing = os.pipe()

    def work(machine: Machine) -> ExitStatus:
        host.loop.after(QUIET, lambda: os.kill(os.getpid(), number))
        return machine.run(stdout=nowhere, stderr=nowhere, stdin=reading)  # which has no end yet

    with here.plan("cat") as plan:
        finished = supervise(plan, host, work)
    os.close(writing)
    os.close(reading)
    assert (finished.exit_code, finished.ended.reason) == (128 + number, EndReason.STOPPED)
    assert signal.getsignal(number) == before
    assert [record.kind for record in here.log()] == [RecordKind.START, RecordKind.END]


def test_a_second_signal_does_not_wait(here: House) -> None:
    host = here.host()

    def work(machine: Machine) -> ExitStatus:
        os.kill(machine._guest.process.pid, signal.SIGSTOP)
        for _ in range(2):
            host.loop.after(QUIET, lambda: os.kill(os.getpid(), signal.SIGTERM))
        return machine.run(stdout=nowhere, stderr=nowhere)

    with here.plan("cat") as plan:
        finished = supervise(plan, host, work)
    assert (finished.exit_code, finished.ended.reason) == (128 + signal.SIGTERM, EndReason.STOPPED)


def test_a_signal_while_the_guest_boots(here: House) -> None:
    host = here.host(Scenario.HANGS)
    host.loop.after(QUIET, lambda: os.kill(os.getpid(), signal.SIGINT))
    with here.plan() as plan, pytest.raises(StopRequestedError):
        run_foreground(plan, host, stdout=nowhere, stderr=nowhere)
    assert here.receipts()[0].observed.reason is EndReason.STOPPED


def test_a_machine_that_fails_is_an_error(here: House) -> None:
    with here.plan("panic") as plan, pytest.raises(MvmnixError, match="guest-panic"):
        run_foreground(plan, here.host(), stdout=nowhere, stderr=nowhere)


def test_a_signal_is_raised_where_the_loop_waits_and_nowhere_else() -> None:
    loop = Loop()
    with stopping_signals(loop):
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopRequestedError):
            loop.turn(EVENT_PATIENCE)
    loop.close()
