"""From a verified plan to every end that a machine can take, with real processes and without a virtual machine."""

import os
import resource
import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mvmnix.audit.log import AuditLog
from mvmnix.audit.record import Indexed, Record, RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import GuestTimeoutError, MvmnixError, ReasonCode, RefusedError, UsageError
from mvmnix.launch.agent.port_forward import StreamRefusedError
from mvmnix.launch.agent.requests import GuestConfig
from mvmnix.launch.runtime.boot import Another
from mvmnix.launch.runtime.finalize import Ended, MachineFailedError
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.start import start_machine
from mvmnix.machines import cleanup, registry
from mvmnix.machines.ending import EndReason
from mvmnix.machines.output_log import NEWER, OLDER, Missing, OutputReader, Piece
from mvmnix.model import DirectoryOrder, Posture, SystemCalls, Verb
from mvmnix.plan.backend import Backend
from mvmnix.plan.kernel_command_line import BackendParameter
from mvmnix.plan.limits import PlanLimits
from mvmnix.plan.plan import Accelerator
from mvmnix.provenance.isolation import Isolation
from mvmnix.provenance.slsa.provenance import Variation
from mvmnix.system.private_dirs import Directory
from mvmnix.vmm.port import Acceleration
from tests.descriptors import nothing_left_open
from tests.patience import PATIENCE, SHORT, scaled
from tests.unit.launch.fake_hypervisor import FakeHypervisor, Scenario
from tests.unit.launch.house import House, Unanchored, nowhere, told_to
from tests.unit.provenance.world import NOW

EXEC = frozenset({Verb.EXEC})


def exec_(machine: Machine, *argv: str, timeout: float | None = None) -> tuple[int, bytes]:
    said = bytearray()
    status = machine.exec(argv, environment={}, stdout=said.extend, stderr=said.extend, timeout=timeout)
    return status.exit_code, bytes(said)


def kinds(it: House) -> list[RecordKind]:
    return [record.kind for record in it.log()]


def only_entry(it: House) -> registry.MachineEntry:
    (entry,) = registry.list_entries(it.directory("machines"))
    return entry


def test_the_plans_command_runs_and_all_of_it_is_written_down(here: House) -> None:
    said = bytearray()
    with here.plan("/bin/echo", "hello") as plan, start_machine(plan, here.host(), name="web") as machine:
        entry = only_entry(here)
        assert (entry.state, entry.supervisor, entry.status.name) == ("running", os.getpid(), "web")
        assert (machine.id, machine.home.status.name) == (entry.status.machine, "web")
        assert machine.acceleration is Acceleration.TCG
        assert machine.run(stdout=said.extend, stderr=nowhere).exit_code == 0
        ended = machine.stop()
        assert machine.stop() == ended
        assert machine.kill() == ended
    assert said == b"hello\n"
    assert ended.reason is EndReason.GUEST_EXIT

    (receipt,) = here.receipts()
    assert receipt.observed.reason is EndReason.GUEST_EXIT
    assert receipt.observed.corruption is None
    assert receipt.reported == ended.status
    assert receipt.observed.console_bytes == len(b"booted\n")
    assert (usage := receipt.observed.usage) is not None
    assert min(usage.user_ms, usage.peak_kib) > 0
    assert [added.parameter for added in receipt.observed.additions] == [BackendParameter.TSC_EARLY_KHZ]
    assert receipt.subjects == plan.plan.subjects
    assert (receipt.plan, receipt.policy, receipt.provenance) == (plan.digest, plan.policy, plan.provenance.bundle)

    begin, end = here.log()
    assert (begin.kind, end.kind) == (RecordKind.START, RecordKind.END)
    assert begin.machine == end.machine == machine.id
    assert begin.digests["kernel"] == plan.image.kernel.digest
    assert {"argv", "provenance", "initrd", "rootfs", "manifest"} < set(begin.digests)
    assert begin.digests["shares"] == begin.digests["network"] == Digest.of(b"[]"), "there are none"
    assert end.digests["receipt"] == ended.receipt
    assert (end.exit_code, end.reasons) == (0, ())
    assert receipt.observed.start_record == 0

    entry = only_entry(here)
    assert (entry.state, entry.status.exit_code, entry.alive) == ("ended", 0, False)
    console = Path(machine.home.where) / "console.log"
    assert console.read_bytes() == b"booted\n"
    assert all(path.stat().st_mode & 0o077 == 0 for path in (console, console.parent, *console.parent.iterdir()))


def test_the_guest_boots_from_the_verified_descriptors(here: House) -> None:
    with here.plan(verbs=EXEC) as plan, start_machine(plan, here.host()) as machine:
        assert exec_(machine, "cat-disk") == (0, here.world.rootfs[:65536])
        _, names = exec_(machine, "descriptors")
        assert b"memfd:" in names
        assert machine.ping() > 0


def test_the_commands_status_is_the_guests_own(here: House) -> None:
    said = bytearray()
    with here.plan("complain", "no") as plan, start_machine(plan, here.host()) as machine:
        assert machine.run(stdout=nowhere, stderr=said.extend).exit_code == 3
        assert machine.stop().reason is EndReason.GUEST_EXIT
    assert said == b"no"
    assert [(record.backend, record.exit_code) for record in here.log()] == [("qemu", None), (None, 3)]
    observed = here.receipts()[0].observed
    assert observed.backend is Backend.QEMU
    assert [str(it) for it in observed.additions] == [f"tsc_early_khz={it.value}" for it in observed.additions]


def test_a_machine_that_is_stopped_before_its_command_ended(here: House) -> None:
    with here.plan() as plan, start_machine(plan, here.host()) as machine:
        assert machine.stop().reason is EndReason.STOPPED
    assert here.receipts()[0].reported is None


def test_an_error_in_the_callers_own_code_ends_the_machine_too(here: House) -> None:
    with here.plan() as plan, pytest.raises(ZeroDivisionError), start_machine(plan, here.host()) as machine:
        _ = 1 // 0
    assert machine.ended is not None
    assert machine.ended.reason is EndReason.STOPPED
    assert kinds(here) == [RecordKind.START, RecordKind.END]


def test_a_guest_that_does_not_stop_is_ended(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.launch.runtime.machine._AFTERMATH", 0.2)
    with here.plan(verbs=EXEC) as plan, start_machine(plan, here.host()) as machine:
        os.kill(machine._guest.process.pid, signal.SIGSTOP)
        ended = machine.stop(grace=0.1)
    assert ended.reason is EndReason.STOPPED


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ("panic", EndReason.GUEST_PANIC),
        ("die", EndReason.HYPERVISOR_DIED),
        ("violate", EndReason.CHANNEL_VIOLATION),
    ],
)
def test_a_guest_that_fails_while_it_runs_the_command(here: House, argv: str, reason: EndReason) -> None:
    with here.plan(argv) as plan, start_machine(plan, here.host()) as machine:
        with pytest.raises(MachineFailedError) as caught:
            machine.run(stdout=nowhere, stderr=nowhere)
        with pytest.raises(MachineFailedError):
            machine.ping()
    assert caught.value.ended.reason is reason
    assert caught.value.exit_code == 125
    assert "\x1b" not in str(caught.value)
    assert here.log()[-1].reasons == (reason,)
    (receipt,) = here.receipts()
    assert receipt.observed.reason is reason
    assert receipt.observed.corruption is not None
    assert receipt.observed.corruption.count == 0


@pytest.mark.parametrize(
    ("scenario", "reason"),
    [
        (Scenario.PANICS, EndReason.GUEST_PANIC),
        (Scenario.ABORTS, EndReason.HYPERVISOR_DIED),
        (Scenario.STOPS, EndReason.HYPERVISOR_DIED),
        (Scenario.BABBLES, EndReason.CHANNEL_VIOLATION),
    ],
)
def test_a_boot_that_fails(here: House, scenario: Scenario, reason: EndReason) -> None:
    with here.plan() as plan, pytest.raises(MachineFailedError) as caught:
        start_machine(plan, here.host(scenario))
    assert caught.value.ended.reason is reason
    assert kinds(here) == [RecordKind.START, RecordKind.END]
    assert only_entry(here).status.reason is reason
    assert here.receipts()[0].observed.ready is None


def test_an_end_under_a_bound_of_the_memory_names_the_bound(here: House) -> None:
    """By an allocation that fails QEMU says what it could not do then, not always the word memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 45, hard))
    try:
        with here.plan() as plan, pytest.raises(MachineFailedError) as caught:
            start_machine(plan, here.host(Scenario.ABORTS))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert f"memory is limited to {1 << 45} bytes (ulimit -v)" in caught.value.hint


def test_a_guest_that_says_it_failed_and_goes_on_is_ended_and_that_is_said(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvmnix.launch.runtime.machine._AFTERMATH", 0.2)
    with here.plan() as plan, pytest.raises(MachineFailedError) as caught:
        start_machine(plan, here.host(Scenario.FAILS))
    assert caught.value.ended.reason is EndReason.GUEST_FAILED
    assert "no room for the disk; it didn't end by itself, so mvm ended it" in str(caught.value)
    assert "an option is deprecated" in str(caught.value), "its hypervisor's last words"
    assert "memory" not in caught.value.hint
    assert caught.value.hint.startswith("its console is in ")


def test_a_guest_that_says_goodbye_and_goes_on_was_stopped(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.launch.runtime.machine._AFTERMATH", 0.2)
    with here.plan() as plan, start_machine(plan, here.host(Scenario.LINGERS)) as machine:
        ended = machine.stop(grace=float(PATIENCE))
    assert ended.reason is EndReason.STOPPED


def test_a_guest_that_announced_its_end_and_is_slow_ended_itself(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy host a hypervisor may take longer than mvm waits; nobody stopped it."""
    monkeypatch.setattr("mvmnix.launch.runtime.machine._AFTERMATH", 0.2)
    with here.plan() as plan, start_machine(plan, here.host(Scenario.LINGERS)) as machine:
        machine.run(stdout=lambda _: None, stderr=lambda _: None)
    assert here.receipts()[0].observed.reason is EndReason.GUEST_EXIT


@pytest.mark.parametrize("scenario", [Scenario.HANGS, Scenario.SPINS, Scenario.CHATTERS])
def test_a_boot_that_hangs_is_ended(here: House, scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.vmm.boot_watchdog._WALL_FACTOR", 0.5)  # when is in its own tests
    monkeypatch.setattr("mvmnix.vmm.boot_watchdog._TOTAL_FACTOR", 0.7)
    with here.plan(boot_seconds=scaled(1)) as plan, pytest.raises(GuestTimeoutError):
        start_machine(plan, here.host(scenario))
    assert here.receipts()[0].observed.reason is EndReason.TIMEOUT


def test_a_boot_that_is_given_up_leaves_no_hypervisor(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, real = list[Machine](), Machine.boot

    def boot(machine: Machine, config: GuestConfig, again: Another, *, reboots_panic: bool) -> None:
        begun.append(machine)
        real(machine, config, again, reboots_panic=reboots_panic)
        raise KeyboardInterrupt

    monkeypatch.setattr(Machine, "boot", boot)
    with here.plan() as plan, pytest.raises(KeyboardInterrupt):
        start_machine(plan, here.host())
    (machine,) = begun
    assert not Path(f"/proc/{machine._guest.process.pid}").exists()
    assert kinds(here) == [RecordKind.START, RecordKind.END]


def test_a_command_that_takes_too_long_ends_the_machine(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.launch.runtime.machine._GRACE", 0.0)
    with here.plan(verbs=EXEC) as plan, start_machine(plan, here.host()) as machine, pytest.raises(GuestTimeoutError):
        exec_(machine, "sleep", str(PATIENCE), timeout=SHORT)
    assert here.log()[-1].reasons == (EndReason.TIMEOUT,)


def test_a_machine_lives_no_longer_than_its_plan_says(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.launch.runtime.machine._GRACE", -0.5)
    plan = here.plan("sleep", str(PATIENCE), wall_seconds=scaled(1))
    with plan, start_machine(plan, here.host()) as machine, pytest.raises(GuestTimeoutError):
        machine.run(stdout=nowhere, stderr=nowhere)
    assert machine.ended is not None
    assert machine.ended.reason is EndReason.TIMEOUT


def test_a_machine_that_does_nothing_is_ended(here: House) -> None:
    """Nobody asks it anything, and it says nothing."""
    plan = here.plan("sleep", str(PATIENCE), limits=PlanLimits(idle_seconds=1))
    with plan, start_machine(plan, here.host()) as machine, pytest.raises(GuestTimeoutError, match="did nothing"):
        machine.run(stdout=nowhere, stderr=nowhere)
    assert here.receipts()[0].observed.reason is EndReason.IDLE
    assert here.log()[-1].reasons == (EndReason.IDLE,)


def test_a_machine_that_is_asked_something_is_not_idle(here: House) -> None:
    """For longer than it may do nothing; the last command says that it lives."""
    idle = scaled(3)
    limits = PlanLimits(idle_seconds=idle)
    with here.plan(verbs=EXEC, limits=limits) as plan, start_machine(plan, here.host()) as machine:
        for _ in range(15):
            time.sleep(idle / 10)
            machine.ping()
        assert exec_(machine, "echo", "x") == (0, b"x\n")
        assert machine.ended is None


def test_limits_of_the_plan_reach_guest_and_logs(here: House) -> None:
    limits = PlanLimits(tasks=9, system_calls=SystemCalls.STRICT, console_kib=1, output_kib=2)
    with here.plan("flood", "4096", limits=limits) as plan, start_machine(plan, here.host()) as machine:
        told = told_to(machine)
        assert machine.run(stdout=nowhere, stderr=nowhere).exit_code == 0
    assert (told.tasks, told.system_calls) == (9, SystemCalls.STRICT)
    sizes = {path.name: path.stat().st_size for path in Path(machine.home.where).glob("*.log")}
    marker = 64
    assert 1024 <= sizes.pop("console.log") < 1024 + marker
    assert sizes.keys() == {NEWER, OLDER}
    assert 1024 < sum(sizes.values()) <= 2048
    with Directory.open(machine.home.where) as directory, closing(OutputReader(directory)) as reader:
        missing, *pieces = reader.read()
    assert isinstance(missing, Missing)
    assert missing.count + sum(len(it.data) for it in pieces if isinstance(it, Piece)) == 10_000


def test_the_filter_is_the_image_s_where_the_plan_says_nothing(here: House) -> None:
    here.world.change_manifest(lambda value: value.update(systemCalls="namespaces"))
    here.world.sign_provenance()
    with here.plan() as plan, start_machine(plan, here.host()) as machine:
        assert (told_to(machine).system_calls, told_to(machine).tasks) == (SystemCalls.NAMESPACES, 0)


def test_a_guest_that_ends_without_being_asked(here: House) -> None:
    with here.plan(verbs=EXEC) as plan, start_machine(plan, here.host(Scenario.NO_BYE)) as machine:
        os.kill(machine._guest.process.pid, signal.SIGALRM)
        assert machine.wait().reason is EndReason.GUEST_PANIC


def test_a_guest_that_resets_without_a_farewell(here: House) -> None:
    """Whether it did what it was told, or panicked on the way: nobody knows, so nobody says that it ended in order."""
    with here.plan() as plan, start_machine(plan, here.host(Scenario.MUTE)) as machine:
        assert machine.run(stdout=nowhere, stderr=nowhere).exit_code == 0
        assert machine.stop().reason is EndReason.GUEST_PANIC


def flip(path: Path, offset: int) -> None:
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_corrupted_blocks_are_named_when_the_guest_stops(here: House) -> None:
    with here.plan("panic") as plan:
        flip(here.path / "rootfs", 3 * 4096 + 17)
        flip(here.path / "rootfs", 9 * 4096)
        with (
            start_machine(plan, here.host()) as machine,
            pytest.raises(RefusedError, match=r"2 of its blocks.*: 3, 9") as caught,
        ):
            machine.run(stdout=nowhere, stderr=nowhere)
    assert caught.value.codes == (ReasonCode.VERITY_MISMATCH,)
    assert machine.ended is not None
    assert machine.ended.corrupted == (3, 9)
    (receipt,) = here.receipts()
    assert receipt.observed.reason is EndReason.VERITY_CORRUPTION
    assert receipt.observed.corruption is not None
    assert receipt.observed.corruption.first == (3, 9)
    assert here.log()[-1].reasons == (EndReason.VERITY_CORRUPTION,)


def test_a_flooded_console_is_bounded_and_does_not_hinder(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.machines.console_log.CONSOLE_LIMIT", 65536)
    with here.plan("flood", "4096") as plan, start_machine(plan, here.host()) as machine:
        assert machine.run(stdout=nowhere, stderr=nowhere).exit_code == 0
    assert (Path(machine.home.where) / "console.log").stat().st_size < 66000


def refused(here: House, code: ReasonCode, begin: Callable[[], object]) -> None:
    with pytest.raises(RefusedError) as caught:
        begin()
    assert caught.value.codes == (code,)
    (record,) = here.log()
    assert (record.kind, record.reasons) == (RecordKind.REFUSAL, (code,))
    assert not registry.list_entries(here.directory("machines"))


def test_a_plan_that_demands_kvm_where_there_is_none(here: House) -> None:
    with here.plan(accelerator=Accelerator.KVM) as plan:
        refused(here, ReasonCode.ACCELERATOR_UNAVAILABLE, lambda: start_machine(plan, here.host()))


@pytest.mark.parametrize("backend", [Backend.FIRECRACKER, Backend.CLOUD_HYPERVISOR])
def test_a_plan_for_another_backend_than_the_hosts(here: House, backend: Backend) -> None:
    """Whoever wires a host chooses by the plan; if they didn't, nothing starts."""
    with here.plan(backend=backend) as plan:
        refused(here, ReasonCode.BACKEND_UNAVAILABLE, lambda: start_machine(plan, here.host()))


def test_a_container_is_no_machine(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeHypervisor, "backend", Backend.CONTAINER)
    here.world.policy = replace(here.world.policy, isolation=Isolation.CONTAINER)
    with here.plan(backend=Backend.CONTAINER, isolation=Isolation.CONTAINER) as plan:
        refused(here, ReasonCode.BACKEND_UNAVAILABLE, lambda: start_machine(plan, here.host()))


def test_a_service_that_the_plan_does_not_grant(here: House) -> None:
    with here.plan() as plan:
        services = {80: lambda wake: pytest.fail(f"called with {wake}")}
        refused(here, ReasonCode.VERB_NOT_GRANTED, lambda: start_machine(plan, here.host(), services=services))


def test_a_guest_that_nobody_could_set_up(here: House) -> None:
    here.world.change_manifest(lambda value: value.update(writable=["/tmp"]))
    here.world.sign_provenance()
    with here.plan(scratch_mib=0) as plan:
        refused(here, ReasonCode.PLAN_MISMATCH, lambda: start_machine(plan, here.host()))


def test_the_guest_is_told_what_the_plan_says(here: House) -> None:
    """Each of it, by values that nothing else has; and the machine's own name, the host's clock and a tmpfs."""
    limits = PlanLimits(tasks=77, system_calls=SystemCalls.STRICT)
    with here.plan("/bin/echo", "x", scratch_mib=33, limits=limits, wall_seconds=PATIENCE) as plan:
        with start_machine(plan, here.host()) as machine:
            told = told_to(machine)
        assert (told.scratch, told.timeout_ms, told.tasks) == (33 << 20, 1000 * PATIENCE, 77)
        assert (told.owner, told.system_calls) == (plan.plan.workload.user, SystemCalls.STRICT)
        assert (told.workload, told.verbs) == (plan.plan.workload, plan.plan.verbs)
        assert (told.writable, told.ports, told.data) == (plan.image.writable, (), "")
        assert (told.hostname, told.time_ns) == (f"mvm-{machine.id}", time_ns(NOW + timedelta(seconds=1)))
        assert told.order is DirectoryOrder.NATURAL


def test_a_variation_tells_the_guest_otherwise(here: House) -> None:
    variation = Variation("other", 86_400, "reversed")
    with here.plan(variation=variation, scratch_mib=128) as plan, start_machine(plan, here.host()) as machine:
        told = told_to(machine)
    assert (told.hostname, told.time_ns) == ("other", time_ns(NOW + timedelta(days=1, seconds=1)))
    assert told.order is DirectoryOrder.REVERSED


def time_ns(time: datetime) -> int:
    return int(time.timestamp()) * 10**9


@pytest.mark.parametrize(
    ("variation", "scratch"),
    [(Variation("other", 0, "reversed"), 127), (Variation("other", -3_000_000_000, "natural"), 1)],
)
def test_a_variation_that_no_guest_can_show(here: House, variation: Variation, scratch: int) -> None:
    with (
        here.plan(variation=variation, scratch_mib=scratch) as plan,
        pytest.raises(RefusedError) as caught,
        start_machine(plan, here.host()),
    ):
        pass
    assert caught.value.codes == (ReasonCode.PLAN_MISMATCH,)


@pytest.mark.parametrize("posture", Posture)
def test_exec_needs_its_verb(here: House, posture: Posture) -> None:
    with here.plan(posture=posture) as plan, start_machine(plan, here.host()) as machine:
        with pytest.raises(RefusedError) as caught:
            exec_(machine, "true")
        assert machine.run(stdout=nowhere, stderr=nowhere).exit_code == 0
    assert caught.value.codes == (ReasonCode.VERB_NOT_GRANTED,)


def test_what_cannot_be_run_is_usage(here: House) -> None:
    with here.plan(verbs=EXEC) as plan, start_machine(plan, here.host()) as machine:
        with pytest.raises(UsageError, match="absolute working directory"):
            machine.exec(("true",), environment={}, stdout=nowhere, stderr=nowhere, directory="relative")
        assert exec_(machine, "true") == (0, b"")


class BrokenJournal:
    """A log on a full disk, from some record on."""

    def __init__(self, host: Host, good: int) -> None:
        self._log = host.journal
        self._good = good
        self.about, self.vouch = host.journal.about, host.journal.vouch

    def append(self, record: Record) -> Indexed:
        if self._good == 0:
            raise MvmnixError("the audit log cannot be written: No space left on device", hint="make room")
        self._good -= 1
        return self._log.append(record)


def test_nothing_starts_when_the_start_cannot_be_logged(here: House) -> None:
    host = here.host()
    with here.plan() as plan, pytest.raises(MvmnixError, match="No space left"):
        start_machine(plan, replace(host, journal=BrokenJournal(host, 0)))
    assert not here.directory("machines").names() or not registry.list_entries(here.directory("machines"))
    assert here.log() == []


def test_a_machine_ends_even_when_its_end_cannot_be_logged(here: House) -> None:
    """That is told however often somebody asks for it: its directory was let go of, and to say that helps nobody."""
    host = here.host()
    broken = replace(host, journal=BrokenJournal(host, 1))
    with here.plan() as plan, pytest.raises(MvmnixError, match="No space left"), start_machine(plan, broken) as machine:
        pid = machine._guest.process.pid
        for end in (machine.stop, machine.kill, machine.stop):
            with pytest.raises(MvmnixError, match="No space left"):
                end()
    assert not Path(f"/proc/{pid}").exists()
    assert only_entry(here).state == "dead"
    (dead,) = cleanup.clean_up(here.directory("machines"), here.ledger(), host.clock, here.notices.append)
    assert dead.machine == machine.id
    assert kinds(here) == [RecordKind.START, RecordKind.END]


def test_a_start_that_its_anchor_does_not_take_has_an_end(here: House) -> None:
    host = here.host()
    with here.plan() as plan, pytest.raises(RefusedError, match="anchor-unavailable"):
        start_machine(plan, replace(host, journal=Unanchored(host)))
    assert kinds(here) == [RecordKind.START, RecordKind.END]
    assert here.log()[-1].reasons == (EndReason.NOT_STARTED,)
    assert only_entry(here).status.reason is EndReason.NOT_STARTED
    assert only_entry(here).state == "ended"
    assert here.receipts() == []


def test_a_hypervisor_that_cannot_be_started(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.unit.launch.fake_hypervisor.sys.executable", "/proc/nonexistent/qemu")
    with here.plan() as plan, pytest.raises(MvmnixError, match="/proc/nonexistent/qemu"):
        start_machine(plan, here.host())
    assert kinds(here) == [RecordKind.START, RecordKind.END]
    assert only_entry(here).status.reason is EndReason.HYPERVISOR_DIED


def test_a_name_is_given_once(here: House) -> None:
    with here.plan() as plan:
        with start_machine(plan, here.host(), name="web"), pytest.raises(UsageError, match="'web' is there already"):
            start_machine(plan, here.host(), name="web")
        with start_machine(plan, here.host(), name="web"):
            pass
        with pytest.raises(UsageError, match="not a machine's name"):
            start_machine(plan, here.host(), name="../web")


def test_three_machines_at_once_in_one_process(here: House) -> None:
    host = here.host()
    with here.plan(verbs=EXEC) as plan:
        machines = [start_machine(plan, host) for _ in range(3)]
        pids = {exec_(machine, "pid")[1] for machine in machines}
        with pytest.raises(MachineFailedError):
            exec_(machines[0], "die")
        assert exec_(machines[1], "true") == (0, b"")
        ends: list[Ended] = [machine.stop() for machine in machines[1:]]
    assert len(pids) == 3
    assert [ended.reason for ended in ends] == [EndReason.STOPPED] * 2


def test_nothing_is_left_open(here: House) -> None:
    def once() -> None:
        host = here.host()
        with here.plan() as plan, start_machine(plan, host) as machine:
            machine.run(stdout=nowhere, stderr=nowhere)
        journal: AuditLog = host.journal  # type: ignore[assignment]
        log: Directory = host.replay._starts._log  # type: ignore[attr-defined]
        kept = (host.templates._directory, host.snapshots._directory)
        opened = (host.machines, host.kvm._cache, host.replay._directory, *kept)
        for directory in (*opened, journal._directory, log):
            directory.close()
        host.loop.close()

    once()
    with nothing_left_open():
        once()


class Closed:
    """A service that will have none of it."""

    def data(self, data: bytes) -> None:
        raise StreamRefusedError(f"not {len(data)} bytes")

    def eof(self) -> None:
        raise StreamRefusedError("nor their end")

    def pull(self, limit: int) -> bytes | None:
        return b""

    def reset(self) -> None:
        """Which it knows."""


def test_a_guest_that_provokes_refusals_does_not_flood_the_log(here: House) -> None:
    verbs = frozenset({Verb.EXEC, Verb.STREAM})
    services = {port: lambda _wake: Closed() for port in (80, 443)}
    with (
        here.plan(verbs=verbs, ports=(80, 443)) as plan,
        start_machine(plan, here.host(), services=services) as machine,
    ):
        for times, port in enumerate(("80", "443", "80", "80"), 1):
            assert exec_(machine, "knock", port, "40") == (0, b"")
            for _ in range(1000):  # each turn of the guest opens one connection
                machine.ping()
                if sum(machine._observations.tally.counts.values()) == 40 * times:
                    break
    *_, first, second, end = here.log()
    assert [(it.kind, it.reasons, it.count) for it in (first, second)] == [
        (RecordKind.REFUSAL, ("port-80-refused",), 120),
        (RecordKind.REFUSAL, ("port-443-refused",), 40),
    ]
    assert len(here.log()) == 4
    assert first.machine == end.machine == machine.id
    assert end.kind is RecordKind.END
