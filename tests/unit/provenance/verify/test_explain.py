"""What each rule of a policy says of a build, whether it admits it or not."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode
from mvmnix.keys import Role
from mvmnix.provenance.identity.trust import Signer
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa.provenance import HOST_NIX, MICROVM, RootTree
from mvmnix.provenance.verify.explain import RuleFinding, of_build, of_input, of_signer, of_source, refusals
from tests.policies import effective
from tests.unit.provenance import world as worlds
from tests.unit.provenance.world import CACHE_KEY, CACHED, NOW, World

MORE = f"""[evaluation]
import-from-derivation = true
[[caches]]
key = "{CACHE_KEY}"
[freshness]
provenance = "30d"
[thresholds]
rebuilds = 2
[launch]"""

#: How far apart clocks may be.
SKEW, SECOND = timedelta(minutes=5), timedelta(seconds=1)
ELSEWHERE = RootTree(f"git+https://elsewhere/x?rev={worlds.COMMIT}", worlds.KERNEL.nar, worlds.COMMIT)


def builder(policy: TrustPolicy) -> Signer:
    return next(signer for signer in policy.trust.signers if Role.BUILDER in signer.roles)


def policy(more: str = "[launch]") -> TrustPolicy:
    made = effective(None, worlds.trust().replace(b"[launch]", more.encode()))
    return replace(made, sources=tuple(replace(rule, patterns=("git+https://host/*",)) for rule in made.sources))


def rules(world: World, it: TrustPolicy, **fields: Any) -> list[tuple[str, bool | None]]:
    found = of_build(world.provenance(**fields), builder(it), it, image="hello")
    return [(finding.rule, finding.admits) for finding in found]


def builders(world: World, it: TrustPolicy, image: str | None, **fields: Any) -> list[RuleFinding]:
    found = of_build(world.provenance(**fields), builder(it), it, image=image)
    return [finding for finding in found if finding.rule == "builders"]


def test_a_build_that_is_admitted(world: World) -> None:
    found = rules(world, policy(MORE), cached=(CACHED,), from_derivation=True)
    assert found == [
        *(("signers", True), ("builders", True), ("sources", True), ("inputs", True), ("caches", True)),
        *(("evaluation", True), ("freshness", None), ("thresholds", None)),
    ]


def test_a_build_that_is_not(world: World) -> None:
    found = rules(world, policy(), root=ELSEWHERE, builder_id="urn:other", cached=(CACHED,), from_derivation=True)
    assert found == [
        *(("signers", True), ("builders", False), ("sources", False), ("inputs", True), ("caches", False)),
        *(("evaluation", False), ("freshness", None)),
    ]


def test_a_local_copy(world: World) -> None:
    local = RootTree("path:hello", worlds.KERNEL.nar, None)
    for allowed in (True, False):
        it = policy()
        it = replace(it, sources=tuple(replace(rule, allow_local=allowed) for rule in it.sources))
        (found,) = of_source(local.uri, it)
        assert "does not allow local copies" in found.text or allowed
        assert not (allowed and "does not allow" in found.text)
        assert found.admits is (allowed and any(rule.matching(local.uri) for rule in it.sources))
        (committed,) = of_source("git+https://host/a", it)
        assert committed.admits


def test_which_pattern_matches() -> None:
    it = policy('inputs = ["https://host/*"]\n[launch]')
    told = [
        *(next(of_source(uri, it)).text for uri in ("git+https://host/a", "git+https://other/a")),
        *(next(of_input(uri, it)).text for uri in ("https://host/a", "https://other/a")),
    ]
    assert told == [
        "git+https://host/a matches 'git+https://host/*' of the user's trust.toml",
        "git+https://other/a matches none of git+https://host/* of the user's trust.toml",
        "https://host/a matches 'https://host/*' of the user's trust.toml",
        "https://other/a matches none of https://host/* of the user's trust.toml",
    ]


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (None, [(True, "level 1 at most, for every image"), (True, "level 2 at most, for the images a, hello")]),
        ("hello", [(True, "level 1 at most, for every image"), (True, "level 2 at most, for the images a, hello")]),
        ("other", [(True, "level 1 at most, for every image")]),
    ],
)
def test_for_which_images_a_builder_is_trusted(
    world: World, image: str | None, told: list[tuple[bool | None, str]]
) -> None:
    """Without the image's name, rules for some images are named too."""
    rule = f'[[builders]]\nid = "{MICROVM}"\nsigner = "builder"\nlevel = 2\nimages = ["hello", "a"]\n[launch]'
    it = policy(rule)
    found = builders(world, it, image)
    who = f"{MICROVM} by 'builder', running {Digest.of(b'manifest.json')}: "
    assert [(each.admits, each.text.removeprefix(who)) for each in found] == told


def test_a_builder_that_ran_in_no_image(world: World) -> None:
    (found,) = builders(world, policy(), "builder", builder_id=HOST_NIX, builder_image=())
    assert found.text == f"{HOST_NIX} by 'builder': level 1 at most, for the images builder"


def test_for_which_images_no_builder_is_trusted(world: World) -> None:
    for image, told in ((None, "any image"), ("hello", "image 'hello'")):
        (found,) = builders(world, policy(), image, builder_id="urn:other")
        assert found.text.endswith(f"no rule trusts that for {told}")


def test_who_signed(world: World) -> None:
    signer = builder(policy())
    assert of_signer(signer) == RuleFinding(
        "signers", True, f"{signer.name!r}, the key {signer.fingerprint}, may sign as builder"
    )


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({}, []),
        ({"root": ELSEWHERE}, [ReasonCode.SOURCE_NOT_ADMITTED]),
        ({"finished": NOW + SKEW}, []),
        ({"finished": NOW + SKEW + SECOND}, [ReasonCode.BUILD_TIME]),
        ({"started": NOW, "finished": NOW}, []),
        ({"started": NOW + SECOND, "finished": NOW}, [ReasonCode.BUILD_TIME]),
        ({"cached": (CACHED,)}, [ReasonCode.CACHE_NOT_ADMITTED]),
        ({"from_derivation": True}, [ReasonCode.IMPORT_FROM_DERIVATION]),
    ],
)
def test_what_a_build_is_refused_for(world: World, fields: dict[str, Any], codes: list[ReasonCode]) -> None:
    assert [reason.code for reason in refusals(world.provenance(**fields), policy(), NOW)] == codes


def test_what_it_is_refused_for_by_and_by(world: World) -> None:
    it = policy('[freshness]\nprovenance = "1d"\n[launch]')
    late = it.expires
    assert [reason.code for reason in refusals(world.provenance(), it, late)] == [
        ReasonCode.PROVENANCE_STALE,
        ReasonCode.POLICY_EXPIRED,
    ]
