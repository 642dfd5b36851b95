"""Parts, cached paths and other power that a build may have: admitted where the policy says so, refused one by one."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mvmnix.builder import bootstrap
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.slsa import parts, predicate
from mvmnix.provenance.slsa.parts import Parts
from mvmnix.provenance.slsa.provenance import HOST_NIX, KeptPath, RootTree, Variation
from mvmnix.provenance.verify.verify import Verified, verify_parts
from tests.support.refusals import refusal_codes
from tests.unit.provenance import world as worlds
from tests.unit.provenance.verify.steps import check
from tests.unit.provenance.world import CACHE_KEY, CACHED, KERNEL, NOW, PLANNER, STRANGER, TOOLS, World, drop, put

SBOM = b'{"bomFormat": "CycloneDX"}'


def check_parts(it: World) -> Verified[Parts]:
    return verify_parts(it.parts[0], policy=it.policy, now=it.now)


def allow(it: World, more: str, *, old: str = "[launch]") -> None:
    it.change_policy(old, f"{more}\n{old}")


def test_all_that_may_come_in_where_the_policy_says_so(world: World) -> None:
    allow(
        world,
        'inputs = ["https://host/*"]\n[evaluation]\nimport-from-derivation = true\n'
        f'[[caches]]\nkey = "{worlds.CACHE_KEY}"\n',
    )
    world.keep_parts()
    kept = (KeptPath(KERNEL.path, KERNEL.nar, Digest.of(world.parts[0])),)
    variation = Variation("other-host", -86_400, "reversed")
    world.sbom = SBOM
    world.sign_provenance(cached=(CACHED,), kept=kept, from_derivation=True, variation=variation, sbom=Digest.of(SBOM))
    claim = check(world).claim
    assert (claim.cached, claim.kept, claim.from_derivation) == ((CACHED,), kept, True)
    assert (claim.variation, claim.sbom) == (variation, Digest.of(SBOM))


def test_what_the_entries_look_like(world: World) -> None:
    world.keep_parts()
    bundle = Digest.of(world.parts[0])
    made = world.provenance(cached=(CACHED,), kept=(KeptPath(KERNEL.path, KERNEL.nar, bundle),), sbom=Digest.of(SBOM))
    value: Any = predicate.provenance_statement(made, world.image.artifacts).predicate
    *_, cached, kept = value["buildDefinition"]["resolvedDependencies"]
    assert cached == {
        "name": "lib-1.0",
        "uri": CACHED.uri,
        "digest": {"sha256": CACHED.nar.hex},
        "mediaType": "application/x-nix-nar",
        "annotations": {"narHash": CACHED.nar.sri, "storePath": str(CACHED.path), "cacheKey": CACHE_KEY},
    }
    assert kept["uri"] == f"nix-store:{KERNEL.path}"
    assert kept["annotations"] == {
        "narHash": KERNEL.nar.sri,
        "storePath": str(KERNEL.path),
        "partsBundle": f"sha256:{bundle.hex}",
    }
    assert value["runDetails"]["byproducts"] == [
        {
            "name": "sbom.cdx.json",
            "mediaType": "application/vnd.cyclonedx+json",
            "digest": {"sha256": Digest.of(SBOM).hex},
        }
    ]


def test_a_node_that_the_policy_pairs(world: World) -> None:
    assert world.lock is not None
    later = world.lock.replace(b'//host/used"', b'//other/used"')
    world.sign_provenance(lock=Digest.of(later))
    world.lock = later
    assert set(refusal_codes(check, world)) == {Code.LOCK_SUBSTITUTED}
    allow(world, 'pairs = [["https://other/*", "https://host/*"]]')
    assert check(world).level == 1


def test_an_sbom_need_not_be_handed_in(world: World) -> None:
    world.sign_provenance(sbom=Digest.of(SBOM))
    assert check(world).claim.sbom == Digest.of(SBOM)


def test_a_parts_statement_round_trip(world: World) -> None:
    made = world.own_parts()
    assert parts.from_statement(statement.parse(parts.to_statement(made).to_bytes())) == made
    world.keep_parts()
    found = check_parts(world)
    assert (found.claim, found.signer.name, found.level) == (made, "builder", 1)
    assert found.bundle == Digest.of(world.parts[0])


def test_mvm_s_own_tree_is_what_the_builder_image_is_made_from() -> None:
    flake = bootstrap.request().flake
    assert (flake.uri, flake.commit, flake.directory) == (parts.OWN_TREE, None, "")


def test_the_whole_is_worth_no_more_than_its_parts(world: World) -> None:
    allow(
        world,
        '[[builders]]\nid = "urn:mvmnix:builder:microvm:1"\nsigner = "builder"\nlevel = 2\nimages = ["hello"]\n',
        old="[sources]",
    )
    assert check(world).level == 2
    world.keep_parts()
    assert check(world).level == 1


def test_what_went_into_a_part_is_in_the_image_too(world: World) -> None:
    world.keep_parts()
    kept = (KeptPath(KERNEL.path, KERNEL.nar, Digest.of(world.parts[0])),)
    world.sign_provenance(sources=(), kept=kept)
    assert check(world).claim.sources == ()
    world.sign_provenance(sources=())  # the same parts are there, and nobody names them
    assert set(refusal_codes(check, world)) == {Code.DEPENDENCY_MISMATCH}


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        (Code.PARTS_MISMATCH, {"root": RootTree(f"git+file:x?rev={'1' * 40}", Digest.of(b""), "1" * 40)}),
        (Code.PARTS_MISMATCH, {"root": RootTree("path:other", Digest.of(b""), None)}),
        (Code.PARTS_MISMATCH, {"directory": "examples/hello"}),
        (Code.PARTS_MISMATCH, {"kept": (KeptPath(TOOLS.path, TOOLS.nar, Digest.of(b"")),)}),
        (Code.BUILDER_NOT_ADMITTED, {"builder_id": HOST_NIX, "builder_image": ()}),
        (Code.BUILDER_NOT_ADMITTED, {"builder_id": "urn:example:builder"}),
        (Code.BUILD_TIME, {"finished": NOW + timedelta(days=1)}),
        (Code.CACHE_NOT_ADMITTED, {"cached": (CACHED,)}),
        (Code.IMPORT_FROM_DERIVATION, {"from_derivation": True}),
    ],
)
def test_a_parts_statement_is_refused_for(world: World, code: Code, fields: dict[str, Any]) -> None:
    world.keep_parts(**fields)
    for ask in (check_parts, check):
        assert set(refusal_codes(ask, world)) == {code}


@pytest.mark.parametrize(
    ("code", "change"),
    [
        (Code.BUILD_TYPE, put("urn:mvmnix:buildtype:flake-image:1", "predicate", "buildDefinition", "buildType")),
        (Code.PREDICATE_TYPE, put("urn:mvmnix:plan:1", "predicateType")),
        (Code.STATEMENT_MALFORMED, put([], "subject")),
        (Code.STATEMENT_MALFORMED, put("/nix/store/x", "subject", 0, "name")),
        (Code.STATEMENT_MALFORMED, put(1, "predicate", "more")),
        (Code.EXTERNAL_PARAMETERS, drop("predicate", "buildDefinition", "externalParameters", "lock")),
        (
            Code.EXTERNAL_PARAMETERS,
            put("some", "predicate", "buildDefinition", "externalParameters", "lock", "inputs"),
        ),
    ],
)
def test_a_parts_statement_that_is_none(world: World, code: Code, change: worlds.Change) -> None:
    world.keep_parts(change)
    assert set(refusal_codes(check_parts, world)) == {code}


@pytest.mark.parametrize(("key", "code"), [(STRANGER, Code.SIGNER_UNKNOWN), (PLANNER, Code.SIGNER_ROLE)])
def test_who_may_sign_for_parts(world: World, key: Any, code: Code) -> None:
    world.keep_parts(key=key)
    assert code in refusal_codes(check, world)


def test_an_image_s_provenance_is_no_parts_statement(world: World) -> None:
    world.sign_provenance()
    world.parts = (world.provenance_bundle,)
    assert set(refusal_codes(check_parts, world)) == {Code.BUILD_TYPE}


def test_a_part_twice_in_one_statement_or_in_none() -> None:
    with pytest.raises(ValueError, match="at least one path, and none twice"):
        Parts((KERNEL, replace(KERNEL, nar=Digest.of(b"other"))), None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one path"):
        Parts((), None)  # type: ignore[arg-type]


def test_parts_that_nobody_names_are_not_read(world: World) -> None:
    world.parts = (b"not even a bundle",)
    assert check(world).level == 1


DEFINITION = ("predicate", "buildDefinition")
CACHED_AT = (*DEFINITION, "resolvedDependencies", -1)


@pytest.mark.parametrize(
    "change",
    [
        drop(*CACHED_AT, "annotations", "cacheKey"),
        put("two words", *CACHED_AT, "annotations", "cacheKey"),
        put(f"sha256:{'0' * 64}", *CACHED_AT, "annotations", "partsBundle"),
        put("used", *CACHED_AT, "annotations", "lockNode"),
        put("/nix/store/lib-1.0", *CACHED_AT, "annotations", "storePath"),
        put(str(TOOLS.path), *CACHED_AT, "annotations", "storePath"),
        put(Digest.of(b"x").sri, *CACHED_AT, "annotations", "narHash"),
        drop(*CACHED_AT, "annotations", "narHash"),
        drop(*CACHED_AT, "annotations", "storePath"),
        drop(*CACHED_AT, "mediaType"),
        put("application/x", *CACHED_AT, "mediaType"),
        put("1" * 40, *CACHED_AT, "digest", "gitCommit"),
        put("no uri", *CACHED_AT, "uri"),
        put("yes", *DEFINITION, "internalParameters", "importFromDerivation"),
        put({"hostname": "h", "clockOffsetSeconds": 1}, *DEFINITION, "internalParameters", "variation"),
        put(
            {"hostname": "-", "clockOffsetSeconds": 1, "directoryOrder": "reversed"},
            *(*DEFINITION, "internalParameters", "variation"),
        ),
        put(
            {"hostname": "h", "clockOffsetSeconds": 2**40, "directoryOrder": "reversed"},
            *(*DEFINITION, "internalParameters", "variation"),
        ),
        put([{"name": "sbom.cdx.json", "digest": {"sha256": "0" * 64}}], "predicate", "runDetails", "byproducts"),
        put([{"name": "derivation", "uri": str(KERNEL.path)}], "predicate", "runDetails", "byproducts"),
        put([{"name": "log", "uri": "x"}], "predicate", "runDetails", "byproducts"),
        lambda it: it["predicate"]["runDetails"]["byproducts"].append(it["predicate"]["runDetails"]["byproducts"][0]),
    ],
)
def test_entries_that_are_refused_as_malformed(world: World, change: worlds.Change) -> None:
    allow(world, f'[[caches]]\nkey = "{worlds.CACHE_KEY}"\n')
    world.sign_provenance(cached=(CACHED,), sbom=Digest.of(SBOM))
    assert check(world).claim.cached == (CACHED,)
    world.sign_provenance(change, cached=(CACHED,), sbom=Digest.of(SBOM))
    assert set(refusal_codes(check, world)) == {Code.STATEMENT_MALFORMED}


def test_a_kept_part_is_named_by_its_store_path(world: World) -> None:
    world.keep_parts()
    kept = (KeptPath(KERNEL.path, KERNEL.nar, Digest.of(world.parts[0])),)
    for change in (
        put(f"nix-store:{TOOLS.path}", *CACHED_AT, "uri"),
        put("sha256:0", *CACHED_AT, "annotations", "partsBundle"),
    ):
        world.sign_provenance(change, kept=kept)
        assert set(refusal_codes(check, world)) == {Code.STATEMENT_MALFORMED}


def test_a_path_both_cached_and_kept(world: World) -> None:
    allow(world, f'[[caches]]\nkey = "{worlds.CACHE_KEY}"\n')
    world.keep_parts()
    kept = (KeptPath(KERNEL.path, KERNEL.nar, Digest.of(world.parts[0])),)
    world.sign_provenance(kept=kept, cached=(replace(CACHED, path=KERNEL.path),))
    assert set(refusal_codes(check, world)) == {Code.DEPENDENCY_MISMATCH}
