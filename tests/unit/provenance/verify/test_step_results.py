"""What each numbered step found is kept, in order, and all of it refuses."""

import copy
import pickle
from collections.abc import Iterator
from dataclasses import replace

import pytest

from mvmnix.errors import MOST_REASONS, Reason, ReasonCode, RefusedError
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.verify import verify
from mvmnix.provenance.verify.step_results import NOT_TAKEN, Findings, Steps
from tests.unit.provenance.verify.steps import check
from tests.unit.provenance.world import PLANNER, STRANGER, World, put


def reason(why: str) -> Reason:
    return Reason(ReasonCode.LOCK_MISMATCH, "it", why, "change it")


def step_3_passing_by() -> Iterator[Reason]:
    yield from ()


def step_4_refusing(count: int = 1) -> Iterator[Reason]:
    for number in range(count):
        yield reason(f"reason {number}")


def step_5_needed(inner: RefusedError | None = None) -> str:
    if inner is not None:
        raise inner
    return "found"


def step_6_for_want_of_a_key(why: str) -> Findings:
    if why:
        yield reason(why)
    yield NOT_TAKEN


@pytest.mark.parametrize(
    ("why", "record"),
    [
        ("", {"passed": False, "taken": False}),
        ("a reason", {"passed": False, "codes": [ReasonCode.LOCK_MISMATCH]}),
    ],
)
def test_a_step_that_could_not_be_taken_is_no_reason(why: str, record: dict[str, object]) -> None:
    taken = Steps("plan")
    taken.take(step_6_for_want_of_a_key, why)
    (found,) = taken.results
    assert found.record == {"verifier": "plan", "step": 6, "name": "for want of a key"} | record
    assert bool(found.reasons) == bool(why)


def test_what_passes_and_what_refuses() -> None:
    before = Steps("signature")
    before.take(step_3_passing_by)
    before.require()
    taken = Steps("plan", before.results)
    taken.take(step_4_refusing, count=2)
    taken.take(step_3_passing_by)
    with pytest.raises(RefusedError) as caught:
        taken.require()
    assert caught.value.reasons == (reason("reason 0"), reason("reason 1"))
    assert caught.value.steps == taken.results
    assert [step.record for step in taken.results] == [
        {"verifier": "signature", "step": 3, "name": "passing by", "passed": True},
        {"verifier": "plan", "step": 4, "name": "refusing", "passed": False, "codes": [ReasonCode.LOCK_MISMATCH]},
        {"verifier": "plan", "step": 3, "name": "passing by", "passed": True},
    ]


def test_a_step_that_is_needed() -> None:
    taken = Steps("plan")
    taken.take(step_3_passing_by)
    taken.take(step_3_passing_by)
    assert taken.need(step_5_needed) == "found"
    inner = Steps("provenance")
    inner.take(step_3_passing_by)
    taken.consists_of(inner.results)
    assert [(step.number, step.within) for step in taken.results] == [(3, ()), (3, ()), (5, inner.results)]
    assert taken.results[-1].record["within"] == [step.record for step in inner.results]
    taken.take(step_4_refusing)
    with pytest.raises(RefusedError) as caught:
        taken.need(step_5_needed, RefusedError(reason("inner"), steps=inner.results))
    assert caught.value.reasons == (reason("reason 0"), reason("inner")), "what was found before stands beside it"
    assert caught.value.steps[-1].within == inner.results
    assert caught.value.steps[-1].reasons == (reason("inner"),)


def test_many_reasons_are_bounded() -> None:
    taken = Steps("plan")
    taken.take(step_4_refusing, count=5000)
    assert len(taken.results[0].reasons) == MOST_REASONS + 1


def test_what_has_no_number_is_no_step() -> None:
    with pytest.raises(ValueError, match="not a numbered step"):
        Steps("plan").take(lambda: iter(()))


def test_each_step_says_what_it_found(world: World) -> None:
    found = check(world)
    assert [step.number for step in found.steps] == [*range(1, 27)]
    assert [step.verifier for step in found.steps] == [*["signature"] * 5, *["provenance"] * 21]
    assert not any(step.reasons for step in found.steps)
    locked, world.lock = world.lock, b"{}"
    with pytest.raises(RefusedError) as caught:
        check(world)
    taken = {step.number: step for step in caught.value.steps}
    assert list(taken) == [*range(1, 26)]
    assert taken[12].record == {
        "verifier": "provenance",
        "step": 12,
        "name": "lock",
        "passed": False,
        "codes": [ReasonCode.LOCK_MISMATCH],
    }
    assert tuple(reason for step in taken.values() for reason in step.reasons) == caught.value.reasons
    world.lock = locked
    world.sign_provenance(put("https://example.com/other", "predicateType"))
    with pytest.raises(RefusedError) as caught:
        check(world)
    assert [(step.number, bool(step.reasons)) for step in caught.value.steps][-2:] == [(6, False), (7, True)]
    world.sign_provenance(key=PLANNER)
    with pytest.raises(RefusedError) as caught:
        check(world)
    assert [step.number for step in caught.value.steps if step.reasons] == [4]
    assert caught.value.steps[-1].number == 5


def test_what_was_read_is_sealed(world: World) -> None:
    it = verify.read_claim(world.provenance_bundle, world.policy)
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="process"):
            copied(it)
    values = (it.data, it.authentic, it.statement, it.provenance, it.policy, it.steps)
    with pytest.raises(TypeError, match="only read_claim"):
        verify.Claimed(*values, seal=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="seal"):
        replace(it, provenance=world.provenance())  # type: ignore[call-arg]


def test_what_could_not_be_looked_at_did_not_pass(world: World) -> None:
    """Nobody said that it holds, and nobody that it doesn't."""
    payload = envelope.parse_bundle(world.provenance_bundle).payload
    world.provenance_bundle = envelope.sign(payload, STRANGER).to_bytes()
    with pytest.raises(RefusedError) as refused:
        check(world)
    records = {step.number: step.record for step in refused.value.steps}
    assert records[2]["passed"] is False
    assert "taken" not in records[2]
    for number in (3, 4):
        assert (records[number]["passed"], records[number]["taken"]) == (False, False)
    assert refused.value.codes == (ReasonCode.SIGNER_UNKNOWN,)


def test_a_lock_that_is_none_says_nothing_of_its_originals(world: World) -> None:
    world.lock = b"{"
    with pytest.raises(RefusedError) as refused:
        check(world)
    assert [step.number for step in refused.value.steps if not step.taken] == [22]
