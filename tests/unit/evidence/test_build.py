"""Each broken link of an image's evidence shows on the node where it broke; the rest is shown, and not ticked."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, Reason, refuse
from mvmnix.errors import ReasonCode as Code
from mvmnix.evidence.build import add_build
from mvmnix.evidence.graph import Draft, Edge, EdgeKind, NodeKind, NodeStatus
from mvmnix.evidence.stored_build import StoredBuild, StoredDocument
from mvmnix.model import Artifact
from mvmnix.provenance.slsa.provenance import RootTree, UntouchedNode
from tests.policies import effective
from tests.unit.evidence.exhibits import POLICY, SBOM, Exhibit, document, exhibit, node
from tests.unit.provenance.world import CACHED, NOW, STRANGER, drop, put, trust


@pytest.fixture
def shown(tmp_path: Path) -> Exhibit:
    return exhibit(tmp_path)


def test_all_of_it_is_there_and_verified(shown: Exhibit) -> None:
    graph = shown.graph()
    assert {str(each.verdict) for each in graph.all()} == {"verified"}
    run = {NodeKind.PLAN, NodeKind.MACHINE, NodeKind.RECEIPT, NodeKind.RECORD, NodeKind.LOG}
    assert {each.kind for each in graph.all()} == set(NodeKind) - run
    assert (graph.exit_code, graph[graph.subject].name) == (0, "hello")
    assert all(each.verdict.why for each in graph.all()), "a tick says what was checked"


def test_digests_and_signers_are_those_of_the_evidence(shown: Exhibit) -> None:
    graph, world = shown.graph(), shown.world
    assert graph["image"].digest == str(Digest.of(world.manifest))
    assert graph["provenance"].digest == str(Digest.of(world.provenance_bundle))
    assert graph["lock"].digest == str(Digest.of(world.lock or b""))
    assert graph["verity"].digest == str(world.image.verity.root)
    assert graph["policy"].digest == str(world.policy.digest)
    assert graph["builder"].digest == str(Digest.of(shown.builder.manifest))
    assert node(graph, "builder/provenance").digest == str(Digest.of(shown.builder.provenance_bundle))
    assert graph["cached"].members[0].signer == CACHED.key
    assert {each.signer for each in graph.nodes} == {"builder", ""}


def test_edges_say_how_it_came_to_be(shown: Exhibit) -> None:
    said = set(shown.graph().edges)
    assert said >= {
        Edge("tree", EdgeKind.LOCKED_BY, "lock"),
        Edge("lock", EdgeKind.NAMES, "untouched"),
        Edge("derivation", EdgeKind.BUILT_FROM, "tree"),
        Edge("derivation", EdgeKind.BUILT_FROM, "inputs"),
        Edge("derivation", EdgeKind.BUILT_FROM, "sources"),
        Edge("derivation", EdgeKind.BUILT_BY, "builder"),
        Edge("image", EdgeKind.BUILT_BY, "derivation"),
        Edge("image", EdgeKind.ATTESTED_BY, "provenance"),
        Edge("provenance", EdgeKind.VERIFIED_UNDER, "policy"),
        Edge("file/rootfs", EdgeKind.GUARDED_BY, "verity"),
    }
    assert Edge("derivation", EdgeKind.BUILT_FROM, "untouched") not in said


@dataclass(frozen=True)
class Row:
    """What is broken, at which node that shows, and how; `claim` is whether the claim can still be read."""

    name: str
    break_: Callable[[Exhibit], StoredBuild | None]
    where: str
    verdict: str
    claim: bool = True


def lost(digest: Digest) -> StoredDocument:
    return StoredDocument(digest, MvmnixError("it is missing"))


def flipped(digest: Digest) -> StoredDocument:
    """What the store says of other bytes."""
    return StoredDocument(digest, refuse(Code.SOURCE_MISMATCH, "a file", "it has other bytes", "look at it"))


def changed(**documents: Callable[[StoredBuild], Any]) -> Callable[[Exhibit], StoredBuild]:
    return lambda it: replace(it.stored(), **{name: change(it.stored()) for name, change in documents.items()})


def file(name: str, found: Artifact | MvmnixError) -> Callable[[StoredBuild], Any]:
    return lambda it: {**it.files, name: found}


OTHER = Digest.of(b"other bytes")
UNREADABLE = MvmnixError("it is missing")
LOCAL = RootTree("path:hello", Digest.of(b"tree"), None)
VERITY = Reason(Code.VERITY_MISMATCH, "rootfs", "its superblock is another", "build it again")


def under(policy: bytes) -> Callable[[Exhibit], None]:
    def change(it: Exhibit) -> None:
        it.world.policy = effective(None, policy)

    return change


def other_parts(it: Exhibit) -> None:
    it.world.keep_parts(key=STRANGER)
    it.sign()


def other_builder(it: Exhibit) -> StoredBuild:
    it.builder.change_manifest(lambda value: value.update({"memoryMiB": 256}))
    it.builder.sign_provenance(key=STRANGER)
    return it.stored()


ROWS = (
    Row(
        "a flipped byte in the bundle",
        changed(bundle=lambda it: flipped(it.bundle.digest)),
        "provenance",
        "refused [source-mismatch]",
        claim=False,
    ),
    Row(
        "a lost bundle",
        changed(bundle=lambda it: lost(it.bundle.digest)),
        "provenance",
        "not verified: it is missing",
        claim=False,
    ),
    Row("an unknown signer", lambda it: it.sign(key=STRANGER), "provenance", "refused [signer-unknown]", claim=False),
    Row(
        "no statement",
        lambda it: it.sign(put("x", "_type")),
        "provenance",
        "refused [statement-malformed]",
        claim=False,
    ),
    Row(
        "a parameter too few",
        lambda it: it.sign(drop("predicate", "buildDefinition", "externalParameters", "flake")),
        "provenance",
        "refused [external-parameters]",
        claim=False,
    ),
    Row(
        "other subjects",
        lambda it: it.sign(put(OTHER.hex, "subject", 0, "digest", "sha256")),
        "provenance",
        "refused [subject-mismatch]",
    ),
    Row(
        "a build from the future",
        lambda it: it.sign(finished=NOW + timedelta(hours=1)),
        "provenance",
        "refused [build-time]",
    ),
    Row(
        "another tree for a lock node",
        lambda it: it.sign(nodes=replace(it.world.provenance().nodes, untouched=(UntouchedNode("nixpkgs", OTHER),))),
        "provenance",
        "refused [dependency-mismatch]",
    ),
    Row("a lost lock", changed(lock=lambda it: lost(OTHER)), "lock", "not verified: it is missing"),
    Row("a flipped byte in the lock", changed(lock=lambda it: flipped(OTHER)), "lock", "refused [source-mismatch]"),
    Row(
        "another lock",
        changed(lock=lambda it: document(b'{"nodes": {"root": {}}, "root": "root", "version": 7}')),
        "lock",
        "refused [lock-mismatch]",
    ),
    Row("no lock", changed(lock=lambda it: None), "lock", "refused [lock-mismatch]"),
    Row(
        "another kernel",
        changed(files=file("kernel", Artifact("kernel", OTHER, 11))),
        "file/kernel",
        "refused [artifact-mismatch]",
    ),
    Row("a lost rootfs", changed(files=file("rootfs", UNREADABLE)), "file/rootfs", "not verified: it is missing"),
    Row("a changed superblock", changed(verity=lambda it: (VERITY,)), "verity", "refused [verity-mismatch]"),
    Row(
        "a rootfs that can't be looked at",
        changed(verity=lambda it: UNREADABLE),
        "verity",
        "not verified: it is missing",
    ),
    Row(
        "a lost manifest", changed(manifest=lambda it: lost(it.manifest.digest)), "image", "not verified: it is missing"
    ),
    Row("no manifest", changed(manifest=lambda it: document(b"{}")), "image", "refused [manifest-malformed]"),
    Row("another SBOM", changed(sbom=lambda it: document(SBOM + b"\n")), "sbom", "refused [sbom-mismatch]"),
    Row("a lost SBOM", changed(sbom=lambda it: lost(OTHER)), "sbom", "not verified: it is missing"),
    Row(
        "a lost parts statement",
        changed(parts=lambda it: (lost(it.parts[0].digest),)),
        "parts",
        "not verified: it is missing",
    ),
    Row("no parts statement", changed(parts=lambda it: ()), "kept", "refused [parts-mismatch]"),
    Row("a stranger's parts statement", other_parts, "parts", "refused [signer-unknown]"),
    Row("a cache that is not trusted", under(trust()), "cached", "refused [cache-not-admitted]"),
    Row(
        "a local copy",
        under(POLICY.replace(b"allow-local = true", b"allow-local = false")),
        "tree",
        "refused [source-not-admitted]",
    ),
    Row("a builder's image that is another", other_builder, "builder/evidence", "refused [subject-mismatch]"),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_broken_link_shows_where_it_broke(shown: Exhibit, row: Row) -> None:
    whole = {each.key for each in shown.graph().nodes}
    if row.name == "a local copy":
        shown.sign(root=LOCAL)
    stored = row.break_(shown)
    graph = shown.graph(stored)
    (broken,) = [each for each in graph.all() if each.key == row.where or each.key.startswith(f"{row.where}/")][:1]
    assert str(broken.verdict) == row.verdict
    assert graph.exit_code == (1 if broken.verdict.standing is NodeStatus.REFUSED else 2)
    if row.claim and row.name != "no parts statement":
        lost = {key for key in whole - {each.key for each in graph.nodes} if not key.startswith(("parts/", "rebuild/"))}
        assert lost <= {"file/kernel", "file/initrd", "file/rootfs", "verity"}, "the rest is still shown"


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.where.startswith(("file/", "verity"))], ids=lambda row: row.name
)
def test_an_image_stands_no_better_than_its_files(shown: Exhibit, row: Row) -> None:
    graph = shown.graph(row.break_(shown))
    image, part = graph["image"].verdict, graph[row.where].verdict
    assert (image.standing, image.reasons) == (part.standing, part.reasons)
    assert part.reasons or part.why in image.why


#: What is broken in these says nothing of the claim, or of the claim's own evidence.
BESIDE = {"file/kernel", "file/rootfs", "verity", "builder/evidence"}


@pytest.mark.parametrize("row", [row for row in ROWS if row.where not in BESIDE], ids=lambda row: row.name)
def test_nothing_of_a_claim_that_does_not_verify_is_ticked(shown: Exhibit, row: Row) -> None:
    if row.name == "a local copy":
        shown.sign(root=LOCAL)
    graph = shown.graph(row.break_(shown))
    apart = {"policy", *(each.key for each in graph.nodes if each.kind is NodeKind.PARTS_STATEMENT)}
    ticked = {each.key for each in graph.nodes if each.verdict.standing is NodeStatus.VERIFIED}
    assert ticked <= apart
    assert not {each.signer for each in graph.nodes if each.key not in {*apart, "provenance"}} - {""}


def test_a_broken_builder_leaves_the_image_s_own_evidence(shown: Exhibit) -> None:
    stored = shown.stored()
    assert stored.builder is not None
    stored = replace(stored, builder=replace(stored.builder, files={"kernel": UNREADABLE}))
    graph = shown.graph(stored)
    assert graph.exit_code == 2
    assert graph["image"].verdict.standing is NodeStatus.VERIFIED
    assert node(graph, "builder/evidence").verdict.standing is NodeStatus.UNVERIFIED
    assert node(graph, "builder/file/initrd").verdict.why == "it was not looked at"


def test_a_builder_that_is_not_kept(shown: Exhibit) -> None:
    graph = shown.graph(replace(shown.stored(), builder=None))
    assert (graph.exit_code, graph["builder"].members) == (0, ())
    assert ("its own evidence", "its image isn't kept here") in graph["builder"].facts


def test_a_rebuild_that_does_not_agree(shown: Exhibit) -> None:
    shown.rebuilds += (b"no bundle",)
    graph = shown.graph()
    verdicts = {str(each.verdict) for each in graph.nodes if each.kind is NodeKind.REBUILD}
    assert verdicts == {"verified", "refused [bundle-malformed]"}
    assert graph.exit_code == 1


def test_two_builds_of_one_image(shown: Exhibit) -> None:
    draft = Draft()
    add_build(draft, shown.stored(), shown.judge())
    shown.sign(invocation="later")
    add_build(draft, shown.stored(), shown.judge(), at="2/")
    graph = draft.done("image")
    assert {each.object for each in graph.edges if each.meaning is EdgeKind.ATTESTED_BY} == {
        "provenance",
        "2/provenance",
    }


def test_a_claim_that_lists_the_same_twice_is_refused_and_shown(shown: Exhibit) -> None:
    shown.sign(cached=(CACHED, CACHED))
    graph = shown.graph()
    assert [member.name for member in graph["cached"].members] == ["lib-1.0", "lib-1.0"]
    assert str(graph["provenance"].verdict) == "refused [dependency-mismatch]"
