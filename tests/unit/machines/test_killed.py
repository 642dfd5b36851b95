"""A supervisor killed before, in and after each step from one state to the next: nothing is left of its machine."""

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

import pytest

from mvmnix.audit.log import AuditLog
from mvmnix.audit.note import NoteKey
from mvmnix.audit.record import RecordKind
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.creation import create_home
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.start import start_machine
from mvmnix.machines import cleanup, registry
from mvmnix.machines.ending import EndReason
from mvmnix.machines.machine_dir import LOCK, MachineHome
from mvmnix.machines.recorded_ends import with_ends
from mvmnix.machines.registry import MachineEntry
from mvmnix.machines.status import MachineSource, MachineState
from mvmnix.plan.plan import Use
from mvmnix.system.private_dirs import Directory
from mvmnix.vmm.process import JailedProcess
from tests.patience import until
from tests.support.processes import gone
from tests.unit.launch.fake_hypervisor import Scenario
from tests.unit.launch.house import LOG_KEY, House, Unanchored, nowhere, run_foreground
from tests.unit.provenance.world import NOW

CREATED, STARTING, WAITING, RUNNING, PAUSED, STOPPING, ENDED = MachineState
type Step = tuple[MachineState, MachineState]


class Moment(Enum):
    """When the supervisor is killed, seen from the file that says how far its machine came."""

    BEFORE = "before"
    IN_BETWEEN = "in between"
    AFTER = "after"


@dataclass(frozen=True)
class Way:
    """How a machine comes to take a step."""

    command: tuple[str, ...] = ("true",)
    scenario: Scenario = Scenario.BOOTS
    unanchored: bool = False
    #: Whether it was made by `mvm create`, and whether its nonce was spent meanwhile.
    created: bool = False
    spent: bool = False
    #: What is done with the machine instead of running its command.
    work: Callable[[Machine], object] | None = None

    def take(self, plan: VerifiedPlan, host: Host) -> None:
        """Be the supervisor of a machine that goes this way."""
        if self.created:
            start_machine(plan, host, created=registry.find_machine(host.machines, "web").status.machine).kill()
            return
        if self.work is None:
            run_foreground(plan, host, stdout=nowhere, stderr=nowhere, name="web")
            return
        with start_machine(plan, host, name="web") as machine:
            self.work(machine)


def paused(machine: Machine) -> None:
    """Pause it, and wait until it is."""
    change(machine, paused=True)


def change(machine: Machine, *, paused: bool) -> None:
    answers: list[MvmnixError | None] = []
    machine.set_paused(paused, answers.append)
    while not answers:
        machine.loop.turn()
    assert answers == [None]


def resumed(machine: Machine) -> None:
    paused(machine)
    change(machine, paused=False)


def killed_while_paused(machine: Machine) -> None:
    paused(machine)
    machine.kill()


#: A way to each step that the state type allows; the first test says that none is missing.
WAYS: Mapping[Step, Way] = {
    (CREATED, STARTING): Way(),
    (STARTING, CREATED): Way(created=True, spent=True),
    (STARTING, RUNNING): Way(),
    (STARTING, ENDED): Way(scenario=Scenario.PANICS),
    (RUNNING, PAUSED): Way(work=paused),
    (PAUSED, RUNNING): Way(work=resumed),
    (PAUSED, STOPPING): Way(work=paused),
    (PAUSED, ENDED): Way(work=killed_while_paused),
    (RUNNING, STOPPING): Way(),
    (RUNNING, ENDED): Way(("panic",)),
    (STOPPING, ENDED): Way(),
}


def test_there_is_a_way_to_each_step_of_the_state_type() -> None:
    """But for those of machines that wait, which tests/vm/test_pool.py kills."""
    steps = {(old, new) for old in MachineState for new in MachineState if old.may_become(new)}
    assert {step for step in steps if WAITING not in step} == WAYS.keys()


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def be_deadly(step: Step, moment: Moment, started: Path) -> None:
    """In the process that is to die: arrange for it, and note down the hypervisors that it starts."""
    advance, rename, spawn = MachineHome.advance, Directory.rename, JailedProcess.spawn

    def deadly_advance(self: MachineHome, state: MachineState, **more: Any) -> None:
        hit = (self.status.state, state) == step
        if hit and moment is Moment.BEFORE:
            die()
        if hit and moment is Moment.IN_BETWEEN:
            Directory.rename = lambda *_, **_more: die()  # type: ignore[method-assign]
        advance(self, state, **more)
        if hit:
            die()

    def noted_spawn(*arguments: Any) -> JailedProcess:
        process = spawn(*arguments)
        started.write_text(str(process.pid))
        return process

    MachineHome.advance = deadly_advance  # type: ignore[method-assign]
    JailedProcess.spawn = noted_spawn  # type: ignore[method-assign, assignment]
    assert Directory.rename is rename


def supervise_and_die(here: House, step: Step, moment: Moment, started: Path, way: Way) -> int:
    """The wait status of a process that supervised a machine."""
    with here.plan(*way.command, use=Use.ONCE) as plan:
        if way.created:
            create_home(plan, here.directory("machines"), here.ledger(), now=NOW, name="web", origin=MachineSource())
        if way.spent:
            with here.replay().spending(plan, "0123456789ab"):
                pass
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                be_deadly(step, moment, started)
                host = here.host(way.scenario)
                host = replace(host, journal=Unanchored(host)) if way.unanchored else host
                way.take(plan, host)
            os._exit(0)
        return os.waitpid(child, 0)[1]


def killed(here: House, step: Step, moment: Moment, started: Path, way: Way) -> tuple[MachineEntry, ...]:
    """What is listed after a supervisor was killed on that way, and the next call put in order what it left."""
    status = supervise_and_die(here, step, moment, started, way)
    assert os.WIFSIGNALED(status), "the step was never taken"
    assert os.WTERMSIG(status) == signal.SIGKILL
    machines = here.directory("machines")
    listed = registry.list_entries(machines)
    assert [entry.alive for entry in listed] == [False] * len(listed), "ps lies"
    cleanup.clean_up(machines, here.ledger(), here.host().clock, here.notices.append)
    assert cleanup.scan_machines(machines).is_tidy
    if started.exists():
        until(lambda: gone(int(started.read_text())))
    return registry.list_entries(machines)


#: Those on which the log gets a start, and one more to the end of such a machine.
STARTED = [(step, WAYS[step]) for step in WAYS if step not in {(CREATED, STARTING), (STARTING, CREATED)}]
STARTED.append(((STARTING, ENDED), Way(unanchored=True)))


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize(("step", "way"), STARTED, ids=lambda it: "-".join(it) if isinstance(it, tuple) else "")
def test_nothing_is_left(here: House, tmp_path: Path, step: Step, way: Way, moment: Moment) -> None:
    machines, host = here.directory("machines"), here.host()
    (entry,) = killed(here, step, moment, tmp_path / "started", way)
    assert entry.state == "ended"
    left = {path.name for path in (here.path / "machines" / entry.status.machine).iterdir()}
    assert left <= {
        "machine.json",
        "plan.sigstore.json",
        "lock",
        "console.log",
        "output.log",
        "end.note",
        "receipt.sigstore.json",
    }
    with machines.existing(entry.status.machine) as directory:
        assert directory.holder(LOCK) is None
    kinds = [record.kind for record in here.log() if record.kind not in {RecordKind.PAUSE, RecordKind.RESUME}]
    assert kinds == [RecordKind.START, RecordKind.END], "one record of the end"
    with here.plan("true") as plan:
        again = run_foreground(plan, host, stdout=nowhere, stderr=nowhere, name="web")
    assert again.exit_code == 0, "the name is free again"
    registry.remove(machines, entry.status.machine)


@pytest.mark.parametrize("call", ["keep_end", "keep_receipt"])
def test_an_end_that_was_not_kept_yet_is_kept(here: House, call: str) -> None:
    """Killed between the record of the end and its note, or before that record: either way the end can be read."""
    with here.plan("complain", use=Use.WITHIN_WINDOW) as plan:
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                setattr(MachineHome, call, lambda *_: die())
                run_foreground(plan, here.host(), stdout=nowhere, stderr=nowhere, name="web")
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    machines = here.directory("machines")
    cleanup.clean_up(machines, here.ledger(), here.host().clock, here.notices.append)
    (entry,) = with_ends(machines, registry.list_entries(machines), NoteKey.of_log(LOG_KEY.public.raw))
    expected = ("guest-exit", 3) if call == "keep_end" else ("supervisor-died", None)
    assert (entry.ended, entry.exit_code) == expected
    assert [record.kind for record in here.log()] == [RecordKind.START, RecordKind.END]


@pytest.mark.parametrize("moment", Moment)
def test_before_the_log_has_a_start_nothing_at_all_is_left(here: House, tmp_path: Path, moment: Moment) -> None:
    step = (CREATED, STARTING)
    assert killed(here, step, moment, tmp_path / "started", WAYS[step]) == ()
    assert {path.name for path in (here.path / "machines").iterdir()} == {"register.lock"}
    assert here.log() == []


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("step", [(CREATED, STARTING), (STARTING, CREATED)], ids="-".join)
def test_a_created_machine_waits_again(here: House, tmp_path: Path, step: Step, moment: Moment) -> None:
    """Its start was not in the log: it is as it was made, and starts, unless its plan was spent."""
    way = Way(created=True, spent=step == (STARTING, CREATED))
    (entry,) = killed(here, step, moment, tmp_path / "started", way)
    assert (entry.state, entry.status.waits) == ("created", True)
    left = {path.name for path in (here.path / "machines" / entry.status.machine).iterdir()}
    assert left == {"machine.json", "plan.sigstore.json", "lock"}
    assert [record.kind for record in here.log()] == [RecordKind.CREATION, *([RecordKind.REFUSAL] if way.spent else [])]
    with here.verified() as plan:
        if way.spent:
            with pytest.raises(RefusedError) as caught:
                start_machine(plan, here.host(), created=entry.status.machine)
            assert caught.value.codes == (ReasonCode.REPLAY,)
        else:
            assert start_machine(plan, here.host(), created=entry.status.machine).kill().reason is EndReason.STOPPED
    registry.remove(here.directory("machines"), "web")


@pytest.mark.parametrize("place", ["status", "log"])
def test_a_machine_that_never_started(here: House, place: str) -> None:
    """Killed while its directory is filled, or before the log has its start."""
    with here.plan("true") as plan:
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                host = here.host()
                if place == "status":
                    Directory.rename = lambda *_, **_more: die()  # type: ignore[method-assign]
                else:
                    AuditLog.append = lambda *_: die()  # type: ignore[method-assign]
                run_foreground(plan, host, stdout=nowhere, stderr=nowhere)
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    machines, host = here.directory("machines"), here.host()
    assert not any(entry.alive for entry in registry.list_entries(machines))
    cleanup.clean_up(machines, here.ledger(), host.clock, here.notices.append)
    assert {path.name for path in (here.path / "machines").iterdir()} == {"register.lock"}
    assert here.log() == []
