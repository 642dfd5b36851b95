"""Templates and snapshots of a house's host, by a hypervisor that saves and restores, without a machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError
from mvmnix.launch.control.messages import SnapshotKept
from mvmnix.launch.gate.snapshot import SnapshotSubmission, VerifiedSnapshot, verify_snapshot
from mvmnix.launch.gate.verify import Submission, VerifiedPlan
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.restore import restore_machine
from mvmnix.launch.runtime.save_template import save_template
from mvmnix.launch.runtime.snapshot_facts import host_facts
from mvmnix.launch.runtime.start import start_machine
from mvmnix.launch.snapshots.store import KeptSnapshot
from mvmnix.launch.templates.store import KeptTemplate
from mvmnix.model import Verb, Workload
from mvmnix.plan.plan import Accelerator, Timeouts, Use
from mvmnix.plan.secret_reference import SecretReference, SecretTarget
from mvmnix.vmm.port import Acceleration, LaunchSpec
from mvmnix.vmm.tsc import TscClock
from tests.patience import EVENT_PATIENCE, PATIENCE
from tests.unit.launch.fake_hypervisor import FakeHypervisor, Scenario
from tests.unit.launch.house import House, house, nowhere
from tests.unit.provenance.world import HOST

KHZ = 2_000_000
#: The policy of a house's host, as its templates know it.
POLICY = Digest("0" * 64)
#: What plans grant whose machines are saved while they run, and what these run.
GRANTED = frozenset({Verb.EXEC, Verb.SNAPSHOT})
ARGV = ("/bin/sleep", "1000")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A stall shows soon here, and the host's counter is always measured the same."""
    for name, value in {"_QUIET": 0.5, "_USED": 0.1, "_WALL_FACTOR": 1.0, "_TOTAL_FACTOR": 2.0}.items():
        monkeypatch.setattr(f"mvmnix.vmm.boot_watchdog.{name}", value)
    monkeypatch.setattr(TscClock, "khz", lambda _: KHZ)
    with house(tmp_path / "house") as it:
        yield it


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a plan says whose guest is told a secret, and may be saved with it."""
    monkeypatch.setenv("TOKEN", "the first one")
    secret = SecretReference.parse("token=env:TOKEN", SecretTarget.FILE)
    return {"secrets": (secret,), "snapshot_with_secrets": True, "use": Use.WITHIN_WINDOW}


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


@contextmanager
def running(here: House, *argv: str, verbs: frozenset[Verb] = GRANTED, **changes: Any) -> Iterator[Machine]:
    """A machine of a plan that grants snapshots."""
    with here.plan(*argv or ARGV, verbs=verbs, **changes) as plan, start_machine(plan, host_of(here)) as machine:
        yield machine


def taken(machine: Machine, *, ends: bool = False) -> SnapshotKept | MvmnixError:
    """Take a snapshot, and wait for it."""
    outcome: list[SnapshotKept | MvmnixError] = []
    machine.start_snapshot(outcome.append, ends=ends)
    while not outcome:
        machine.loop.turn()
    return outcome[0]


def kept(machine: Machine, *, ends: bool = False) -> SnapshotKept:
    """The same, where it comes to something."""
    outcome = taken(machine, ends=ends)
    assert isinstance(outcome, SnapshotKept), outcome
    return outcome


@contextmanager
def verified(here: House, host: Host, snapshot: SnapshotKept) -> Iterator[tuple[VerifiedSnapshot, KeptSnapshot]]:
    """A snapshot that passed the gate."""
    with host.snapshots.open(snapshot.id) as found:
        facts = host_facts(host.hypervisor, HOST.public, TscClock.start())
        files = here.world.open(here.path)
        try:
            handed = SnapshotSubmission(found.bundle, Submission(found.plan, here.world.evidence, files))
            result = verify_snapshot(handed, policy=here.world.policy, now=host.clock(), host=facts)
        finally:
            for fd in (files.kernel, files.initrd, files.rootfs):
                os.close(fd)
        with result:
            yield result, found


@contextmanager
def restored(here: House, snapshot: SnapshotKept, host: Host | None = None) -> Iterator[Machine]:
    """A machine that goes on from it."""
    host = host or host_of(here)
    with verified(here, host, snapshot) as (result, found), restore_machine(result, found, host) as machine:
        yield machine


def say(machine: Machine, *argv: str) -> int:
    """The exit code of a command."""
    return machine.exec(argv, environment={}, stdout=nowhere, stderr=nowhere).exit_code
