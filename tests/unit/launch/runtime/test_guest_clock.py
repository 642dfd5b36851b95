"""What a guest is told of the time, and when; the guest is a process that keeps what it was told."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mvmnix.errors import GuestTimeoutError, MvmnixError
from mvmnix.launch.runtime import guest_clock
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.start import start_machine
from mvmnix.machines.status import MachineState
from mvmnix.model import DirectoryOrder, Verb
from mvmnix.plan.limits import PlanLimits
from mvmnix.provenance.slsa.provenance import Variation
from tests.patience import PATIENCE, SHORT, until
from tests.unit.launch.house import House, nowhere, told_to

EXEC = frozenset({Verb.EXEC})


def times(machine: Machine) -> list[float]:
    """The readings that it was told, in seconds: CONFIG's first."""
    said = bytearray()
    machine.exec(("times",), environment={}, stdout=said.extend, stderr=nowhere)
    return [int(reading) / 1e9 for reading in said.split()]


def set_paused(machine: Machine, *, paused: bool) -> None:
    answers: list[MvmnixError | None] = []
    machine.set_paused(paused, answers.append)
    until(lambda: answers, rest=lambda: machine.loop.turn(SHORT))
    assert answers == [None]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_clock, "INTERVAL", 0.01)


def test_it_is_told_when_it_is_configured_when_it_is_ready_and_when_it_goes_on(here: House) -> None:
    """The clock moves on a second whenever it is read: no reading was made before it was sent."""
    clock = iter(here.host().clock() + timedelta(seconds=number) for number in range(10**6))
    host = replace(here.host(), clock=lambda: next(clock))
    with here.plan(verbs=EXEC) as plan, start_machine(plan, host) as machine:
        configured, ready = times(machine)
        assert told_to(machine).time_ns / 1e9 < configured < ready
        set_paused(machine, paused=True)
        set_paused(machine, paused=False)
        assert len(times(machine)) == 3
        assert times(machine)[2] > ready


@pytest.mark.usefixtures("often")
def test_it_is_told_again_and_again(here: House) -> None:
    with here.plan(verbs=EXEC) as plan, start_machine(plan, here.host()) as machine:
        until(lambda: len(times(machine)) >= 5, rest=lambda: machine.loop.turn(SHORT))


@pytest.mark.usefixtures("often")
def test_what_stands_still_is_told_nothing(here: House) -> None:
    with here.plan(verbs=EXEC) as plan, start_machine(plan, here.host()) as machine:
        set_paused(machine, paused=True)
        before = machine._guest.channel._transport.bytes_sent
        for _ in range(5):
            machine.loop.turn(SHORT)
        assert machine._guest.channel._transport.bytes_sent == before


@pytest.mark.usefixtures("often")
def test_to_be_told_the_time_is_no_sign_of_life(here: House) -> None:
    plan = here.plan("sleep", str(PATIENCE), limits=PlanLimits(idle_seconds=1))
    with plan, start_machine(plan, here.host()) as machine, pytest.raises(GuestTimeoutError, match="did nothing"):
        machine.run(stdout=nowhere, stderr=nowhere)


def test_a_clock_that_the_plan_moves_stays_moved(here: House) -> None:
    variation = Variation("other", 86400, DirectoryOrder.NATURAL)
    with here.plan(verbs=EXEC, variation=variation) as plan, start_machine(plan, here.host()) as machine:
        now = here.host().clock().timestamp()
        assert [reading - now for reading in times(machine)] == [86400, 86400]
        assert machine._observations.home.status.state is MachineState.RUNNING
