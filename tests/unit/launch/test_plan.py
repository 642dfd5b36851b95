"""A plan is written and read back whole; what its predicate may not say is in test_verify.py, step 8."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mvmnix.errors import RefusedError
from mvmnix.launch import plan as plans
from mvmnix.launch.plan import Accelerator, Timeouts, Window
from mvmnix.model import Posture, User, Verb, Workload
from mvmnix.provenance import statement
from mvmnix.provenance.policy import Isolation
from mvmnix.provenance.slsa import Variation
from tests.unit.provenance import world as worlds
from tests.unit.provenance.world import NOW, World


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
    assert plan.window.not_after - plan.window.not_before == timedelta(hours=24)
    assert plan.nonce != world.plan().nonce
    assert len(plan.nonce) == 32


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"verbs": frozenset({Verb.EXEC, Verb.STREAM}), "ports": (80, 443)},
        {"posture": Posture.SEALED},
        {"accelerator": Accelerator.KVM, "isolation": Isolation.CONTAINER, "timeouts": Timeouts(1, 2)},
        {"workload": Workload(("/bin/é", ""), {"A": "b\nc"}, "/tmp", User(1, 2**32 - 2))},
        {"workload": Workload((), {}, "/", User(1, 1)), "verbs": frozenset({Verb.EXEC})},
        {"vcpus": 64, "memory_mib": 2**20, "scratch_mib": 0},
        {"variation": Variation("other", -86400, "reversed")},
        {"variation": Variation("other", 0, "natural")},
    ],
)
def test_round_trip(world: World, changes: dict[str, Any]) -> None:
    plan = world.plan(**changes)
    written = plans.to_statement(plan).to_bytes()
    again = plans.from_statement(statement.parse(written))
    assert again == plan
    assert plans.to_statement(again).to_bytes() == written


@pytest.mark.parametrize(
    "changes",
    [
        {"ports": (80,)},
        {"verbs": frozenset({Verb.STREAM})},
        {"verbs": frozenset({Verb.STREAM}), "ports": (80, 80)},
        {"posture": Posture.SEALED, "verbs": frozenset({Verb.EXEC})},
        {"workload": Workload((), {}, "/", User(1, 1))},
        {"variation": Variation("other", 0, "random")},
    ],
)
def test_what_makes_no_sense_is_no_plan(world: World, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"port|verb|command|order"):
        world.plan(**changes)


def test_windows_and_timeouts() -> None:
    for end in (NOW, NOW - timedelta(seconds=1)):
        with pytest.raises(ValueError, match="ends before"):
            Window(NOW, end)
    for timeouts in ((0, 1), (1, 0), (3601, 1), (1, 2**31)):
        with pytest.raises(ValueError, match="timeout"):
            Timeouts(*timeouts)


def test_all_problems_at_once(world: World) -> None:
    claim = plans.to_statement(world.plan())
    broken = dict(claim.predicate) | {"nonce": "x", "accelerator": "y", "more": 1}
    with pytest.raises(RefusedError) as caught:
        plans.from_statement(replace(claim, predicate=broken))
    assert len(caught.value.reasons) == 3
