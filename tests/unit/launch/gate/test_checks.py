"""Step 23 takes the evidence of a candidate through the provenance's steps: all of it, and nothing in its place."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.keys import PrivateKey
from mvmnix.launch.gate.checks import PlanWithImage, SummarizedImage, plan_of, step_20_agreement, step_23_provenance
from mvmnix.model import SystemCalls
from mvmnix.plan import plan as plans
from mvmnix.plan.limits import PlanLimits
from mvmnix.provenance.verify.summary import Summary, VerifiedSummary
from mvmnix.provenance.verify.verify import Verified
from tests.unit.provenance import world as worlds
from tests.unit.provenance.summaries import sign, with_verifier
from tests.unit.provenance.verify.rebuilds import SECOND, agreed, rebuilt
from tests.unit.provenance.world import World

FILES = ("provenance", "lock", "parts", "rebuilds")


@pytest.fixture
def candidate(world: World, tmp_path: Path) -> Iterator[Any]:
    """Makes a candidate of the world as it is now, with something else in it."""
    files = world.open(tmp_path)

    def make(**changes: Any) -> PlanWithImage:
        evidence = replace(world.evidence, **{name: changes.pop(name) for name in FILES if name in changes})
        made = PlanWithImage(world.plan(), world.image, files, evidence, world.policy, world.now)
        return replace(made, **changes)

    yield make
    for fd in (files.kernel, files.initrd, files.rootfs):
        os.close(fd)


def refused(it: PlanWithImage) -> set[ReasonCode]:
    with pytest.raises(RefusedError) as caught:
        step_23_provenance(it)
    return set(caught.value.codes)


def test_a_plan_is_read_of_nothing_else(world: World) -> None:
    said = plans.plan_statement(world.plan())
    assert plan_of(said) == world.plan(nonce=str(said.predicate["nonce"]))
    with pytest.raises(RefusedError) as caught:
        plan_of(replace(said, predicate_type="urn:mvmnix:plan:2"))
    assert caught.value.codes == (ReasonCode.PREDICATE_TYPE,)


def test_the_provenance_itself(world: World, candidate: Any) -> None:
    found = step_23_provenance(candidate())
    assert isinstance(found, Verified)
    assert found.bundle == Digest.of(world.provenance_bundle)
    assert refused(candidate(provenance=worlds.flipped_signature(world.provenance_bundle))) == {
        ReasonCode.SIGNATURE_INVALID
    }


def test_the_other_builders_that_the_policy_asks_for(world: World, candidate: Any) -> None:
    world.policy = agreed(2, SECOND)
    second = rebuilt(world, SECOND)
    assert isinstance(step_23_provenance(candidate(rebuilds=(second,))), Verified)
    assert refused(candidate()) == {ReasonCode.REBUILDS_MISSING}
    strangers = rebuilt(world, PrivateKey.generate())
    assert refused(candidate(rebuilds=(strangers,))) == {ReasonCode.REBUILDS_MISSING}


def test_the_statements_of_kept_parts(world: World, candidate: Any) -> None:
    world.keep_parts()
    assert isinstance(step_23_provenance(candidate()), Verified)
    assert refused(candidate(parts=())) == {ReasonCode.PARTS_MISMATCH}


def test_the_lock_the_policy_and_the_time(world: World, candidate: Any) -> None:
    assert ReasonCode.LOCK_MISMATCH in refused(candidate(lock=None))
    assert refused(candidate(now=world.now - timedelta(days=1))) == {ReasonCode.BUILD_TIME}
    unadmitted = replace(world.policy, builders=(replace(world.policy.builders[0], signer=Digest.of(b"another")),))
    assert refused(candidate(policy=unadmitted)) == {ReasonCode.BUILDER_NOT_ADMITTED}


def test_the_files_that_the_manifest_names(world: World, candidate: Any) -> None:
    image = world.image
    other = replace(image, kernel=replace(image.kernel, digest=Digest.of(b"another")))
    assert refused(candidate(image=other)) == {ReasonCode.SUBJECT_MISMATCH}


def test_a_summary_in_its_place(world: World, candidate: Any) -> None:
    world.policy = with_verifier(world.policy)
    said = SummarizedImage(world.manifest, Summary(sign(world)))
    assert isinstance(step_23_provenance(candidate(evidence=said)), VerifiedSummary)
    plan = replace(world.plan(), provenance=Digest.of(b"another"))
    assert refused(candidate(evidence=said, plan=plan)) == {ReasonCode.PROVENANCE_MISMATCH}
    assert refused(candidate(evidence=said, now=world.now + timedelta(days=8))) == {ReasonCode.SUMMARY_STALE}


@pytest.mark.parametrize("theirs", SystemCalls)
@pytest.mark.parametrize("ours", SystemCalls)
def test_a_filter_of_system_calls_is_no_wider_than_the_image_s(
    world: World, candidate: Any, ours: SystemCalls, theirs: SystemCalls
) -> None:
    plan = replace(world.plan(), limits=PlanLimits(system_calls=ours))
    found = step_20_agreement(candidate(plan=plan, image=replace(world.image, system_calls=theirs)))
    assert {it.code for it in found} == (set() if ours.within(theirs) else {ReasonCode.PLAN_MISMATCH})
