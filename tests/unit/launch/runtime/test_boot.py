"""Boots that make no progress, with real processes and without a virtual machine: what is kept, and the second try."""

import os
import re
import signal
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, override

import pytest

from mvmnix.audit.record import Indexed, Journal, Record, RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import GuestTimeoutError, MvmnixError, RefusedError
from mvmnix.launch.runtime.finalize import MachineFailedError
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.start import start_machine
from mvmnix.machines import cleanup, registry
from mvmnix.machines.ending import EndReason
from mvmnix.plan.limits import PlanLimits
from mvmnix.plan.plan import Use
from mvmnix.plan.secret_reference import SecretReference, SecretTarget
from mvmnix.vmm.boot_watchdog import BootBudget, StallReason
from mvmnix.vmm.confinement import Jail
from mvmnix.vmm.port import Invocation, LaunchSpec
from tests.patience import scaled
from tests.unit.launch.fake_hypervisor import FakeHypervisor, Scenario
from tests.unit.launch.house import House, house, hurry
from tests.unit.launch.null_sandbox import NullJail, NullSandbox

STALLED = EndReason.BOOT_STALLED
PANIC = EndReason.GUEST_PANIC


@dataclass(frozen=True, slots=True)
class Moody(FakeHypervisor):
    """Its guests boot or not, one after the other, as `moods` says; `begun` are those that were to."""

    moods: tuple[Scenario, ...] = ()
    begun: list[Invocation] = field(default_factory=list)

    @override
    def invocation(self, spec: LaunchSpec) -> Invocation:
        self.begun.append(FakeHypervisor(self.moods[len(self.begun)]).invocation(spec))
        return self.begun[-1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A stall shows after half a second here; the seconds themselves are in test_boot_watchdog.py."""
    for name, value in {"_QUIET": 0.5, "_USED": 0.1, "_WALL_FACTOR": 1.0, "_TOTAL_FACTOR": 2.0}.items():
        monkeypatch.setattr(f"mvmnix.vmm.boot_watchdog.{name}", value)
    with house(tmp_path / "house") as it:
        yield it


def moody(here: House, *moods: Scenario, **changes: Any) -> Host:
    return replace(here.host(), hypervisor=Moody(moods=moods), **changes)


def told(here: House) -> list[tuple[RecordKind, tuple[str, ...]]]:
    return [(record.kind, record.reasons) for record in here.log()]


def diagnosis(here: House, boot: int) -> bytes:
    (path,) = here.path.glob(f"machines/*/diagnosis-{boot}.txt")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path.read_bytes()


def test_a_boot_that_stalls_is_begun_once_more(here: House) -> None:
    host = moody(here, Scenario.STALLS, Scenario.BOOTS)
    with here.plan("/bin/echo", "x") as plan, start_machine(plan, host) as machine:
        assert machine.run(stdout=lambda _: None, stderr=lambda _: None).exit_code == 0
    assert told(here) == [(RecordKind.START, ()), (RecordKind.RESTART, (STALLED,)), (RecordKind.END, ())]
    begin, again, end = here.log()
    assert begin.machine == again.machine == end.machine == machine.id
    kept = diagnosis(here, 1)
    assert again.digests["diagnosis"] == Digest.of(kept)
    assert again.digests["argv"] != begin.digests["argv"], "its descriptors are others"
    (found,) = here.receipts()[0].observed.diagnoses
    assert (found.file, found.verdict, found.digest) == ("diagnosis-1.txt", StallReason.STALLED, Digest.of(kept))
    assert [notice for notice in here.notices if "has stalled while it boots; it is started once more" in notice]
    assert len(registry.list_entries(here.directory("machines"))) == 1
    assert_told(kept.decode("ascii"), machine.id)


def assert_told(kept: str, machine: str) -> None:
    """What is kept of a boot that stalled."""
    for line in (
        "no progress: stalled",
        f"machine: {machine}",
        "bytes of its agent: 0",
        "HELLO came: False",
        "CONFIG was sent: False",
        '== the hypervisor: query-status\n{"status": "running", "running": true}',
        r"\u001b[2Jinfo registers -a",
        "== the hypervisor: info lapic",
        "== the hypervisor: info pic",
        "== the hypervisor: info irq",
        "== the console's last lines",
    ):
        assert line in kept
    assert re.search(r"\d+ 'python3?[^']*': state S, CPU \d+ ms, waited for a processor: \d+ ms", kept)


def test_the_second_is_the_last(here: House) -> None:
    host = moody(here, Scenario.STALLS, Scenario.STALLS)
    with here.plan() as plan, pytest.raises(GuestTimeoutError, match="since it stalled") as caught:
        start_machine(plan, host)
    assert "diagnosis-1.txt, diagnosis-2.txt" in caught.value.hint
    assert told(here) == [(RecordKind.START, ()), (RecordKind.RESTART, (STALLED,)), (RecordKind.END, (STALLED,))]
    (receipt,) = here.receipts()
    assert receipt.observed.reason is STALLED
    assert [it.file for it in receipt.observed.diagnoses] == ["diagnosis-1.txt", "diagnosis-2.txt"]
    assert diagnosis(here, 1) != diagnosis(here, 2)


def test_it_is_one_start_of_a_plan_for_once(here: House) -> None:
    with here.plan(use=Use.ONCE) as plan:
        with start_machine(plan, moody(here, Scenario.STALLS, Scenario.BOOTS)):
            pass
        with pytest.raises(RefusedError, match="may start once"):
            start_machine(plan, here.host())
    assert [kind for kind, _ in told(here)] == [
        RecordKind.START,
        RecordKind.RESTART,
        RecordKind.END,
        RecordKind.REFUSAL,
    ]


@pytest.mark.parametrize("scenario", [Scenario.HANGS, Scenario.SPINS])
def test_one_that_hangs_and_never_said_a_word_is_begun_once_more(
    here: House, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    with here.plan() as plan, start_machine(plan, moody(here, scenario, Scenario.BOOTS)):
        pass
    start, (restart, why), end = told(here)
    assert (start, restart, end) == ((RecordKind.START, ()), RecordKind.RESTART, (RecordKind.END, (EndReason.STOPPED,)))
    assert why in {(EndReason.TIMEOUT,), (STALLED,)}, "on a busy machine the watchdog may come first"
    assert diagnosis(here, 1).startswith((b"== no progress: hung", b"== no progress: stalled"))


def test_one_that_talks_is_not_begun_again(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    # events of its hypervisor count too: two lines of its console are more than these
    monkeypatch.setattr(BootBudget, "exhausted", lambda _, *, progress, **_more: progress >= 2 * len("still booting\n"))
    with here.plan() as plan, pytest.raises(GuestTimeoutError):
        start_machine(plan, moody(here, Scenario.CHATTERS))
    assert told(here) == [(RecordKind.START, ()), (RecordKind.END, (EndReason.TIMEOUT,))]
    assert b"still booting" in diagnosis(here, 1)


def test_a_builder_vm_that_panics_before_it_is_ready_is_begun_once_more(here: House) -> None:
    host = moody(here, Scenario.PANICS, Scenario.BOOTS)
    with here.plan() as plan, start_machine(plan, host, reboots_panic=True) as machine:
        assert machine.run(stdout=lambda _: None, stderr=lambda _: None).exit_code == 0
    assert told(here) == [(RecordKind.START, ()), (RecordKind.RESTART, (PANIC,)), (RecordKind.END, ())]
    kept = diagnosis(here, 1)
    assert here.log()[1].digests["diagnosis"] == Digest.of(kept)
    assert b"== no progress: panicked" in kept
    assert b"Attempted to kill init!" in kept
    (found,) = here.receipts()[0].observed.diagnoses
    assert (found.verdict, found.digest) == (StallReason.PANICKED, Digest.of(kept))
    assert [notice for notice in here.notices if "has panicked while it boots; it is started once more" in notice]


def test_its_second_panic_is_the_last(here: House) -> None:
    host = moody(here, Scenario.PANICS, Scenario.PANICS)
    with here.plan() as plan, pytest.raises(MachineFailedError, match="guest-panic"):
        start_machine(plan, host, reboots_panic=True)
    assert told(here) == [(RecordKind.START, ()), (RecordKind.RESTART, (PANIC,)), (RecordKind.END, (PANIC,))]


@pytest.mark.parametrize(
    ("scenario", "reason"),
    [
        (Scenario.ABORTS, EndReason.HYPERVISOR_DIED),
        (Scenario.STOPS, EndReason.HYPERVISOR_DIED),
        (Scenario.BABBLES, EndReason.CHANNEL_VIOLATION),
    ],
)
def test_a_builder_vm_that_fails_otherwise_is_not_begun_again(
    here: House, scenario: Scenario, reason: EndReason
) -> None:
    with here.plan() as plan, pytest.raises(MachineFailedError):
        start_machine(plan, moody(here, scenario, Scenario.BOOTS), reboots_panic=True)
    assert told(here) == [(RecordKind.START, ()), (RecordKind.END, (reason,))]


def test_a_panic_once_it_is_ready_is_the_end(here: House) -> None:
    host = moody(here, Scenario.BOOTS, Scenario.BOOTS)
    with (
        here.plan("panic") as plan,
        start_machine(plan, host, reboots_panic=True) as machine,
        pytest.raises(MachineFailedError),
    ):
        machine.run(stdout=lambda _: None, stderr=lambda _: None)
    assert told(here) == [(RecordKind.START, ()), (RecordKind.END, (PANIC,))]


def test_a_panic_of_another_machine_is_the_end(here: House) -> None:
    with here.plan() as plan, pytest.raises(MachineFailedError):
        start_machine(plan, moody(here, Scenario.PANICS, Scenario.BOOTS))
    assert told(here) == [(RecordKind.START, ()), (RecordKind.END, (PANIC,))]


def test_one_that_was_told_a_secret_is_not_begun_again(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hush")
    secret = SecretReference.parse("token=env:TOKEN", SecretTarget.FILE)
    with here.plan(secrets=(secret,)) as plan, pytest.raises(GuestTimeoutError):
        start_machine(plan, moody(here, Scenario.UNREADY, Scenario.BOOTS))
    assert told(here) == [(RecordKind.START, ()), (RecordKind.END, (STALLED,))]


def test_one_that_was_told_none_is_begun_again_and_its_registers_stay_its_own(here: House) -> None:
    with here.plan() as plan, start_machine(plan, moody(here, Scenario.UNREADY, Scenario.BOOTS)) as machine:
        assert machine.run(stdout=lambda _: None, stderr=lambda _: None).exit_code == 0
    assert told(here) == [(RecordKind.START, ()), (RecordKind.RESTART, (STALLED,)), (RecordKind.END, ())]
    kept = diagnosis(here, 1)
    assert b"CONFIG was sent: True" in kept
    assert b"info lapic" in kept
    assert b"registers" not in kept


def test_one_that_may_wait_for_a_share_s_server_has_not_stalled(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.launch.shares.setup.Shares.servers", (1,))
    with here.plan(boot_seconds=scaled(2)) as plan, pytest.raises(GuestTimeoutError):
        start_machine(plan, moody(here, Scenario.UNREADY))
    assert told(here) == [(RecordKind.START, ()), (RecordKind.END, (EndReason.TIMEOUT,))]


def test_one_that_moves_on_while_it_is_looked_at_had_not_stalled(here: House) -> None:
    with here.plan() as plan, start_machine(plan, moody(here, Scenario.WAKES)):
        pass
    assert told(here) == [(RecordKind.START, ()), (RecordKind.END, (EndReason.STOPPED,))]
    assert not list(here.path.glob("machines/*/diagnosis-*"))
    assert here.receipts()[0].observed.diagnoses == ()


def test_registers_that_come_after_the_configuration_are_not_kept(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hangs, is asked for them, reports, and is told all; then the answers come."""
    monkeypatch.setattr("mvmnix.vmm.boot_watchdog._USED", 1000.0)
    with here.plan(boot_seconds=scaled(1)) as plan, pytest.raises(GuestTimeoutError):
        start_machine(plan, moody(here, Scenario.LATE))
    assert told(here) == [(RecordKind.START, ()), (RecordKind.END, (EndReason.TIMEOUT,))]
    kept = diagnosis(here, 1)
    assert b"CONFIG was sent: True" in kept
    assert b"the hypervisor:" not in kept


def test_a_hypervisor_that_does_not_answer_is_not_waited_for(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.launch.runtime.vm_process._ANSWERS", 0.2)
    with here.plan() as plan, start_machine(plan, moody(here, Scenario.DEAF, Scenario.BOOTS)):
        pass
    assert [kind for kind, _ in told(here)] == [RecordKind.START, RecordKind.RESTART, RecordKind.END]
    kept = diagnosis(here, 1)
    assert b"the hypervisor:" not in kept
    assert b"threads of the hypervisor" in kept


class OneSandbox(NullJail, Jail):
    """Has room for one hypervisor, ever."""

    @override
    def sandbox(self, *given: Any) -> NullSandbox:
        if self.sandboxes:
            raise MvmnixError("no room")
        return super().sandbox(*given)


def test_without_a_second_sandbox_the_stall_is_the_end(here: House) -> None:
    jail = OneSandbox()
    with here.plan() as plan, pytest.raises(MvmnixError, match="no room"):
        start_machine(plan, moody(here, Scenario.STALLS, Scenario.BOOTS, jail=jail))
    assert told(here) == [(RecordKind.START, ()), (RecordKind.END, (STALLED,))]
    assert [sandbox.released for sandbox in jail.sandboxes] == [1]


@dataclass
class Forgetful:
    """A log that takes everything but that a boot was begun again."""

    log: Journal

    def about(self, machine: str) -> tuple[Record, ...]:
        return self.log.about(machine)

    def vouch(self, record: Record) -> bytes:
        return self.log.vouch(record)

    def append(self, record: Record) -> Indexed:
        if record.kind is RecordKind.RESTART:
            raise MvmnixError("no room in the log")
        return self.log.append(record)


def test_nothing_is_begun_again_that_is_not_in_the_log(here: House) -> None:
    host, jail = moody(here, Scenario.STALLS, Scenario.BOOTS), NullJail()
    with here.plan() as plan, pytest.raises(MvmnixError, match="no room in the log"):
        start_machine(plan, replace(host, journal=Forgetful(host.journal), jail=jail))
    assert told(here) == [(RecordKind.START, ()), (RecordKind.END, (STALLED,))]
    assert [bool(sandbox.released) for sandbox in jail.sandboxes] == [True, True]


@pytest.mark.parametrize("logged", [False, True])
def test_a_supervisor_that_is_killed_between_two_boots(here: House, logged: bool) -> None:
    """Before the log has it that another one begins, or right after: the next call puts in order what is left."""
    host = moody(here, Scenario.STALLS, Scenario.BOOTS)

    @dataclass
    class Deadly(Forgetful):
        @override
        def append(self, record: Record) -> Indexed:
            if record.kind is RecordKind.RESTART and logged:
                self.log.append(record)
            if record.kind is RecordKind.RESTART:
                os.kill(os.getpid(), signal.SIGKILL)
            return self.log.append(record)

    with here.plan(use=Use.ONCE) as plan:
        if (child := os.fork()) == 0:
            with suppress(BaseException):
                start_machine(plan, replace(host, journal=Deadly(host.journal)), name="web")
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        machines = here.directory("machines")
        cleanup.clean_up(machines, here.ledger(), host.clock, here.notices.append)
        assert cleanup.scan_machines(machines).is_tidy
        with pytest.raises(RefusedError, match="may start once"):
            start_machine(plan, here.host())
    restart = [(RecordKind.RESTART, (STALLED,))] if logged else []
    assert told(here)[:-1] == [(RecordKind.START, ()), *restart, (RecordKind.END, (EndReason.SUPERVISOR_DIED,))]
    assert diagnosis(here, 1)


def test_a_disk_that_takes_no_diagnosis_hinders_nothing(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mvmnix.machines.machine_dir.MachineHome.keep_diagnosis", full)
    with here.plan() as plan, start_machine(plan, moody(here, Scenario.STALLS, Scenario.BOOTS)):
        pass
    assert len(here.receipts()[0].observed.diagnoses) == 1


def test_nothing_that_watched_the_first_boot_is_left(here: House) -> None:
    plan = here.plan(limits=PlanLimits(idle_seconds=60))
    with plan, start_machine(plan, moody(here, Scenario.STALLS, Scenario.BOOTS)) as machine:
        assert len(machine._timers) == 4, "the boot, the guest's clock, the wall clock, idleness"
        machine.ping()
