"""Templates of a house's host, by a hypervisor that saves and restores, without a machine."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.save_template import save_template
from mvmnix.launch.templates.store import KeptTemplate
from mvmnix.model import Verb, Workload
from mvmnix.plan.plan import Accelerator, Timeouts, Use
from mvmnix.vmm.port import Acceleration, LaunchSpec
from mvmnix.vmm.tsc import TscClock
from tests.patience import EVENT_PATIENCE, PATIENCE
from tests.unit.launch.fake_hypervisor import FakeHypervisor, Scenario
from tests.unit.launch.house import House, house

KHZ = 2_000_000
#: The policy of a house's host, as its templates know it.
POLICY = Digest("0" * 64)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A stall shows soon here, and the host's counter is always measured the same."""
    for name, value in {"_QUIET": 0.5, "_USED": 0.1, "_WALL_FACTOR": 1.0, "_TOTAL_FACTOR": 2.0}.items():
        monkeypatch.setattr(f"mvmnix.vmm.boot_watchdog.{name}", value)
    monkeypatch.setattr(TscClock, "khz", lambda _: KHZ)
    with house(tmp_path / "house") as it:
        yield it


def host_of(here: House, scenario: Scenario = Scenario.BOOTS, restored: Scenario | None = Scenario.BOOTS) -> Host:
    """One whose hypervisor can save; what happens when it boots a guest, and when it restores one."""
    made = here.host()
    root = here.path / "guest"
    return replace(made, hypervisor=FakeHypervisor(scenario, root, restored))


def template_plan(here: House, **changes: Any) -> VerifiedPlan:
    """A verified plan for a template."""
    own = here.world.image.workload
    usual: dict[str, Any] = {
        "workload": Workload((), {}, own.directory, own.user),
        "verbs": frozenset[Verb](),
        "use": Use.TEMPLATE,
        "accelerator": Accelerator.TCG,
        "timeouts": Timeouts(EVENT_PATIENCE, PATIENCE),
    }
    here.world.sign_plan(**(usual | changes))
    return here.verified()


def save(here: House, scenario: Scenario = Scenario.BOOTS, **changes: Any) -> KeptTemplate:
    """Make a template; what was kept last."""
    host = host_of(here, scenario)
    with template_plan(here, **changes) as plan:
        save_template(plan, host)
    return max(host.templates.list(), key=lambda kept: kept.used)


def spec_of(plan: VerifiedPlan, acceleration: Acceleration = Acceleration.TCG, **changes: Any) -> LaunchSpec:
    """The machine of a plan, as far as a template's key has it."""
    spec = LaunchSpec(
        kernel=0,
        initrd=0,
        rootfs=0,
        channel=0,
        console=0,
        monitor=0,
        vcpus=plan.plan.vcpus,
        memory_mib=plan.plan.memory_mib,
        command_line=plan.plan.command_line,
        acceleration=acceleration,
        tsc_khz=KHZ,
    )
    return replace(spec, **changes)
