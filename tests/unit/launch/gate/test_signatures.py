"""A plan's bundles: how a file is taken apart, and what is none of them; steps 1 to 5 are in test_verify.py."""

import json

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.gate.signatures import gather, is_statement, payload, split
from mvmnix.plan import plan as plans
from mvmnix.provenance.bundle import envelope, statement
from tests.unit.provenance.world import PLANNER, STRANGER, World


def bundles(world: World, count: int) -> bytes:
    return b"\n".join([world.plan_bundle] * count)


def test_how_many_bundles_a_plan_has(world: World) -> None:
    assert split(bundles(world, 16)) == (world.plan_bundle,) * 16
    with pytest.raises(RefusedError, match="more than 16 signatures") as refused:
        split(bundles(world, 17))
    assert refused.value.codes == (ReasonCode.BUNDLE_MALFORMED,)


@pytest.mark.parametrize("data", [b"", b"x\ny", b"{}\n", b"[]", b'{"_type":"x"}', b'["_type"]', b"7"])
def test_what_is_no_bundle_is_left_as_it_is(data: bytes) -> None:
    assert split(data) == (data,)
    assert not is_statement(data)


def test_a_bundle_with_a_line_behind_it_is_left_as_it_is(world: World) -> None:
    data = world.plan_bundle + b"\n"
    assert split(data) == (data,)


@pytest.mark.parametrize("indent", [None, 2])
def test_a_plan_alone_is_unsigned(world: World, indent: int | None) -> None:
    claim = plans.plan_statement(world.plan()).to_bytes()
    data = json.dumps(json.loads(claim), indent=indent).encode()
    assert is_statement(data)
    with pytest.raises(RefusedError) as refused:
        split(data)
    assert refused.value.codes == (ReasonCode.UNSIGNED,)


@pytest.mark.parametrize(
    ("old", "new"), [(plans.PREDICATE_TYPE, "urn:another"), (statement.STATEMENT_TYPE, "urn:another")]
)
def test_another_claim_alone_is_no_unsigned_plan(world: World, old: str, new: str) -> None:
    data = plans.plan_statement(world.plan()).to_bytes().replace(old.encode(), new.encode())
    assert split(data) == (data,)


def test_bundles_of_one_plan_are_about_one_statement(world: World) -> None:
    claim = envelope.parse_bundle(world.plan_bundle).payload
    assert payload(bundles(world, 2)) == payload(world.plan_bundle) == claim
    other = envelope.sign(plans.plan_statement(world.plan(vcpus=7)).to_bytes(), PLANNER).to_bytes()
    with pytest.raises(RefusedError, match="about 2 different statements") as refused:
        payload(world.plan_bundle + b"\n" + other)
    assert refused.value.codes == (ReasonCode.PLAN_THRESHOLD,)


@pytest.mark.parametrize(("others", "what"), [(0, ["the plan"]), (1, ["bundle 2 of the plan"])])
def test_of_several_bundles_the_refused_one_is_named(world: World, others: int, what: list[str]) -> None:
    assert len(gather(bundles(world, 2), world.policy.trust)) == 2
    strange = envelope.sign(envelope.parse_bundle(world.plan_bundle).payload, STRANGER).to_bytes()
    with pytest.raises(RefusedError) as refused:
        gather(b"\n".join([*[world.plan_bundle] * others, strange]), world.policy.trust)
    assert refused.value.codes == (ReasonCode.SIGNER_UNKNOWN,)
    assert [reason.what for reason in refused.value.reasons] == what
