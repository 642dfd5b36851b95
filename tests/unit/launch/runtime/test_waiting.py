"""Machines that wait and are claimed, with a hypervisor that saves and restores, without a machine."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from mvmnix.audit.record import RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, RefusedError, UsageError
from mvmnix.launch.agent.encoding import ChannelProtocolError
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.accelerator import KvmProbe, KvmVerdict
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.start import start_machine, start_to_wait
from mvmnix.launch.runtime.waiting import WaitingMachine
from mvmnix.launch.templates.store import NoTemplateError, Templates
from mvmnix.launch.templates.template import NOTHING_HELD
from mvmnix.machines.ending import EndReason
from mvmnix.machines.receipt import Receipt
from mvmnix.machines.status import MachineState, MachineStatus
from mvmnix.plan.data_disk import DataDisk
from mvmnix.plan.network import Action, Network, NetworkRule
from mvmnix.plan.plan import Start, Use
from mvmnix.plan.share import Share
from mvmnix.system.stop_signals import StopRequestedError
from mvmnix.vmm.tsc import TscClock
from tests.descriptors import nothing_left_open
from tests.patience import SHORT
from tests.unit.launch.fake_hypervisor import Scenario
from tests.unit.launch.house import House, nowhere
from tests.unit.launch.saving import KHZ, POLICY, here, host_of, save, spec_of, template_plan

__all__ = ["here"]

#: A network that lets nothing through.
CLOSED = Network((NetworkRule("all", Action.DENY, "*", None, None),))


def pool_plan(here: House, **changes: Any) -> VerifiedPlan:
    """A verified plan for a pool."""
    return template_plan(here, use=Use.POOL, **changes)


@contextmanager
def waiting(here: House, host: Host) -> Iterator[WaitingMachine]:
    with pool_plan(here) as plan, start_to_wait(plan, host) as machine:
        yield machine


def claim(here: House, host: Host, machine: WaitingMachine, **changes: Any) -> Receipt:
    """Run a machine to its end that may claim the one that waits; its receipt."""
    with (
        here.plan("/bin/echo", "x", **changes) as plan,
        start_machine(plan, replace(host, loop=machine.loop), waiting=machine) as claimed,
    ):
        assert claimed.run(stdout=nowhere, stderr=nowhere).exit_code == 0
        number = claimed.id
    (receipt,) = (it for it in here.receipts() if it.observed.machine == number)
    return receipt


def machine_host(here: House, machine: WaitingMachine) -> Host:
    """A host that serves in the loop of the machine that waits."""
    return replace(host_of(here), loop=machine.loop)


def kinds(here: House) -> list[tuple[RecordKind, str | None, tuple[str, ...]]]:
    return [(record.kind, record.machine, record.reasons) for record in here.log()]


def test_a_claim_ends_one_record_and_begins_another(here: House) -> None:
    kept, host = save(here), host_of(here)
    with waiting(here, host) as machine:
        status = (here.path / "machines" / machine.id / "machine.json").read_bytes()
        assert MachineStatus.parse(status).state is MachineState.WAITING
        receipt = claim(here, host_of(here), machine)
    first, second = machine.id, receipt.observed.machine
    assert kinds(here)[-4:] == [
        (RecordKind.START, first, ()),
        (RecordKind.END, first, (EndReason.CLAIMED,)),
        (RecordKind.START, second, ()),
        (RecordKind.END, second, ()),
    ]
    waited, begun = here.log()[-3], here.log()[-2]
    assert begun.digests["waited"] == waited.digests["receipt"]
    assert begun.digests["template"] == kept.record.key
    (other,) = (it for it in here.receipts() if it.observed.machine == first)
    assert (other.observed.reason, other.reported) == (EndReason.CLAIMED, None)
    assert (receipt.observed.template, other.observed.template) == (kept.record.machine,) * 2
    assert other.plan != receipt.plan


def test_one_that_is_not_claimed_ends_as_it_was_told(here: House) -> None:
    save(here)
    with waiting(here, host_of(here)) as machine:
        pass
    assert kinds(here)[-1] == (RecordKind.END, machine.id, (EndReason.STOPPED,))


def test_nothing_is_left_open_of_one(here: House) -> None:
    save(here)
    with waiting(here, host_of(here)) as machine:  # the first one loads what stays
        claim(here, host_of(here), machine)
    host = host_of(here)
    with pool_plan(here) as plan, here.plan("/bin/echo") as other, nothing_left_open():
        with start_to_wait(plan, host) as machine, start_machine(other, host, waiting=machine) as claimed:
            assert claimed.run(stdout=nowhere, stderr=nowhere).exit_code == 0
        with start_to_wait(plan, host):
            pass


@pytest.mark.parametrize("changes", [{"vcpus": 2}, {"memory_mib": 300}, {"start": Start.COLD}], ids=str)
def test_a_machine_of_another_shape_starts_by_itself(here: House, changes: dict[str, Any]) -> None:
    save(here)
    with waiting(here, host_of(here)) as machine:
        receipt = claim(here, host_of(here), machine, **changes)
        ends = {it.observed.machine: it.observed.reason for it in here.receipts()}
    assert ends[machine.id] is EndReason.STOPPED, "it was ended before the other one began"
    assert receipt.observed.reason is not EndReason.CLAIMED
    assert "waited" not in here.log()[-2].digests


@pytest.mark.parametrize(
    "changes",
    [{"shares": (Share("/srv", "/srv"),)}, {"data": DataDisk(16, "/data")}, {"network": CLOSED}],
    ids=["shares", "disk", "network"],
)
def test_no_machine_waits_for_one_that_has_more(here: House, changes: dict[str, Any]) -> None:
    """Whatever its key: the guest was given none of it."""
    save(here)
    host = host_of(here)
    with waiting(here, host) as machine, here.plan() as plan:
        more: Any = SimpleNamespace(plan=replace(plan.plan, **changes))
        with pytest.raises(NoTemplateError, match="no machine waits that has a network, shares or a data disk"):
            machine.check(more, host, spec_of(plan))


@pytest.mark.parametrize("limit", [{"cpu_percent": 50}, {"cpu_weight": 20}], ids=str)
def test_a_limit_of_the_hypervisors_is_another_machines(here: House, limit: dict[str, Any]) -> None:
    """It was started without, and its jail can't be given one later."""
    save(here)
    with waiting(here, host_of(here)) as machine, here.plan() as plan:
        with pytest.raises(NoTemplateError, match="of another shape, or has other limits"):
            machine.check(plan, machine_host(here, machine), replace(spec_of(plan), **limit))
        machine.check(plan, machine_host(here, machine), spec_of(plan))


def test_each_part_of_a_machine_is_compared_or_its_own(here: House) -> None:
    """A new field of a machine's makes another shape."""
    save(here)
    with waiting(here, host_of(here)) as machine:
        known = {"vcpus", "memory_mib", "command_line", "acceleration", "kvm", "cpu_percent", "cpu_weight"}
        assert machine._shape.keys() >= known | {"memory", "shares", "data", "network"}


def test_one_that_waits_in_another_loop_is_not_claimed(here: House) -> None:
    save(here)
    with waiting(here, host_of(here)) as machine, here.plan("/bin/echo") as plan:
        with start_machine(plan, host_of(here), waiting=machine) as other:
            other.run(stdout=nowhere, stderr=nowhere)
        assert machine.has_ended
    assert "waited" not in here.log()[-2].digests


def test_under_another_policy_it_is_not_claimed(here: House) -> None:
    save(here)
    with waiting(here, host_of(here)) as machine:
        other = Templates(here.directory("templates"), lambda: bytes(32), Digest("1" * 64), NOTHING_HELD)
        receipt = claim(here, replace(host_of(here), templates=other), machine)
    assert other.policy != POLICY
    assert receipt.observed.template is None


def test_where_the_counter_has_another_frequency_it_is_not_claimed(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(here)
    with waiting(here, host_of(here)) as machine:
        monkeypatch.setattr(TscClock, "khz", lambda _: KHZ + KHZ // 200)
        assert claim(here, host_of(here), machine).observed.template is None


@pytest.mark.parametrize("is_read", [True, False])
def test_one_whose_guest_has_ended_is_not_claimed(here: House, is_read: bool) -> None:
    """Nor is its template blamed, where that is seen only now."""
    save(here)
    with waiting(here, host_of(here)) as machine:
        machine._machine._guest.process.kill()
        while is_read and not machine._machine._guest.channel.failure:
            machine.loop.turn()
        receipt = claim(here, host_of(here), machine)
    assert "waited" not in here.log()[-2].digests
    assert receipt.reported is not None
    assert len(host_of(here).templates.list()) == 1


def test_one_that_ends_by_itself_is_not_said_to_be_stopped(here: House) -> None:
    save(here)
    with waiting(here, host_of(here)) as machine:
        os.kill(machine._machine._guest.process.pid, signal.SIGKILL)
        while not machine.has_ended:
            machine.loop.turn()
    assert kinds(here)[-1] == (RecordKind.END, machine.id, (EndReason.HYPERVISOR_DIED,))


def test_one_that_breaks_the_protocol_is_said_to_have(here: House) -> None:
    save(here)
    with waiting(here, host_of(here)) as machine:
        machine._machine._guest.channel._ended(ChannelProtocolError("a frame out of order"))
    assert kinds(here)[-1] == (RecordKind.END, machine.id, (EndReason.CHANNEL_VIOLATION,))


@pytest.mark.parametrize("again", [False, True], ids=["removed", "replaced"])
def test_one_whose_template_is_another_one_by_now_is_not_claimed(here: House, again: bool) -> None:
    kept = save(here)
    with waiting(here, host_of(here)) as machine:
        if again:
            save(here)
        else:
            host_of(here).templates.remove(kept.record.key)
        with here.plan() as plan, pytest.raises(NoTemplateError, match="was removed, or there is a newer one"):
            machine.check(plan, machine_host(here, machine), spec_of(plan))


@pytest.mark.parametrize("waits", [False, True])
def test_a_caller_that_hangs_up_takes_no_template_away(here: House, waits: bool) -> None:
    save(here)

    def hang_up() -> None:
        raise StopRequestedError(signal.SIGHUP)

    host = host_of(here)
    with waiting(here, host) as machine, here.plan("/bin/echo") as plan, pytest.raises(StopRequestedError):
        host.loop.after(0, hang_up)
        start_machine(plan, host, waiting=machine if waits else None)
    assert len(host.templates.list()) == 1
    assert host.templates.cold_starts("").obstacles == ()


def test_none_waits_where_machines_run_under_kvm(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    save(here)
    monkeypatch.setattr(KvmProbe, "verdict", lambda *_: KvmVerdict(usable=True, seen="it boots", recalled=False))
    with pool_plan(here) as plan, pytest.raises(UsageError, match="machines here run under KVM"):
        start_to_wait(plan, host_of(here))
    assert kinds(here)[-1][2] == (EndReason.SAVED,), "nothing was begun"


def test_it_is_claimed_once(here: House) -> None:
    save(here)
    with waiting(here, host_of(here)) as machine:
        claim(here, host_of(here), machine)
        claim(here, host_of(here), machine)
    assert ["waited" in it.digests for it in here.log() if it.kind is RecordKind.START][-2:] == [True, False]


def test_a_start_that_is_refused_leaves_it_waiting_to_be_ended(here: House) -> None:
    """The log refuses, before anything of it began."""
    save(here)
    with waiting(here, host_of(here)) as machine, pytest.raises(RefusedError, match="grant"):
        start = replace(host_of(here), loop=machine.loop)
        with here.plan("/bin/echo") as plan:
            start_machine(plan, start, services={7: lambda *_: None}, waiting=machine)  # type: ignore[dict-item]
    assert kinds(here)[-1] == (RecordKind.END, machine.id, (EndReason.STOPPED,))


def test_without_a_template_none_waits(here: House) -> None:
    with pool_plan(here) as plan, pytest.raises(MvmnixError, match=r"^no template is kept for it"):
        start_to_wait(plan, host_of(here))
    assert here.log() == []


def test_a_plan_for_something_else_has_none_wait(here: House) -> None:
    save(here)
    with here.plan() as plan, pytest.raises(UsageError, match="the plan is not for a pool"):
        start_to_wait(plan, host_of(here))
    closed = {"network": CLOSED}
    with pool_plan(here, **closed) as plan, pytest.raises(UsageError, match="no machine waits that has a network"):
        start_to_wait(plan, host_of(here))


def test_a_pools_plan_starts_no_machine_of_its_own(here: House) -> None:
    save(here)
    with pool_plan(here) as plan, pytest.raises(UsageError, match="the plan is for a pool"):
        start_machine(plan, host_of(here))


def test_a_guest_that_is_not_restored_ends_the_wait_and_the_template(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvmnix.launch.runtime.boot._RESTORE", SHORT)
    save(here)
    host = host_of(here, restored=Scenario.UNRESTORED)
    with pool_plan(here) as plan, pytest.raises(MvmnixError):
        start_to_wait(plan, host)
    assert kinds(here)[-1][0] is RecordKind.END
    assert host.templates.list() == ()
