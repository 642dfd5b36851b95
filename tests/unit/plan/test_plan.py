"""A plan is written and read back whole; what its predicate may not say is in test_verify.py, step 8."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.model import Posture, SystemCalls, User, Verb, Workload
from mvmnix.plan import plan as plans
from mvmnix.plan.backend import Backend
from mvmnix.plan.data_disk import DataDisk
from mvmnix.plan.limits import PlanLimits
from mvmnix.plan.network import Network
from mvmnix.plan.network_endpoints import PublishedPort
from mvmnix.plan.plan import Accelerator, Placeholders, Start, Timeouts, Use, Window
from mvmnix.plan.secret_reference import SecretReference, SecretTarget
from mvmnix.plan.share import Access, Share
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.isolation import Isolation
from mvmnix.provenance.slsa.provenance import Variation
from tests.unit.provenance import world as worlds
from tests.unit.provenance.world import NOW, World, plan_refusal

SECRET = SecretReference.parse("A=env:X", SecretTarget.FILE)
#: What a template's machine runs.
BARE = Workload((), {}, "/", User(1, 1))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return worlds.new_world(tmp_path)


def test_a_plan_for_an_image(world: World) -> None:
    plan, image = world.plan(), world.image
    assert [(it.name, it.digest) for it in plan.subjects] == [(it.name, it.digest) for it in image.artifacts]
    assert (plan.image, plan.verity, plan.command_line) == (image.name, image.verity, image.command_line)
    assert (plan.vcpus, plan.memory_mib, plan.scratch_mib) == (image.vcpus, image.memory_mib, image.scratch_mib)
    assert plan.workload == image.workload
    assert plan.verbs == frozenset()
    assert plan.use is Use.WITHIN_WINDOW
    assert plans.plan_statement(plan).predicate["timeouts"] == {"bootSeconds": 120, "wallSeconds": 86_400}
    assert plan.window.not_after - plan.window.not_before == timedelta(hours=24)
    assert plan.nonce != world.plan().nonce
    assert len(plan.nonce) == 32


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"verbs": frozenset({Verb.EXEC, Verb.STREAM}), "ports": (80, 443)},
        {"posture": Posture.SEALED},
        {"accelerator": Accelerator.KVM, "timeouts": Timeouts(1, 2)},
        {"backend": Backend.CONTAINER, "isolation": Isolation.CONTAINER},
        {"backend": Backend.FIRECRACKER, "accelerator": Accelerator.KVM},
        {"backend": Backend.CLOUD_HYPERVISOR},
        {"workload": Workload(("/bin/é", ""), {"A": "b\nc"}, "/tmp", User(1, 2**32 - 2))},
        {"workload": Workload((), {}, "/", User(1, 1)), "verbs": frozenset({Verb.EXEC})},
        {"use": Use.ONCE},
        {"use": Use.TEMPLATE, "workload": BARE},
        {"use": Use.TEMPLATE, "workload": BARE, "placeholders": Placeholders(8, data=False)},
        {"use": Use.TEMPLATE, "workload": BARE, "placeholders": Placeholders(0, data=True)},
        {"start": Start.COLD},
        {"verbs": frozenset({Verb.SNAPSHOT}), "secrets": (SECRET,), "snapshot_with_secrets": True},
        {"vcpus": 64, "memory_mib": 2**20, "scratch_mib": 0},
        {"vcpus": 1, "memory_mib": 96, "scratch_mib": 2**20},
        {"variation": Variation("other", -86400, "reversed")},
        {"variation": Variation("other", 0, "natural")},
        {"labels": {"tier": "web", "empty": ""}},
        {"limits": PlanLimits(idle_seconds=1)},
        {"limits": PlanLimits(tasks=4_194_304, cpu_percent=6450, cpu_weight=10_000, console_kib=1, output_kib=2**20)},
        {"limits": PlanLimits(system_calls=SystemCalls.STRICT)},
        {"limits": PlanLimits(shared_kib=2**30), "shares": (Share("/srv", "/data", Access.READ_WRITE),)},
    ],
)
def test_round_trip(world: World, changes: dict[str, Any]) -> None:
    plan = world.plan(**changes)
    written = plans.plan_statement(plan).to_bytes()
    again = plans.from_statement(statement.parse(written))
    assert again == plan
    assert plans.plan_statement(again).to_bytes() == written


@pytest.mark.parametrize(
    "changes",
    [
        {"ports": (80,)},
        {"verbs": frozenset({Verb.STREAM})},
        {"verbs": frozenset({Verb.STREAM}), "ports": (80, 80)},
        {"posture": Posture.SEALED, "verbs": frozenset({Verb.EXEC})},
        {"workload": Workload((), {}, "/", User(1, 1))},
        {"variation": Variation("other", 0, "random")},
        {"backend": Backend.CONTAINER},
        {"isolation": Isolation.CONTAINER},
        {"backend": Backend.FIRECRACKER, "isolation": Isolation.CONTAINER},
        {"backend": Backend.CLOUD_HYPERVISOR, "accelerator": Accelerator.TCG},
        {"backend": Backend.CONTAINER, "isolation": Isolation.CONTAINER, "accelerator": Accelerator.KVM},
        {"limits": PlanLimits(shared_kib=1)},
        {"limits": PlanLimits(shared_kib=1), "shares": (Share("/srv", "/data", follow=True),)},
        {"secrets": (SECRET,) * 2},
        {"labels": {"A": "b"}},
        {"shares": (Share("/srv", "/data"), Share("/srv", "/data/in"))},
        {"shares": (Share("/srv", "/data"),), "data": DataDisk(32, "/data/in")},
        {"verbs": frozenset({Verb.SNAPSHOT}), "snapshot_with_secrets": True},
        {"secrets": (SECRET,), "snapshot_with_secrets": True},
        {"placeholders": Placeholders(1)},
        {"use": Use.ONCE, "placeholders": Placeholders(data=True)},
    ],
)
def test_what_makes_no_sense_is_no_plan(world: World, changes: dict[str, Any]) -> None:
    words = r"port|verb|command|order|isolation|KVM|accelerates|may write to none|twice|label|within|lie over|stand for"
    with pytest.raises(ValueError, match=f"{words}|names secrets"):
        world.plan(**changes)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"workload": Workload(("/bin/true",), {}, "/", User(1, 1))}, "a command"),
        ({"workload": Workload((), {"A": "b"}, "/", User(1, 1))}, "variables"),
        ({"verbs": frozenset({Verb.EXEC})}, "verbs"),
        ({"secrets": (SECRET,)}, "secrets"),
        ({"shares": (Share("/srv", "/data"),)}, "shares"),
        ({"data": DataDisk(32, "/data")}, "a data disk"),
        ({"network": Network((), (PublishedPort("127.0.0.1", 8080, 80),))}, "a network that lets anything through"),
        ({"variation": Variation("other", 0, "natural")}, "a variation"),
    ],
)
def test_the_guest_of_a_template_is_told_nothing(world: World, changes: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"the guest of a template is told nothing, and the plan names {name}$"):
        world.plan(**({"use": Use.TEMPLATE, "workload": BARE} | changes))


@pytest.mark.parametrize("shares", [-1, 9])
def test_no_machine_has_so_many_shares(shares: int) -> None:
    with pytest.raises(ValueError, match="up to 8 shares"):
        Placeholders(shares)


@pytest.mark.parametrize(
    "value", [{"shares": 9, "data": False}, {"shares": 1}, {"shares": True, "data": False}, {"shares": 1, "data": 1}]
)
def test_disks_that_stand_for_others_are_a_number_and_a_flag(world: World, value: object) -> None:
    plan = world.plan(use=Use.TEMPLATE, workload=BARE, placeholders=Placeholders(1))
    written = json.loads(plans.plan_statement(plan).to_bytes())
    assert written["predicate"]["placeholders"] == {"shares": 1, "data": False}
    written["predicate"]["placeholders"] = value
    with pytest.raises(RefusedError) as refused:
        plans.from_statement(statement.parse(json.dumps(written).encode()))
    assert set(refused.value.codes) == {ReasonCode.PLAN_MALFORMED}


def test_what_starts_one_machine_at_most() -> None:
    assert {use for use in Use if use.is_single} == {Use.ONCE, Use.TEMPLATE}


def test_a_cold_start_stands_there_only_where_it_is_demanded(world: World) -> None:
    assert "start" not in plans.plan_statement(world.plan()).predicate
    assert plans.plan_statement(world.plan(start=Start.COLD)).predicate["start"] == "cold"


def test_limits_stand_there_only_where_there_are_some(world: World) -> None:
    assert "limits" not in plans.plan_statement(world.plan()).predicate
    limited = world.plan(limits=PlanLimits(tasks=7, system_calls=SystemCalls.STRICT))
    assert plans.plan_statement(limited).predicate["limits"] == {"tasks": 7, "systemCalls": "strict"}


def test_limits_have_bounds() -> None:
    with pytest.raises(ValueError, match=r"tasks is between.*cpuPercent is between"):
        PlanLimits(tasks=0, cpu_percent=4)


@pytest.mark.parametrize(
    "limits",
    [
        *({}, [], None, {"tasks": 0}, {"tasks": 4_194_305}, {"tasks": "7"}, {"tasks": True}, {"cpuPercent": 4}),
        *({"cpuPercent": 6451}, {"cpuWeight": 0}, {"cpuWeight": 10_001}, {"consoleKiB": 0}, {"outputKiB": 2**20 + 1}),
        *({"idleSeconds": 0}, {"idleSeconds": 1.5}, {"systemCalls": "none"}, {"tasks": 1, "more": 1}),
        *({"sharedKiB": 0}, {"sharedKiB": 2**30 + 1}, {"sharedKiB": 1}),
    ],
)
def test_limits_that_are_none(world: World, limits: object) -> None:
    assert set(plan_refusal(world.plan(), limits=limits).codes) == {ReasonCode.PLAN_MALFORMED}


def test_windows_and_timeouts() -> None:
    for end in (NOW, NOW - timedelta(seconds=1)):
        with pytest.raises(ValueError, match="ends before"):
            Window(NOW, end)
    for timeouts in ((0, 1), (1, 0), (3601, 1), (1, 2**31)):
        with pytest.raises(ValueError, match="timeout"):
            Timeouts(*timeouts)


def test_all_problems_at_once(world: World) -> None:
    assert len(plan_refusal(world.plan(), nonce="x", accelerator="y", more=1).reasons) == 3


@pytest.mark.parametrize(
    ("changes", "boundaries"),
    [
        ({}, ("hardware", "sandbox")),
        ({"accelerator": Accelerator.KVM}, ("hardware",)),
        ({"accelerator": Accelerator.TCG}, ("sandbox",)),
        ({"backend": Backend.FIRECRACKER}, ("hardware",)),
        ({"backend": Backend.CONTAINER, "isolation": Isolation.CONTAINER}, ("container: not a microVM",)),
    ],
)
def test_what_may_hold_what_it_starts(world: World, changes: dict[str, Any], boundaries: tuple[str, ...]) -> None:
    assert world.plan(**changes).boundaries == boundaries


def test_snapshots_with_secrets_stand_there_only_where_they_may_be_taken(world: World) -> None:
    assert "snapshotWithSecrets" not in plans.plan_statement(world.plan(secrets=(SECRET,))).predicate
    granted = world.plan(verbs=frozenset({Verb.SNAPSHOT}), secrets=(SECRET,), snapshot_with_secrets=True)
    assert plans.plan_statement(granted).predicate["snapshotWithSecrets"] is True
