"""A plan's verification says what each of its steps found, and what it has read serves under its own policy alone."""

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode
from mvmnix.launch.gate import verify
from mvmnix.launch.gate.verify import SignedPlan
from tests.unit.launch.gate.rows import check, refusal
from tests.unit.provenance.world import STRANGER, World


def test_a_read_plan_is_sealed_and_of_its_policy(world: World, tmp_path: Path) -> None:
    it = verify.read_plan(world.plan_bundle, world.policy)
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="process"):
            copied(it)
    with pytest.raises(TypeError, match="only read_plan"):
        SignedPlan(it.data, it.digest, it.signed, it.plan, it.policy, it.steps, seal=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="seal"):
        replace(it, plan=world.plan(vcpus=2))  # type: ignore[call-arg]
    world.plan_bundle = it  # type: ignore[assignment]
    check(world, tmp_path).close()
    world.policy = replace(world.policy, digest=Digest.of(b"another"))
    assert refusal(world, tmp_path).codes == (ReasonCode.UNEXPECTED,)


def test_each_step_says_what_it_found(world: World, tmp_path: Path) -> None:
    with check(world, tmp_path) as found:
        assert [step.number for step in found.steps] == [*range(1, 24)]
        assert [step.verifier for step in found.steps] == [*["signature"] * 5, *["plan"] * 18]
        assert [step.number for step in found.steps[-1].within] == [*range(1, 27)]
        assert not any(step.reasons for step in (*found.steps, *found.steps[-1].within))
    world.kernel = b"another"
    taken = refusal(world, tmp_path).steps
    assert [step.number for step in taken] == [*range(1, 24)]
    assert [step.number for step in taken if step.reasons] == [21]
    world.sign_provenance(key=STRANGER)
    taken = refusal(world, tmp_path).steps
    assert [step.number for step in taken if step.reasons] == [14]
    assert taken[-1].number == 18
