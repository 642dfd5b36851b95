"""What holds a guest: hardware virtualization where a policy requires it, or no start; and the receipt says which."""

import pytest

from mvmnix.audit.record import RecordKind
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.runtime.start import start_machine
from mvmnix.machines import registry
from mvmnix.plan.plan import Accelerator
from mvmnix.provenance.isolation import Boundary, Isolation
from mvmnix.vmm.process import JailedProcess
from tests.policies import effective
from tests.unit.launch.fake_hypervisor import Scenario
from tests.unit.launch.house import House
from tests.unit.provenance import world as worlds

#: A device that opens; with it the probe guest of the fake hypervisor boots.
KVM = "/dev/null"


def require_hardware(it: House) -> None:
    it.world.policy = effective(None, worlds.trust().replace(b'"microvm"', b'"hardware"'))


def test_without_hardware_no_hypervisor_starts(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before anything is made or spent, and the refusal is in the log."""
    require_hardware(here)
    monkeypatch.setattr(JailedProcess, "spawn", lambda *_, **__: pytest.fail("a hypervisor was started"))
    for accelerator in (Accelerator.ANY, Accelerator.KVM):
        with here.plan(accelerator=accelerator) as plan:
            assert plan.required is Isolation.HARDWARE
            with pytest.raises(RefusedError) as caught:
                start_machine(plan, here.host())
        assert caught.value.codes == (ReasonCode.HARDWARE_REQUIRED,)
    assert [(it.kind, it.reasons) for it in here.log()] == [(RecordKind.REFUSAL, (ReasonCode.HARDWARE_REQUIRED,))] * 2
    assert not registry.list_entries(here.directory("machines"))


def test_where_kvm_does_not_boot_a_guest_none_starts_under_tcg(here: House) -> None:
    """The device is there and opens, and the probe guest dies in it."""
    require_hardware(here)
    with here.plan() as plan, pytest.raises(RefusedError) as caught:
        start_machine(plan, here.host(Scenario.ONLY_TCG, device=KVM))
    assert caught.value.codes == (ReasonCode.HARDWARE_REQUIRED,)
    assert "failed to set MSR" in str(caught.value)
    assert not registry.list_entries(here.directory("machines"))


def test_with_hardware_it_starts_and_the_receipt_says_so(here: House) -> None:
    require_hardware(here)
    with here.plan() as plan, start_machine(plan, here.host(device=KVM)) as machine:
        machine.stop()
    (receipt,) = here.receipts()
    assert receipt.observed.boundary is Boundary.HARDWARE
    assert Boundary.HARDWARE.explained in here.notices[-1]


def test_under_emulation_receipt_and_notice_say_that_the_sandbox_alone_held(here: House) -> None:
    with here.plan() as plan, start_machine(plan, here.host()) as machine:
        assert plan.required is Isolation.MICROVM
        machine.stop()
    (receipt,) = here.receipts()
    assert receipt.observed.boundary is Boundary.SANDBOX
    assert Boundary.SANDBOX.explained in here.notices[-1]
