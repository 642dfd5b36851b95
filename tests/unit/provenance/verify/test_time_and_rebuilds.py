"""Steps 23 to 26: what was right when it was signed, and is refused for time, revocation or want of others."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.provenance.identity.revocations import RevocationFile
from mvmnix.provenance.policy.merge import PolicyInputs
from mvmnix.provenance.slsa.provenance import HOST_NIX, KeptPath, Provenance
from mvmnix.provenance.verify import verify
from mvmnix.provenance.verify.verify import Verified, verify_alone, verify_parts
from tests.fakes import DERIVATION
from tests.policies import effective
from tests.support.refusals import refusal_codes
from tests.support.rows import Row
from tests.unit.provenance import world as worlds
from tests.unit.provenance.verify.rebuilds import BUILT, SECOND, THIRD, agreed, rebuilt, saying
from tests.unit.provenance.verify.steps import check, step_0_nothing, take_out
from tests.unit.provenance.world import BUILDER, KERNEL, NOW, SEED, STRANGER, TOOL, World


def says(text: str) -> Callable[[World], object]:
    return lambda it: setattr(it, "policy", saying(text))


def revoke(which: Callable[[World], Digest], more: str = "") -> Callable[[World], object]:
    def apply(it: World) -> None:
        text = f'version = 1\nserial = 1\n[[digests]]\nsha256 = "{which(it).hex}"\n{more}'
        revoked = RevocationFile.parse(text.encode())
        it.policy = effective(None, worlds.trust(), PolicyInputs((None, revoked)))

    return apply


def at(now: Any) -> Callable[[World], object]:
    return lambda it: setattr(it, "now", now)


def runs(*digests: str) -> Callable[[World], object]:
    """A policy whose builder runs these images."""
    listed = ", ".join(f'"{digest}"' for digest in digests)
    return lambda it: it.change_policy("level = 1\n\n#", f"level = 1\nbuilder-images = [{listed}]\n\n#")


OTHER = Digest.of(b"another builder image")
ROWS = (
    Row(11, Code.BUILDER_NOT_ADMITTED, runs(OTHER.hex), "another builder image"),
    Row(
        11,
        Code.BUILDER_NOT_ADMITTED,
        lambda it: [runs(Digest.of(b"kernel").hex)(it)],
        "a builder image by another of its files",
    ),
    Row(23, Code.PROVENANCE_STALE, says('[freshness]\nprovenance = "6m"'), "a build of seven minutes ago"),
    *(
        Row(24, Code.IMAGE_REVOKED, revoke(lambda it, n=number: it.image.artifacts[n].digest), f"file {number}")  # type: ignore[misc]
        for number in range(4)
    ),
    Row(24, Code.IMAGE_REVOKED, revoke(lambda _: Digest.of(b"manifest.json")), "the image of the builder"),
    Row(24, Code.IMAGE_REVOKED, revoke(lambda _: Digest.of(b"initrd")), "a file of the builder's image"),
    Row(25, Code.POLICY_EXPIRED, at(worlds.NOW.replace(year=2037, month=1, day=1, hour=0)), "the very moment"),
    Row(26, Code.REBUILDS_MISSING, says("[thresholds]\nrebuilds = 2"), "no second builder"),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.step}-{row.name}")
def test_refused_by_exactly_one_step_and_without_it_by_none(
    world: World, row: Row[World], monkeypatch: pytest.MonkeyPatch
) -> None:
    row.change(world)
    assert set(refusal_codes(check, world)) == {row.code}
    if row.step == 26:
        monkeypatch.setattr(verify, "step_26_rebuilds", step_0_nothing)
    else:
        take_out(row.step, monkeypatch)
    assert isinstance(check(world), Verified)


@pytest.mark.parametrize(
    "change",
    [
        runs(OTHER.hex, Digest.of(b"manifest.json").hex),
        says('[freshness]\nprovenance = "7m"'),
        revoke(lambda _: OTHER),
        at(worlds.NOW.replace(year=2036, month=12, day=31, hour=23, minute=59, second=59)),
        says("[thresholds]\nrebuilds = 1"),
    ],
)
def test_what_is_just_right(world: World, change: Callable[[World], object]) -> None:
    change(world)
    check(world)


def keep_all(it: World, **fields: Any) -> None:
    """Let the image's one source come in with a kept part alone."""
    it.keep_parts(**fields)
    kept = (KeptPath(KERNEL.path, KERNEL.nar, Digest.of(it.parts[0])),)
    it.sign_provenance(kept=kept, sources=(TOOL, SEED))


@pytest.mark.parametrize("of_builder", [True, False])
@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("", "is revoked"),
        ('reason = "a hole in the kernel"', "is revoked: 'a hole in the kernel'"),
        ('reason = "\u202eevil\u0085"', r"is revoked: '\u202eevil\x85'"),
    ],
)
def test_a_revoked_image_s_refusal_says_why(world: World, of_builder: bool, more: str, told: str) -> None:
    revoke(lambda it: Digest.of(b"manifest.json") if of_builder else it.image.manifest.digest, more)(world)
    with pytest.raises(RefusedError) as caught:
        check(world)
    (reason,) = caught.value.reasons
    assert reason.why.endswith(told)


REFUSED_PARTS = (
    (revoke(lambda _: Digest.of(b"manifest.json")), Code.IMAGE_REVOKED),
    (revoke(lambda it: it.image.manifest.digest), Code.IMAGE_REVOKED),
    (at(worlds.NOW.replace(year=2037)), Code.POLICY_EXPIRED),
    (says('[freshness]\nprovenance = "6m"'), Code.PROVENANCE_STALE),
    (lambda it: setattr(it, "parts", ()), Code.PARTS_MISMATCH),
    (lambda it: keep_all(it, key=STRANGER), Code.SIGNER_UNKNOWN),
)


@pytest.mark.parametrize(("change", "code"), REFUSED_PARTS)
def test_what_refused_parts_account_for_is_not_said_to_be_missing(
    world: World, change: Callable[[World], object], code: Code
) -> None:
    keep_all(world)
    check(world)
    change(world)
    assert set(refusal_codes(check, world)) == {code}


@pytest.mark.parametrize(("change", "code"), REFUSED_PARTS[:4])
def test_what_refused_parts_do_not_account_for_is_missing_all_the_same(
    world: World, change: Callable[[World], object], code: Code
) -> None:
    keep_all(world, sources=(TOOL,))
    change(world)
    assert set(refusal_codes(check, world)) == {code, Code.DEPENDENCY_MISMATCH}


def test_a_build_by_the_host_s_nix_ran_in_no_image(world: World) -> None:
    world.change_manifest(worlds.put("builder", "name"))
    world.sign_provenance(builder_id=HOST_NIX, builder_image=())
    runs(OTHER.hex)(world)
    assert check(world).claim.builder_id == HOST_NIX


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (says('[freshness]\nprovenance = "6m"'), Code.PROVENANCE_STALE),
        (revoke(lambda _: Digest.of(b"manifest.json")), Code.IMAGE_REVOKED),
        (at(worlds.NOW.replace(year=2037)), Code.POLICY_EXPIRED),
        (runs(OTHER.hex), Code.BUILDER_NOT_ADMITTED),
    ],
)
def test_a_parts_statement_too(world: World, change: Callable[[World], object], code: Code) -> None:
    world.keep_parts()
    change(world)
    assert refusal_codes(verify_parts, world.parts[0], policy=world.policy, now=world.now) == (code,)


def test_old_parts_make_a_new_image_stale(world: World) -> None:
    world.keep_parts(started=BUILT - timedelta(days=3), finished=BUILT - timedelta(days=2))
    assert check(world).claim.kept[0].path == KERNEL.path
    says('[freshness]\nprovenance = "1d"')(world)
    assert set(refusal_codes(check, world)) == {Code.PROVENANCE_STALE}


# Agreeing builds


def test_builders_that_agree(world: World) -> None:
    world.policy = agreed(3, SECOND, THIRD)
    two, three = rebuilt(world, SECOND), rebuilt(world, THIRD, invocation="urn:uuid:3")
    assert check(world, (two, three)).signer.key == BUILDER.public
    assert check(world, (b"{}", three, b"", two)).level == 1
    with pytest.raises(RefusedError, match="only 2 of the 3 required builders"):
        check(world, (two,))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda it: rebuilt(it, BUILDER), "is counted already"),
        (lambda it: it.provenance_bundle, "is counted already"),
        (lambda it: rebuilt(it, THIRD), "signer-unknown"),
        (lambda it: rebuilt(it, SECOND, invocation=it.provenance().invocation), "a build that is counted already"),
        (lambda it: worlds.flipped_signature(rebuilt(it, SECOND)), "signature-invalid"),
        (lambda it: rebuilt(it, SECOND, builder_id="urn:other"), "builder-not-admitted"),
        (lambda it: rebuilt(it, SECOND, finished=NOW + timedelta(days=1)), "build-time"),
        (lambda it: rebuilt(it, SECOND, sources=()), "dependency-mismatch"),
        (lambda it: rebuilt(it, SECOND, lock=None), "lock-mismatch"),
        (lambda it: rebuilt(it, SECOND, root=replace(it.provenance().root, nar=OTHER)), "of another tree"),
        (lambda it: rebuilt(it, SECOND, attribute="other"), "of another tree"),
        (lambda it: rebuilt(it, SECOND, directory=""), "of another tree"),
        (lambda it: rebuilt(it, SECOND, derivation=DERIVATION), "of another tree"),
        *(
            (
                lambda it, n=number: rebuilt(it, SECOND, worlds.put("0" * 64, "subject", n, "digest", "sha256")),
                "subject",
            )
            for number in range(4)
        ),
        *((lambda it, n=number: rebuilt(it, SECOND, worlds.drop("subject", n)), "subject") for number in range(4)),
    ],
)
def test_statements_that_do_not_count(world: World, make: Callable[[World], bytes], why: str) -> None:
    world.policy = agreed(2, SECOND)
    with pytest.raises(RefusedError, match=why) as caught:
        check(world, (make(world),))
    assert caught.value.codes == (Code.REBUILDS_MISSING,)
    check(world, (make(world), rebuilt(world, SECOND)))  # what does not count does no harm either


def test_of_those_that_are_more_than_enough_none_is_read(world: World) -> None:
    def alone(_: bytes) -> Verified[Provenance]:
        raise AssertionError("another one is read")

    assert not list(verify.step_26_rebuilds(check(world), (b"another",), 1, alone))


def test_the_same_rebuild_twice_counts_once(world: World) -> None:
    world.policy = agreed(3, SECOND, THIRD)
    two = rebuilt(world, SECOND)
    with pytest.raises(RefusedError, match="only 2 of the 3 required builders"):
        check(world, (two, two, rebuilt(world, SECOND, invocation="urn:uuid:4")))


def test_a_first_provenance_that_is_refused_is_not_mended_by_others(world: World) -> None:
    world.policy = agreed(2, SECOND, THIRD)
    others = (rebuilt(world, SECOND), rebuilt(world, THIRD, invocation="urn:uuid:3"))
    world.sign_provenance(builder_id="urn:other")
    assert refusal_codes(check, world, others) == (Code.BUILDER_NOT_ADMITTED,)


def test_who_keeps_builds_asks_for_one_builder(world: World) -> None:
    world.policy = agreed(2, SECOND)
    artifacts = world.image.artifacts
    found = verify_alone(world.evidence, policy=world.policy, artifacts=artifacts, image=world.image, now=NOW)
    assert found.signer.key == BUILDER.public


def test_two_others_that_tell_of_one_build(world: World) -> None:
    """A build counts once, whoever signs for it."""
    world.policy = agreed(3, SECOND, THIRD)
    with pytest.raises(RefusedError, match="a build that is counted already") as caught:
        check(world, (rebuilt(world, SECOND), rebuilt(world, THIRD)))
    assert caught.value.codes == (Code.REBUILDS_MISSING,)
