"""Steps 15 to 18 of a plan's verification: who else signed it, whether it is still in time, what was revoked."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.keys import Algorithm, PrivateKey
from mvmnix.launch.gate import checks, signatures
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.plan import plan as plans
from mvmnix.plan.plan import Plan, Window
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.identity.revocations import RevocationFile
from mvmnix.provenance.policy.merge import PolicyInputs
from tests.policies import effective
from tests.private_sigstore import Hooks
from tests.support.rows import Row
from tests.unit.launch.gate.rows import Change, both, bundle, check, label, policy, refusal
from tests.unit.launch.taken_out import step_23_believed, take_out
from tests.unit.provenance import world as worlds
from tests.unit.provenance.forgeries import ISSUER, OURS, SUBJECT
from tests.unit.provenance.world import NOW, PLANNER, STRANGER, World

SECOND, THIRD = PrivateKey.generate(), PrivateKey.generate()


def saying(text: str, **fields: Any) -> Change:
    """A policy with another table in it, and a plan that was made under it."""
    return policy("[launch]", f"{text}\n[launch]", **fields)


def planners(wanted: int) -> Change:
    """A policy with three planners that asks for so many signatures; the plan is made under it, and signed by one."""
    signers = "".join(
        f'[[signers]]\nname = "planner-{n}"\nroles = ["planner"]\nkey = """\n{key.public.pem}"""\n'
        for n, key in ((2, SECOND), (3, THIRD))
    )
    return saying(f"[thresholds]\nplans = {wanted}\n{signers}")


def signed_too(*keys: PrivateKey) -> Change:
    """Others sign the same plan."""

    def apply(it: World) -> None:
        payload = envelope.parse_bundle(it.plan_bundle).payload
        it.plan_bundle = b"\n".join((it.plan_bundle, *(envelope.sign(payload, key).to_bytes() for key in keys)))

    return apply


def beside(key: PrivateKey, change: Callable[[Plan], Plan]) -> Change:
    """Somebody signs another plan."""

    def apply(it: World) -> None:
        other = plans.plan_statement(change(it.plan(nonce="0" * 32))).to_bytes()
        it.plan_bundle += b"\n" + envelope.sign(other, key).to_bytes()

    return apply


def revoke(which: Callable[[World], Digest]) -> Change:
    def apply(it: World) -> None:
        text = f'version = 1\nserial = 1\n[[digests]]\nsha256 = "{which(it).hex}"\n'
        around = PolicyInputs((None, RevocationFile.parse(text.encode())))
        it.policy = effective(None, worlds.trust(), around)

    return apply


def statement_of(it: World) -> Digest:
    return Digest.of(envelope.parse_bundle(it.plan_bundle).payload)


MINUTES = timedelta(minutes=1)
ROWS = (
    Row(15, ReasonCode.PLAN_THRESHOLD, planners(2), "one of two"),
    Row(15, ReasonCode.PLAN_THRESHOLD, both(planners(3), signed_too(SECOND)), "two of three"),
    Row(15, ReasonCode.PLAN_THRESHOLD, both(planners(2), signed_too(PLANNER)), "the same planner twice"),
    Row(15, ReasonCode.PLAN_THRESHOLD, both(planners(2), signed_too(SECOND, SECOND)), "a second one twice"),
    Row(15, ReasonCode.PLAN_THRESHOLD, both(planners(2), beside(SECOND, lambda it: it)), "another nonce"),
    Row(
        15,
        ReasonCode.PLAN_THRESHOLD,
        both(planners(1), beside(SECOND, lambda it: replace(it, vcpus=2))),
        "another plan where one signature is enough",
    ),
    Row(17, ReasonCode.PLAN_STALE, saying('[freshness]\nplan-window = "23h"'), "an hour too long"),
    Row(17, ReasonCode.PLAN_STALE, saying('[freshness]\nplan-age = "4m"'), "a minute too old"),
    Row(18, ReasonCode.PLAN_REVOKED, revoke(statement_of), "the statement"),
)
#: What the provenance is refused for as well, where a summary does not stand for it.
TWICE = (
    Row(16, ReasonCode.POLICY_EXPIRED, saying("", window=Window(NOW, NOW + timedelta(days=9999))), "an expired policy"),
    *(
        Row(18, ReasonCode.IMAGE_REVOKED, revoke(lambda it, n=number: it.image.artifacts[n].digest), f"file {number}")  # type: ignore[misc]
        for number in range(4)
    ),
)


@pytest.mark.parametrize("row", (*ROWS, *TWICE), ids=label)
def test_refused_by_exactly_one_step(world: World, tmp_path: Path, row: Row[World]) -> None:
    row.change(world)
    if row.step == 16:
        world.now = world.policy.expires
    assert set(refusal(world, tmp_path).codes) == {row.code}


@pytest.mark.parametrize("row", ROWS, ids=label)
def test_without_its_step_the_same_thing_passes(
    world: World, tmp_path: Path, row: Row[World], monkeypatch: pytest.MonkeyPatch
) -> None:
    row.change(world)
    take_out(row.step, monkeypatch)
    check(world, tmp_path).close()


@pytest.mark.parametrize("row", TWICE, ids=label)
def test_without_its_step_the_provenance_is_refused(
    world: World, tmp_path: Path, row: Row[World], monkeypatch: pytest.MonkeyPatch
) -> None:
    row.change(world)
    if row.step == 16:
        world.now = world.policy.expires
    with monkeypatch.context() as without:
        take_out(row.step, without)
        assert set(refusal(world, tmp_path).codes) == {row.code}
    monkeypatch.setattr(checks, "step_23_provenance", step_23_believed)
    assert set(refusal(world, tmp_path).codes) == {row.code}, "and without that, by its step alone"
    take_out(row.step, monkeypatch)
    check(world, tmp_path).close()


def admitted(world: World, tmp_path: Path) -> VerifiedPlan:
    with check(world, tmp_path) as found:
        return found


def test_several_planners(world: World, tmp_path: Path) -> None:
    both(planners(2), signed_too(THIRD))(world)
    found = admitted(world, tmp_path)
    assert [signer.name for signer in found.signers] == ["planner", "planner-3"]
    assert found.digest == Digest.of(world.plan_bundle)
    assert signatures.payload(world.plan_bundle) == plans.plan_statement(found.plan).to_bytes()


def test_more_signatures_than_needed(world: World, tmp_path: Path) -> None:
    both(planners(1), signed_too(SECOND, THIRD))(world)
    assert len(admitted(world, tmp_path).signers) == 3


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (signed_too(STRANGER), ReasonCode.SIGNER_UNKNOWN),
        (signed_too(worlds.BUILDER), ReasonCode.SIGNER_ROLE),
        (bundle(lambda data: data + b"\n"), ReasonCode.BUNDLE_NOT_CANONICAL),
        (bundle(lambda data: b"\n" + data), ReasonCode.BUNDLE_NOT_CANONICAL),
        (bundle(lambda data: data + b"\n\n" + data), ReasonCode.BUNDLE_MALFORMED),
        (both(signed_too(SECOND), bundle(lambda data: data + b"\n")), ReasonCode.BUNDLE_MALFORMED),
        (both(signed_too(SECOND), bundle(lambda data: data + b" ")), ReasonCode.BUNDLE_NOT_CANONICAL),
        (bundle(lambda data: data + b"\n{}"), ReasonCode.BUNDLE_MALFORMED),
        (bundle(lambda data: b"\n".join([data] * 17)), ReasonCode.BUNDLE_MALFORMED),
        (bundle(lambda data: data + b"\n" + worlds.flipped_signature(data)), ReasonCode.SIGNATURE_INVALID),
    ],
)
def test_none_of_the_signatures_may_be_wrong(world: World, tmp_path: Path, change: Change, code: ReasonCode) -> None:
    both(planners(1), change)(world)
    assert set(refusal(world, tmp_path).codes) == {code}


TWO_WAYS = """[[signers]]
name = "by-key"
roles = ["planner"]
key = '''{key}'''
[[signers]]
name = "by-name"
roles = ["planner"]
identity = "{subject}"
issuer = "{issuer}"
root = "ours"
[[roots]]
name = "ours"
sha256 = "{root}"
[thresholds]
plans = 3
[launch]"""


@pytest.mark.parametrize("same", [True, False])
def test_a_key_counts_once_also_under_a_certificate(world: World, tmp_path: Path, same: bool) -> None:
    """One key that is a planner's, and is certified for another planner's identity, is one signer's."""
    key, other = (PrivateKey.generate(Algorithm.ECDSA_P256) for _ in range(2))
    certified = key if same else other
    text = TWO_WAYS.format(key=key.public.pem, subject=SUBJECT, issuer=ISSUER, root=OURS.domain.hex)
    around = PolicyInputs(roots={OURS.domain: OURS.trusted_root})
    trust = worlds.trust().replace(b"[launch]", text.encode())
    world.policy = effective(None, trust, around)
    world.sign_plan()
    payload = envelope.parse_bundle(world.plan_bundle).payload
    signed_too(key)(world)
    hooks = Hooks(leaf=lambda it: replace(it, spki=certified.public.spki), signing_key=lambda _: certified)
    keyless = OURS.attest(payload, at=NOW, subject=SUBJECT, issuer=ISSUER, hooks=hooks)
    world.plan_bundle += b"\n" + keyless
    if same:
        refused = refusal(world, tmp_path)
        assert set(refused.codes) == {ReasonCode.PLAN_THRESHOLD}
        assert "signed with the same key" in refused.reasons[0].why
    else:
        assert len(admitted(world, tmp_path).signers) == 3


def test_each_bundle_tells_what_it_lacks(world: World, tmp_path: Path) -> None:
    both(planners(2), signed_too(STRANGER, worlds.BUILDER))(world)
    refused = refusal(world, tmp_path)
    assert refused.codes == (ReasonCode.SIGNER_UNKNOWN, ReasonCode.SIGNER_ROLE)
    assert [reason.what for reason in refused.reasons] == ["bundle 2 of the plan", "bundle 3 of the plan"]


def test_a_bundle_about_another_plan_is_named(world: World, tmp_path: Path) -> None:
    both(planners(1), beside(SECOND, lambda it: replace(it, vcpus=it.vcpus + 1)))(world)
    assert refusal(world, tmp_path).reasons[0].why == "bundle 2 is about another statement than the first"


def test_a_bundle_of_several_that_is_revoked(world: World, tmp_path: Path) -> None:
    both(planners(1), signed_too(SECOND))(world)
    revoked = replace(world.policy.trust.revocations, digests=frozenset({Digest.of(world.plan_bundle)}))
    world.policy = replace(world.policy, trust=replace(world.policy.trust, revocations=revoked))
    assert refusal(world, tmp_path).codes == (ReasonCode.PLAN_REVOKED,)


def test_just_in_time(world: World, tmp_path: Path) -> None:
    saying('[freshness]\nplan-window = "24h"\nplan-age = "5m"')(world)
    check(world, tmp_path).close()
    world.now = world.policy.expires - timedelta(seconds=1)
    world.sign_plan(window=Window(world.now - MINUTES, world.now + MINUTES))
    check(world, tmp_path).close()


def test_what_is_not_one_plan_is_not_shown_as_one(world: World) -> None:
    beside(SECOND, lambda it: it)(world)
    with pytest.raises(RefusedError) as caught:
        signatures.payload(world.plan_bundle)
    assert caught.value.codes == (ReasonCode.PLAN_THRESHOLD,)
