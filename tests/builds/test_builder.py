"""What goes into a builder VM and what comes out: by hash alone, the same bits each time, an image or nothing."""

import json
from pathlib import Path

import pytest

from mvmnix.builder.host_build import closure_on_host
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.nix.host_nix import HostNix
from mvmnix.builder.nix.host_store import add_to_nix
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.errors import ReasonCode as Code
from mvmnix.formats import lock, manifest
from mvmnix.model import Image, StorePath
from mvmnix.provenance.bundle import envelope, statement
from mvmnix.provenance.slsa import parts
from mvmnix.provenance.slsa.provenance import MICROVM, Provenance
from mvmnix.system.private_dirs import Directory
from mvmnix.system.roots import Roots
from mvmnix.system.store import Store
from tests.conftest import World
from tests.hostile.rig import flipped, replaced
from tests.support.claims import claim_in
from tests.workbench import Workbench, tiny_tree

pytestmark = pytest.mark.vm


def claim_of(bundle: Path) -> Provenance:
    return claim_in(bundle.read_bytes())


def image_of(directory: Path) -> Image:
    return manifest.parse((directory / "manifest.json").read_bytes())


# What the world's first run built


def on_the_host(world: World, *arguments: str) -> bytes:
    """What the host's own Nix says, offline; it evaluates this repository's example, which the product never does."""
    host = host_of(world)
    return host.run([*nix_commands.host_ask_store(host.nix)[:-2], *arguments])


def host_of(world: World) -> HostNix:
    return HostNix.find(Roots.from_environment(world.home.environment))


@pytest.fixture(scope="module")
def derivation(world: World) -> StorePath:
    """The derivation of hello, as the host's Nix evaluates it."""
    reference = f"path:{world.tree}?dir=examples/hello#packages.x86_64-linux.default"
    reference = reference.replace("path:", "git+file://", 1)
    return StorePath.parse(on_the_host(world, "eval", "--raw", f"{reference}.drvPath").decode())


def test_what_came_in_is_what_the_provenance_lists(world: World, derivation: StorePath) -> None:
    """In both directions: of its closure, what was kept, and the fixed outputs that are left to ask for."""
    claim = claim_of(world.hello / "provenance.sigstore.json")
    assert (claim.builder_id, claim.derivation) == (MICROVM, derivation)
    found = closure_on_host(host_of(world), derivation)
    kept = {part.path for part in claim.kept}
    assert kept
    assert kept <= {made for it in found.derivations.values() for made in it.paths}
    needed = found.needed(derivation, have=kept)
    assert set(claim.sources) == set(needed)
    assert len(claim.sources) == len(needed)


def test_what_is_in_the_image_came_in_or_into_its_parts(world: World) -> None:
    claim = claim_of(world.hello / "provenance.sigstore.json")
    bundles = (world.hello / "parts.sigstore.jsonl").read_bytes().splitlines()
    made = [parts.from_statement(statement.parse(envelope.parse_bundle(bundle).payload)) for bundle in bundles]
    assert {Digest.of(bundle) for bundle in bundles} == {part.bundle for part in claim.kept}
    assert {(part.path, part.nar) for part in claim.kept} <= {(it.path, it.nar) for each in made for it in each.parts}
    inherited = {source for each in made for source in each.provenance.sources}
    assert set(image_of(world.hello).sources) <= {*claim.sources, *inherited}
    assert not any(each.provenance.kept for each in made), "parts are made of sources alone"


def test_the_lock_is_accounted_for(world: World) -> None:
    claim, text = claim_of(world.hello / "provenance.sigstore.json"), (world.hello / "flake.lock").read_bytes()
    locked = lock.parse(text)
    assert text == (world.tree / "examples/hello/flake.lock").read_bytes()
    assert claim.lock == locked.digest
    assert claim.nodes.inputs == ()
    assert {node.node for node in claim.nodes.untouched} == {"nixpkgs"}, "no evaluation of hello touches it"
    assert claim.nodes.relative == ("mvmnix",)


def test_the_builder_vm_has_no_network_and_its_image_is_named(world: World) -> None:
    claim = claim_of(world.hello / "provenance.sigstore.json")
    assert [subject.name for subject in claim.builder_image] == ["kernel", "initrd", "rootfs", "manifest.json"]
    kept = {path.name for path in (world.home.state / "images").iterdir()}
    assert {subject.digest.hex for subject in claim.builder_image} <= kept


def test_the_host_builds_the_same_bits(world: World, derivation: StorePath) -> None:
    needed = closure_on_host(host_of(world), derivation).sources
    with Directory.open(f"{world.home.environment['XDG_CACHE_HOME']}/mvmnix/sources") as sources:
        add_to_nix(host_of(world), needed, Store(sources))
    built = json.loads(on_the_host(world, "build", "--no-link", "--json", f"{derivation}^out"))
    output = host_of(world).store.on_host(StorePath.parse(built[0]["outputs"]["out"]))
    for name in ("kernel", "initrd", "rootfs", "manifest.json"):
        assert (output / name).read_bytes() == (world.hello / name).read_bytes(), name


def test_built_again_in_a_new_vm_it_is_the_same_bits(copied: World) -> None:
    """By the way that a refusal names: the builder image that was kept is damaged, and is built again too."""
    before = claim_of(copied.hello / "provenance.sigstore.json")
    damaged = next(copied.home.state / "images" / it.digest.hex for it in before.builder_image if it.name == "rootfs")
    replaced(damaged, flipped(damaged.read_bytes(), 4096))
    finished = copied.home.mvm("run", "./examples/hello", cwd=copied.tree)
    assert finished.returncode == 0, "what is finished needs no builder"
    refused = copied.home.mvm("run", "./examples/hello#another", cwd=copied.tree)
    assert refused.returncode == 126
    assert b"mvm build --again" in refused.stderr
    again = copied.home.mvm("build", "--again", "--json", "./examples/hello", cwd=copied.tree)
    assert again.returncode == 0, again.stderr.decode()
    said = json.loads(again.stdout)["result"]
    assert said["artifacts"] == {it.name: str(it.digest) for it in image_of(copied.hello).artifacts}
    after = claim_of(copied.home.state / "bundles" / said["provenance"].removeprefix("sha256:"))
    assert (after.derivation, after.sources, after.root) == (before.derivation, before.sources, before.root)
    assert after.invocation != before.invocation
    assert after.builder_image == before.builder_image


# Flakes that are odd, in one VM

ODD = """
{
  outputs = _:
    let
      system = "x86_64-linux";
      lock = builtins.fromJSON (builtins.readFile ./lock.json);
      build = import ./build.nix { inherit system lock; };
      rest = ''
        for file in initrd rootfs; do echo $file > $out/$file; done
        cp ${builtins.toFile "manifest" (builtins.readFile ./hello.json)} $out/manifest.json
      '';
      image = name: script: build.run { inherit name; script = "mkdir $out\\n" + script + rest; };
      pin = changes: build.run {
        name = "pinned";
        script = "cp $source $out";
        source = derivation ({
          inherit system;
          name = "x";
          builder = "/bin/sh";
          outputHashMode = "flat";
          outputHashAlgo = "sha256";
          outputHash = "0000000000000000000000000000000000000000000000000000000000000000";
          urls = [ "mirror://debian/pool/x.deb" ];
        } // changes);
      };
    in
    {
      packages.${system} = {
        unlike-its-manifest = image "unlike" "echo kernel > $out/kernel\\n";
        link = image "link" "ln -s /etc/shadow $out/kernel\\n";
        directory = image "directory" "mkdir $out/kernel; echo x > $out/kernel/x\\n";
        same-file = image "same-file" "echo x > $out/kernel; ln $out/kernel $out/initrd; rest= \\n";
        large = image "large" "echo x > $out/kernel; dd if=/dev/zero of=$out/manifest.json bs=1M count=6; exit 0\\n";
        garbage = build.run {
          name = "garbage";
          script = "mkdir $out; for file in kernel initrd rootfs manifest.json; do echo { > $out/$file; done";
        };
        missing = build.run { name = "missing"; script = "mkdir $out; echo x > $out/kernel"; };
        file = build.run { name = "file"; script = "echo x > $out"; };
        failing = build.run { name = "failing"; script = "echo my last words; exit 3"; };
        elsewhere = pin { urls = [ "http://169.254.169.254/latest/meta-data" ]; };
        credentials = pin { urls = [ "https://user:secret@host/x" ]; };
        weak = pin { outputHashAlgo = "md5"; outputHash = "00000000000000000000000000000000"; };
        nowhere = pin { urls = [ ]; };
        words = throw "my own words";
        text = "not a derivation";
      };
    };
}
"""


@pytest.fixture(scope="module")
def odd(world: World, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tree whose packages are no images, each in a way of its own."""
    return f"path:{tiny_tree(world, tmp_path_factory.mktemp('odd') / 'tree', ODD)}"


@pytest.mark.parametrize(
    ("attribute", "codes"),
    [
        ("unlike-its-manifest", {Code.ARTIFACT_MISMATCH, Code.VERITY_MISMATCH}),
        ("garbage", {Code.MANIFEST_MALFORMED}),
        ("missing", {Code.OUTPUT_MALFORMED}),
        ("file", {Code.OUTPUT_MALFORMED}),
        ("weak", {Code.OUTPUT_MALFORMED}),
        ("nowhere", {Code.OUTPUT_MALFORMED}),
        ("elsewhere", {Code.FETCH_NOT_ALLOWED}),
        ("credentials", {Code.FETCH_NOT_ALLOWED}),
        ("link", {Code.OUTPUT_MALFORMED}),
        ("directory", {Code.OUTPUT_MALFORMED}),
        ("large", {Code.OUTPUT_MALFORMED}),
    ],
)
def test_what_is_no_image_is_not_taken(workbench: Workbench, odd: str, attribute: str, codes: set[str]) -> None:
    assert workbench.refusal(f"{odd}#{attribute}") == codes


@pytest.mark.parametrize(("attribute", "words"), [("failing", "my last words"), ("words", "my own words")])
def test_last_words_are_passed_on(workbench: Workbench, odd: str, attribute: str, words: str) -> None:
    error = workbench.failure(f"{odd}#{attribute}")
    assert type(error) is MvmnixError
    assert (error.exit_code, words in error.message) == (125, True)


def test_a_package_that_is_not_there(workbench: Workbench, odd: str) -> None:
    assert isinstance(workbench.failure(f"{odd}#nothing"), UsageError)


def test_a_package_that_is_no_derivation(workbench: Workbench, odd: str) -> None:
    assert workbench.failure(f"{odd}#text").exit_code in {2, 125}
