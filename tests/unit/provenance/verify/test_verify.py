"""Each step of a provenance's verification refuses what only it refuses, and refuses nothing when it is taken out."""

import base64
import copy
import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.keys import Role
from mvmnix.model import Artifact, HashMode, Source
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.verification_material import Material
from mvmnix.provenance.slsa import predicate
from mvmnix.provenance.slsa.provenance import HOST_NIX, LockAccount, LockedInput, RootTree, UntouchedNode
from mvmnix.provenance.verify import authentication as authenticator
from mvmnix.provenance.verify import verify
from mvmnix.provenance.verify.authentication import Authentic, authenticate
from mvmnix.provenance.verify.verify import Verified
from tests.support.refusals import refusal_codes
from tests.support.rows import Row
from tests.unit.provenance import world as worlds
from tests.unit.provenance.verify.steps import check, take_out
from tests.unit.provenance.world import BUILDER, CACHED, COMMIT, NOW, PLANNER, STRANGER, TOOLS, World, drop, put

LOCAL = RootTree("path:hello", Digest.of(b"root tree"), None)


def test_evidence(world: World) -> None:
    found = check(world)
    assert found.claim == world.provenance()
    assert (found.signer.name, found.level) == ("builder", 1)
    assert found.policy == world.policy.digest
    assert found.bundle == Digest.of(world.provenance_bundle)


def test_a_flake_without_a_lock(world: World) -> None:
    world.lock = None
    world.sign_provenance(nodes=LockAccount((), (), ()))
    assert check(world).claim.lock is None


def test_a_local_copy_says_so(world: World) -> None:
    world.sign_provenance(root=LOCAL)
    assert check(world).claim.root.commit is None


def provenance(**fields: Any) -> Callable[[World], object]:
    return lambda it: it.sign_provenance(**fields)


def statement(*changes: worlds.Change) -> Callable[[World], object]:
    return lambda it: it.sign_provenance(*changes)


def bundle(change: Callable[[bytes], bytes]) -> Callable[[World], object]:
    def apply(it: World) -> None:
        it.provenance_bundle = change(it.provenance_bundle)

    return apply


def manifest(change: worlds.Change) -> Callable[[World], object]:
    def apply(it: World) -> None:
        it.change_manifest(change)
        it.sign_provenance()

    return apply


def kept(*changes: worlds.Change, **fields: Any) -> Callable[[World], object]:
    return lambda it: it.keep_parts(*changes, **fields)


def hand_in(**fields: object) -> Callable[[World], object]:
    def apply(it: World) -> None:
        for name, value in fields.items():
            setattr(it, name, value)

    return apply


def policy(old: str, new: str) -> Callable[[World], object]:
    return lambda it: it.change_policy(old, new)


def both(*changes: Callable[[World], object]) -> Callable[[World], object]:
    return lambda it: [change(it) for change in changes]


def with_nodes(change: Callable[[LockAccount], LockAccount]) -> Callable[[World], object]:
    return lambda it: it.sign_provenance(nodes=change(it.provenance().nodes))


def with_lock(old: bytes, new: bytes) -> Callable[[World], object]:
    """Another flake.lock, which the build claims to have used, while its nodes stay those of the old one."""

    def apply(it: World) -> None:
        assert it.lock is not None
        later = it.lock.replace(old, new)
        it.sign_provenance(lock=Digest.of(later))
        it.lock = later

    return apply


def later_lock(it: World) -> None:
    assert it.lock is not None
    it.lock += b"\n"


def no_key(payload: bytes) -> bytes:
    return payload.replace(b'"_type":', b'"_type":"x","_type":', 1)


def other_payload(data: bytes) -> bytes:
    parsed = envelope.parse_bundle(data)
    return replace(parsed, payload=parsed.payload.replace(b"2.26.3", b"2.26.4")).to_bytes()


DEFINITION = ("predicate", "buildDefinition")
BUILDER_IMAGE = ("predicate", "runDetails", "builder", "builderDependencies")
OTHER = LockedInput("other", Source("https://host/other.tar.gz", "source", Digest.of(b"other"), HashMode.NAR))

NAMESAKE = worlds.CACHE_KEY.replace("AA", "BB")
CACHES = f'[[caches]]\nkey = "{worlds.CACHE_KEY}"\n[launch]'

ROWS = (
    # 1: every byte is the one that mvm writes
    Row(1, Code.BUNDLE_NOT_CANONICAL, bundle(lambda it: it + b"\n"), "a newline"),
    Row(1, Code.BUNDLE_NOT_CANONICAL, bundle(lambda it: it.replace(b":", b": ", 1)), "a space"),
    Row(1, Code.BUNDLE_NOT_CANONICAL, bundle(lambda it: it.replace(b'"keyid":"",', b"")), "no keyid"),
    Row(1, Code.BUNDLE_NOT_CANONICAL, bundle(lambda it: it.replace(b"sigstore", rb"\u0073igstore", 1)), "an escape"),
    # 2, 3, 4: who signed
    Row(2, Code.SIGNER_UNKNOWN, lambda it: it.sign_provenance(key=STRANGER), "a stranger's key"),
    Row(3, Code.SIGNATURE_INVALID, bundle(worlds.flipped_signature), "a flipped signature"),
    Row(3, Code.SIGNATURE_INVALID, bundle(other_payload), "a payload with another claim"),
    Row(
        3,
        Code.SIGNATURE_INVALID,
        both(
            lambda it: it.sign_provenance(key=STRANGER),
            bundle(lambda it: replace(envelope.parse_bundle(it), material=Material(BUILDER.public.hint)).to_bytes()),
        ),
        "another key under the builder's name",
    ),
    Row(
        4,
        Code.SIGNER_ROLE,
        both(lambda it: it.sign_provenance(key=PLANNER), policy('signer = "builder"', 'signer = "planner"')),
        "the planner's key",
    ),
    # 5: the payload type, which the signature covers
    Row(5, Code.BUNDLE_MALFORMED, bundle(lambda it: retyped(it, "application/json")), "another payload type"),
    # 6, 7, 8: what the claim is
    Row(6, Code.STATEMENT_MALFORMED, bundle(lambda it: worlds.resigned(it, no_key, BUILDER)), "a duplicate key"),
    Row(6, Code.STATEMENT_MALFORMED, bundle(lambda it: worlds.resigned(it, lambda p: p[:-1], BUILDER)), "no JSON"),
    Row(6, Code.STATEMENT_MALFORMED, statement(put(1, "more")), "an unknown field"),
    Row(6, Code.STATEMENT_MALFORMED, statement(put("https://in-toto.io/Statement/v0.1", "_type")), "version 0.1"),
    Row(6, Code.STATEMENT_MALFORMED, statement(put("x" * 64, "subject", 0, "digest", "sha256")), "no digest"),
    Row(6, Code.STATEMENT_MALFORMED, statement(put("ab", "subject", 0, "digest", "sha1")), "another algorithm"),
    Row(6, Code.STATEMENT_MALFORMED, statement(lambda it: it["subject"].append(it["subject"][0])), "twice a name"),
    Row(7, Code.PREDICATE_TYPE, statement(put("urn:mvmnix:plan:1", "predicateType")), "a plan's type"),
    Row(8, Code.BUILD_TYPE, statement(put("urn:mvmnix:buildtype:flake-image:2", *DEFINITION, "buildType")), "type 2"),
    Row(8, Code.EXTERNAL_PARAMETERS, statement(put(1, *DEFINITION, "externalParameters", "more")), "an unknown one"),
    Row(8, Code.EXTERNAL_PARAMETERS, statement(drop(*DEFINITION, "externalParameters", "lock")), "a missing one"),
    Row(
        8,
        Code.EXTERNAL_PARAMETERS,
        statement(put("git+https://elsewhere", *DEFINITION, "externalParameters", "flake", "uri")),
        "a flake that is not the root tree",
    ),
    Row(8, Code.STATEMENT_MALFORMED, statement(put(1, *DEFINITION, "internalParameters", "more")), "an internal one"),
    Row(8, Code.DEPENDENCY_MISMATCH, statement(drop(*DEFINITION, "resolvedDependencies", 0)), "no root tree"),
    Row(
        8, Code.DEPENDENCY_MISMATCH, statement(lambda it: (deps := dependencies(it)).append(deps[0])), "two root trees"
    ),
    Row(
        8,
        Code.STATEMENT_MALFORMED,
        statement(put(False, *DEFINITION, "resolvedDependencies", 0, "annotations", "committed")),
        "a commit that is called none",
    ),
    Row(
        8,
        Code.STATEMENT_MALFORMED,
        statement(put(Digest.of(b"x").sri, *DEFINITION, "resolvedDependencies", 1, "annotations", "narHash")),
        "a narHash that is not the digest",
    ),
    Row(8, Code.STATEMENT_MALFORMED, statement(drop(*BUILDER_IMAGE)), "no image that built"),
    Row(8, Code.STATEMENT_MALFORMED, statement(put([], *BUILDER_IMAGE)), "an image that built, without files"),
    # 9: subjects
    *(
        Row(9, Code.SUBJECT_MISMATCH, statement(put("0" * 64, "subject", number, "digest", "sha256")), f"file {number}")
        for number in range(4)
    ),
    Row(9, Code.SUBJECT_MISMATCH, statement(drop("subject", 2)), "a file less"),
    Row(9, Code.SUBJECT_MISMATCH, statement(put("rootfs2", "subject", 2, "name")), "another name"),
    Row(
        9,
        Code.SUBJECT_MISMATCH,
        statement(lambda it: it["subject"].append({"name": "more", "digest": {"sha256": "0" * 64}})),
        "a file more",
    ),
    # 11: builder
    Row(11, Code.BUILDER_NOT_ADMITTED, provenance(builder_id="urn:example:builder:1"), "an unknown builder"),
    Row(
        11,
        Code.BUILDER_NOT_ADMITTED,
        provenance(builder_id=HOST_NIX, builder_image=()),
        "the host's Nix for another image than the builder",
    ),
    Row(
        11,
        Code.BUILDER_NOT_ADMITTED,
        policy('signer = "builder"\nlevel = 1\n\n# The host', 'signer = "planner"\nlevel = 1\n\n# The host'),
        "a builder that another signer may name",
    ),
    # 12: the bytes of flake.lock
    Row(12, Code.LOCK_MISMATCH, later_lock, "other bytes, the same nodes"),
    Row(12, Code.LOCK_MISMATCH, provenance(lock=Digest.of(b"")), "another digest"),
    # 13: its nodes
    Row(13, Code.DEPENDENCY_MISMATCH, with_nodes(lambda it: replace(it, inputs=())), "a node nobody mentions"),
    Row(13, Code.DEPENDENCY_MISMATCH, with_nodes(lambda it: replace(it, untouched=())), "an untouched one neither"),
    Row(13, Code.DEPENDENCY_MISMATCH, with_nodes(lambda it: replace(it, relative=())), "nor a relative one"),
    Row(
        13,
        Code.DEPENDENCY_MISMATCH,
        with_nodes(lambda it: replace(it, inputs=(*it.inputs, OTHER))),
        "a tree that the lock does not know",
    ),
    Row(
        13,
        Code.DEPENDENCY_MISMATCH,
        with_nodes(lambda it: replace(it, untouched=(*it.untouched, UntouchedNode("more", Digest.of(b"x"))))),
        "an untouched node that the lock does not know",
    ),
    Row(
        13,
        Code.DEPENDENCY_MISMATCH,
        with_nodes(lambda it: replace(it, relative=(*it.relative, "more"))),
        "a relative node that the lock does not know",
    ),
    Row(
        13,
        Code.DEPENDENCY_MISMATCH,
        with_nodes(lambda it: replace(it, untouched=(*it.untouched, UntouchedNode(it.inputs[0].node, worlds.TOUCHED)))),
        "a node both handed in and untouched",
    ),
    Row(
        13,
        Code.DEPENDENCY_MISMATCH,
        with_nodes(lambda it: replace(it, inputs=(*it.inputs, it.inputs[0]))),
        "a tree twice",
    ),
    Row(13, Code.DEPENDENCY_MISMATCH, with_lock(b"/used.tar.gz", b"/evil.tar.gz"), "a lock with another URL"),
    Row(13, Code.DEPENDENCY_MISMATCH, with_lock(b"sha256-BBBB", b"sha256-CCCC"), "a lock with another tree"),
    Row(13, Code.LOCK_NODE_UNSUPPORTED, with_lock(b'"../.."', b'"/etc"'), "a lock that is refused itself"),
    # 14: sources
    Row(14, Code.DEPENDENCY_MISMATCH, provenance(sources=(worlds.TOOL, worlds.SEED)), "a source less"),
    Row(
        14,
        Code.DEPENDENCY_MISMATCH,
        provenance(sources=(replace(worlds.DEB, digest=Digest.of(b"evil")), worlds.TOOL)),
        "a source with other bytes",
    ),
    Row(14, Code.DEPENDENCY_MISMATCH, provenance(sources=(worlds.DEB, worlds.DEB)), "a source twice"),
    Row(
        14,
        Code.DEPENDENCY_MISMATCH,
        manifest(lambda it: it["sources"].append({"uri": "mirror://debian/x", "name": "x", "sha256": "0" * 64})),
        "a manifest that names more",
    ),
    # 15: the root tree
    Row(
        15,
        Code.SOURCE_NOT_ADMITTED,
        both(provenance(root=LOCAL), policy("allow-local = true", "allow-local = false")),
        "a local copy",
    ),
    Row(15, Code.SOURCE_NOT_ADMITTED, policy('"*"', '"git+https://elsewhere/*"'), "another repository"),
    # 16: times
    Row(16, Code.BUILD_TIME, provenance(finished=NOW + timedelta(minutes=6)), "a build from the future"),
    Row(16, Code.BUILD_TIME, provenance(started=NOW - timedelta(minutes=6)), "an end before the beginning"),
    # 17 to 21: what came in, besides files and trees by their hash
    Row(
        17,
        Code.INPUT_NOT_ADMITTED,
        policy("[launch]", 'inputs = ["https://host/nixpkgs*", "http://host/*"]\n[launch]'),
        "an input from elsewhere",
    ),
    Row(17, Code.INPUT_NOT_ADMITTED, policy("[launch]", "inputs = []\n[launch]"), "an input where none may be"),
    Row(18, Code.CACHE_NOT_ADMITTED, provenance(cached=(CACHED,)), "a cache that the policy does not know"),
    Row(
        18,
        Code.CACHE_NOT_ADMITTED,
        both(policy("[launch]", CACHES), provenance(cached=(CACHED, replace(CACHED, path=TOOLS.path, key=NAMESAKE)))),
        "another key of the same name",
    ),
    Row(
        18,
        Code.DEPENDENCY_MISMATCH,
        both(policy("[launch]", CACHES), provenance(cached=(CACHED, replace(CACHED, nar=Digest.of(b"other"))))),
        "a path twice",
    ),
    Row(19, Code.PARTS_MISMATCH, both(kept(), hand_in(parts=())), "a parts statement that is not there"),
    Row(19, Code.PARTS_MISMATCH, both(kept(), hand_in(parts=(b"{}",))), "something else instead"),
    Row(19, Code.PARTS_MISMATCH, kept(drop("subject", 0)), "a part that it does not list"),
    Row(19, Code.PARTS_MISMATCH, kept(put("0" * 64, "subject", 0, "digest", "sha256")), "a part in other bytes"),
    Row(19, Code.PARTS_MISMATCH, kept(root=LOCAL), "parts of another tree than mvm's"),
    Row(19, Code.SIGNER_UNKNOWN, kept(key=STRANGER), "parts that a stranger signed for"),
    Row(19, Code.STATEMENT_MALFORMED, kept(put("kernel", "subject", 0, "name")), "a part that is no store path"),
    Row(20, Code.IMPORT_FROM_DERIVATION, provenance(from_derivation=True), "import from derivation"),
    Row(
        20,
        Code.IMPORT_FROM_DERIVATION,
        both(
            policy("[launch]", "[evaluation]\nimport-from-derivation = false\n[launch]"),
            provenance(from_derivation=True),
        ),
        "import from derivation that the policy forbids by name",
    ),
    Row(21, Code.SBOM_MISMATCH, both(provenance(sbom=Digest.of(b"{}")), hand_in(sbom=b"{ }")), "another SBOM"),
    Row(21, Code.SBOM_MISMATCH, hand_in(sbom=b"{}"), "an SBOM that nobody named"),
    # 22: what the lock's nodes ask for
    Row(22, Code.LOCK_SUBSTITUTED, with_lock(b'//host/used"', b'//other/used"'), "another origin"),
    Row(22, Code.LOCK_SUBSTITUTED, with_lock(b'//host/nixpkgs"', b'//other/nixpkgs"'), "of an untouched node"),
    Row(
        22,
        Code.LOCK_SUBSTITUTED,
        both(
            with_lock(b'//host/used"', b'//other/used"'),
            policy("[launch]", 'pairs = [["https://other/u", "https://host/*"]]\n[launch]'),
        ),
        "another origin than the policy's pair has",
    ),
)


def dependencies(it: worlds.Json) -> list[Any]:
    found: list[Any] = it["predicate"]["buildDefinition"]["resolvedDependencies"]
    return found


def retyped(data: bytes, payload_type: str) -> bytes:
    payload = envelope.parse_bundle(data).payload
    signature = BUILDER.sign(envelope.pae(payload_type, payload))
    return envelope.Bundle(payload, payload_type, signature, Material(BUILDER.public.hint)).to_bytes()


def label(row: Row[World]) -> str:
    return f"{row.step}-{row.name}"


@pytest.mark.parametrize("row", ROWS, ids=label)
def test_refused_by_exactly_one_step(world: World, row: Row[World]) -> None:
    row.change(world)
    assert set(refusal_codes(check, world)) == {row.code}


#: Step 2 finds the key for step 3, steps 6 and 8 make what the others look at: nothing passes without them.
MAKERS = {2, 6, 8}


@pytest.mark.parametrize("row", [row for row in ROWS if row.step not in MAKERS], ids=label)
def test_without_its_step_the_same_thing_passes(world: World, row: Row[World], monkeypatch: pytest.MonkeyPatch) -> None:
    row.change(world)
    take_out(row.step, monkeypatch)
    assert isinstance(check(world), Verified)


def test_a_stranger_is_named_as_revocations_and_mvm_key_show_name_keys(world: World) -> None:
    world.sign_provenance(key=STRANGER)
    with pytest.raises(RefusedError) as caught:
        check(world)
    assert f"(sha256 {STRANGER.public.fingerprint.hex})" in str(caught.value)


def test_without_step_2_a_stranger_still_gets_nowhere(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.sign_provenance(key=STRANGER)
    take_out(2, monkeypatch)
    assert refusal_codes(check, world) == (Code.UNEXPECTED,)


def test_step_10_holds_the_manifest_against_the_files(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Artifact("kernel", Digest.of(b"another"), 7)
    artifacts = (kernel, *world.image.artifacts[1:])
    world.sign_provenance(put(kernel.digest.hex, "subject", 0, "digest", "sha256"))
    assert set(refusal_codes(check, world, artifacts=artifacts)) == {Code.ARTIFACT_MISMATCH}
    take_out(10, monkeypatch)
    assert isinstance(check(world, artifacts=artifacts), Verified)


def test_the_contract_the_steps_and_the_rows_have_the_same_numbers() -> None:
    described = re.findall(r"^(\d+)[.] ", f"{authenticator.__doc__}\n{verify.__doc__}", re.MULTILINE)
    steps = (
        *authenticator.STEPS,
        verify.step_6_statement,
        verify.step_7_predicate_type,
        verify.step_8_predicate,
        *verify.STEPS,
        verify.step_26_rebuilds,
    )
    named = [it.__name__.split("_")[1] for it in steps]
    assert described == named == [str(number) for number in range(1, 27)]
    for step in steps:
        assert (step.__doc__ or "").startswith(step.__name__.split("_")[1] + ". ")
    # 23 to 26 have their rows in test_time_and_rebuilds.py
    assert {row.step for row in ROWS} | {10} == set(range(1, 23))


def test_all_reasons_at_once(world: World) -> None:
    world.sign_provenance(
        put("0" * 64, "subject", 0, "digest", "sha256"),
        builder_id="urn:x",
        sources=(),
        finished=NOW + timedelta(days=1),
    )
    later_lock(world)
    found = refusal_codes(check, world)
    assert set(found) == {
        Code.SUBJECT_MISMATCH,
        Code.BUILDER_NOT_ADMITTED,
        Code.LOCK_MISMATCH,
        Code.DEPENDENCY_MISMATCH,
        Code.BUILD_TIME,
    }


def test_statements_mixed_from_two_builds(world: World, tmp_path: Path) -> None:
    other = worlds.new_world(tmp_path, seed=1)
    world.provenance_bundle = other.provenance_bundle
    assert set(refusal_codes(check, world)) == {Code.SUBJECT_MISMATCH}


def test_every_flipped_byte_is_refused(world: World) -> None:
    whole = world.provenance_bundle
    for position in range(0, len(whole), 7):
        for bit in (1, 32, 128):
            data = bytearray(whole)
            data[position] ^= bit
            world.provenance_bundle = bytes(data)
            with pytest.raises(RefusedError):
                check(world)


def test_what_nobody_expected_is_a_refusal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> Iterator[Any]:
        raise KeyError("surprise")

    monkeypatch.setattr(verify, "STEPS", (broken,))
    with pytest.raises(RefusedError, match="surprise") as caught:
        check(world)
    assert caught.value.codes == (Code.UNEXPECTED,)


def test_evidence_is_sealed(world: World) -> None:
    found = check(world)
    with pytest.raises(TypeError):
        Verified(found.claim, found.authentic, 3, found.policy, (), seal=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Authentic(b"", found.signer, found.bundle, seal=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="seal"):
        replace(found, level=3)  # type: ignore[call-arg]
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="process"):
            copied(found)
    authentic = authenticate(world.provenance_bundle, trust=world.policy.trust, role=Role.BUILDER, what="it")
    with pytest.raises(TypeError, match="process"):
        pickle.dumps(authentic)


def test_builder_image_by_the_hosts_nix_is_admitted(world: World) -> None:
    world.change_manifest(put("builder", "name"))
    world.sign_provenance(builder_id=HOST_NIX, builder_image=())
    assert check(world).claim.builder_id == HOST_NIX


def test_round_trip(world: World) -> None:
    claim = world.provenance()
    assert predicate.read_provenance(predicate.provenance_statement(claim, world.image.artifacts)) == claim
    assert base64.b64decode(world.image.manifest.digest.sri.removeprefix("sha256-"))
    assert COMMIT in claim.root.uri
