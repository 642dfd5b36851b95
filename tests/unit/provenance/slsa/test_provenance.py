"""A provenance is written as SLSA says and read back whole; what may not stand there is in test_verify.py, step 8."""

from dataclasses import replace
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import RefusedError
from mvmnix.formats import lock
from mvmnix.model import HashMode, StorePath
from mvmnix.provenance.bundle import envelope, statement
from mvmnix.provenance.bundle.statement import Subject
from mvmnix.provenance.slsa import predicate
from mvmnix.provenance.slsa.provenance import HOST_NIX, LockAccount, LockedInput, RootTree, UntouchedNode, lock_account
from tests.unit.provenance import world as worlds
from tests.unit.provenance.world import LOCK, TOUCHED, World, drop, put

DEPENDENCIES = ("buildDefinition", "resolvedDependencies")
DERIVATION = StorePath.recursive("image.drv", Digest.of(b"drv"))


def test_every_lock_node_is_accounted_for() -> None:
    locked = lock.parse(LOCK)
    nixpkgs, used = locked.locked
    assert lock_account(locked, {TOUCHED}) == LockAccount(
        (LockedInput("used", used.source),), (UntouchedNode("nixpkgs", nixpkgs.nar),), ("mvm",)
    )
    assert lock_account(lock.parse(None), set()) == LockAccount((), (), ())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lock": None, "nodes": LockAccount((), (), ())},
        {"builder_id": HOST_NIX, "builder_image": ()},
        {"limits": None, "derivation": DERIVATION},
        {"directory": "", "attribute": "packages.x86_64-linux.hello"},
        {"root": RootTree("path:hello", Digest.of(b"tree"), None)},
        {"sources": ()},
    ],
)
def test_round_trip(world: World, changes: dict[str, Any]) -> None:
    claim = world.provenance(**changes)
    written = predicate.provenance_statement(claim, world.image.artifacts).to_bytes()
    assert predicate.read_provenance(statement.parse(written)) == claim


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"uri": ""}, "URI of a NAR"),
        ({"uri": "a b"}, "URI of a NAR"),
        ({"uri": "a" * 4097}, "URI of a NAR"),
        ({"key": "two words"}, "a cache's key"),
        ({"key": ""}, "a cache's key"),
    ],
)
def test_what_came_from_no_cache(changes: dict[str, Any], words: str) -> None:
    assert replace(worlds.CACHED, uri="a" * 4096).key == worlds.CACHE_KEY
    with pytest.raises(ValueError, match=words):
        replace(worlds.CACHED, **changes)


def test_what_slsa_readers_find(world: World) -> None:
    claim = predicate.provenance_statement(world.provenance(), world.image.artifacts)
    assert claim.predicate_type == "https://slsa.dev/provenance/v1"
    definition: Any = claim.predicate["buildDefinition"]
    root, used, *files = definition["resolvedDependencies"]
    nar = Digest.of(b"root tree")
    assert root == {
        "name": "root",
        "uri": f"git+https://host/repository?rev={worlds.COMMIT}",
        "digest": {"sha256": nar.hex, "gitCommit": worlds.COMMIT},
        "mediaType": "application/x-nix-nar",
        "annotations": {"narHash": nar.sri, "committed": True},
    }
    assert used["annotations"] == {"narHash": TOUCHED.sri, "lockNode": "used"}
    assert files[0] == {
        "name": "bash.deb",
        "uri": worlds.DEB.uri,
        "digest": {"sha256": worlds.DEB.digest.hex},
    }
    assert files[2]["mediaType"] == "application/x-nix-nar"
    assert worlds.SEED.mode is HashMode.NAR
    assert definition["externalParameters"]["lock"] == {"digest": {"sha256": Digest.of(LOCK).hex}}
    assert [name["name"] for name in definition["internalParameters"]["lockNodes"]["untouched"]] == ["nixpkgs"]
    without = predicate.provenance_statement(world.provenance(lock=None, nodes=LockAccount((), (), ())), ()).predicate
    bare: Any = without["buildDefinition"]
    assert bare["externalParameters"]["lock"] == {"inputs": "none"}


@pytest.mark.parametrize(
    ("uri", "commit"),
    [
        ("git+https://h/r", "1" * 40),
        ("git+https://h/r?rev=" + "2" * 40, "1" * 40),
        ("git+https://h/r?x=rev=" + "1" * 40, "1" * 40),
        ("https://h/r?rev=" + "1" * 40, "1" * 40),
        ("git+https://h/r?rev=main", "main"),
        ("git+https://h/r", None),
        ("path:a b", None),
    ],
)
def test_a_root_tree_says_what_it_is(uri: str, commit: str | None) -> None:
    with pytest.raises(ValueError, match=r"tree|commit|URI"):
        RootTree(uri, Digest.of(b""), commit)


@pytest.mark.parametrize("directory", ["/etc", "..", "a/../b", "./a"])
def test_a_directory_stays_in_its_tree(world: World, directory: str) -> None:
    with pytest.raises(ValueError, match="leaves its tree"):
        world.provenance(directory=directory)


def test_how_many_files_the_builder_s_image_has(world: World) -> None:
    files = tuple(Subject(f"file-{number}", Digest.of(b"it")) for number in range(17))
    most = predicate.provenance_statement(world.provenance(builder_image=files[:16]), ())
    assert predicate.read_provenance(most).builder_image == files[:16]
    with pytest.raises(RefusedError, match="builderDependencies: not an array of at most 16"):
        predicate.read_provenance(predicate.provenance_statement(world.provenance(builder_image=files), ()))


def test_the_builders_image_is_named_exactly_when_there_is_one(world: World) -> None:
    with pytest.raises(ValueError, match="builder VM"):
        world.provenance(builder_id=HOST_NIX)
    with pytest.raises(ValueError, match="builder VM"):
        replace(world.provenance(), builder_image=())


@pytest.mark.parametrize(
    "change",
    [
        put("tree", "predicate", *DEPENDENCIES, 0, "name"),
        put(False, "predicate", *DEPENDENCIES, 0, "annotations", "committed"),
        drop("predicate", *DEPENDENCIES, 0, "digest", "gitCommit"),
    ],
    ids=["another name", "said not to be committed", "without its commit"],
)
def test_what_is_no_root_tree(world: World, change: worlds.Change) -> None:
    world.sign_provenance(change)
    claim = statement.parse(envelope.parse_bundle(world.provenance_bundle).payload)
    with pytest.raises(RefusedError, match="it is neither a root tree nor another source"):
        predicate.read_provenance(claim)
