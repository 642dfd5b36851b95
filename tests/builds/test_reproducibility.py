"""Profiles and examples, built twice: in a builder VM, and in one with another name, clock and directory order.

Many images are built in each of the two, so that what they share is built once in each and not once for each image.
"""

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mvmnix.api.images import VARIATION, varied
from mvmnix.builder.reproduce import file_differences
from mvmnix.builder.reproduce.comparison import Agreement, Disagreement, compare_images
from mvmnix.formats import manifest
from mvmnix.model import Image
from mvmnix.provenance.slsa.provenance import Provenance
from tests.conftest import World, commit
from tests.sample import takes_everything
from tests.support.claims import claim_in
from tests.unit.provenance.world import new_world
from tests.workbench import Workbench, tiny_tree

pytestmark = pytest.mark.vm

DATED = """{
  description = "A file system with the date of its build in it";

  inputs.mvmnix.url = "path:../..";

  outputs =
    { mvmnix, ... }:
    let
      minimal = mvmnix.lib.profiles.minimal;
      build = import "${mvmnix}/modules/build.nix" {
        system = "x86_64-linux";
        lock = builtins.fromJSON (builtins.readFile "${mvmnix}/modules/debian/lock.json");
      };
      date = build.run { name = "date"; script = "date > $out"; };
    in
    {
      packages.x86_64-linux.default = mvmnix.lib.mkGuest (
        minimal // { name = "dated"; files = minimal.files // { "/etc/built".source = date; }; }
      );
    };
}
"""


@pytest.fixture(scope="module")
def more(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This tree with one more example, whose image has the date in it."""
    path = tmp_path_factory.mktemp("reproducibility") / "mvmnix"
    subprocess.run(["git", "clone", "-q", world.tree, path], check=True, capture_output=True)
    (path / "examples/dated").mkdir()
    (path / "examples/dated/flake.nix").write_text(DATED)
    (path / "examples/dated/flake.lock").write_bytes((path / "examples/hello/flake.lock").read_bytes())
    commit(path)
    return path


@dataclass
class Twice:
    """What two builder VMs made of the same references, and what they said of themselves."""

    said: dict[str, tuple[bytes, ...]]
    images: list[dict[str, Image]] = field(default_factory=list)


#: Name, clock, processors, and a directory's names as they come, of files made in the order of their names.
QUESTIONS = {
    "name": "uname -n",
    "clock": "date +%s",
    "processors": "nproc",
    "order": "mkdir /build/order && cd /build/order && for name in a b c d e; do echo > $name; done && find . -type f",
}


@pytest.fixture(scope="module")
def twice(world: World, more: Path, workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Twice:
    """In the VM that takes kept parts, and in one that takes none and differs in all that a rebuild varies."""
    claim = claim_in((world.hello / "provenance.sigstore.json").read_bytes())
    made = Twice(dict.fromkeys(QUESTIONS, ()))
    home = world.copy(tmp_path_factory.mktemp("twice") / "home")
    with Workbench(home, vary=lambda plan: varied(plan, claim), takes_parts=False) as other:
        for bench in (workbench, other):
            made.images.append({name: bench.build(f"{more}{where}").image for name, where in REFERENCES.items()})
            for question, script in QUESTIONS.items():
                made.said[question] += (bench.says("/bin/busybox", "sh", "-c", script),)
    for image in (home.home.state / "images").iterdir():  # what differs is looked for in one store
        if not (kept := workbench.world.home.state / "images" / image.name).exists():
            kept.hardlink_to(image)
    return made


#: What takes minutes to build is for `make soak`.
LARGE = {"profile python": "#python", "example python": "/examples/python#default"}
REFERENCES = {
    "profile minimal": "#minimal",
    "example hello": "/examples/hello#default",
    "the date": "/examples/dated#default",
} | (LARGE if takes_everything() else {})


@pytest.mark.in_turn("built twice")
@pytest.mark.parametrize("name", [name for name in REFERENCES if name != "the date"])
def test_profiles_and_examples_agree(twice: Twice, name: str) -> None:
    first, second = (images[name] for images in twice.images)
    assert isinstance(compare_images(first, second), Agreement)


@pytest.mark.in_turn("built twice")
def test_it_makes_no_difference_that_a_build_took_kept_parts(twice: Twice, world: World) -> None:
    """The user's own command did, and the second machine has none."""
    kept = manifest.parse((world.hello / "manifest.json").read_bytes())
    assert claim_in((world.hello / "provenance.sigstore.json").read_bytes()).kept
    assert isinstance(compare_images(kept, twice.images[1]["example hello"]), Agreement)


@pytest.mark.in_turn("built twice")
def test_an_image_with_the_date_in_it_disagrees(twice: Twice, workbench: Workbench) -> None:
    first, second = (images["the date"] for images in twice.images)
    found = compare_images(first, second)
    assert isinstance(found, Disagreement)
    assert [it.name for it in found.differences] == ["rootfs", "manifest.json"]
    said = file_differences.differences(found.differences[0], workbench.rooms.library.images, lambda _: None)
    assert said == "in it, /etc/built: other contents"


@pytest.mark.in_turn("built twice")
def test_name_clock_processors_and_order_were_others(twice: Twice) -> None:
    names, clocks, processors, orders = (twice.said[question] for question in QUESTIONS)
    assert names[0].startswith(b"mvm-")
    assert names[1] == VARIATION.hostname.encode() + b"\n"
    assert int(clocks[1]) - int(clocks[0]) >= VARIATION.clock_offset
    assert (int(processors[0]), int(processors[1])) == (2, 3)
    natural = [f"./{name}" for name in "edcba"]
    assert [said.decode().split() for said in orders] == [natural, natural[::-1]]


def rebuilt(world: World, *arguments: str | Path) -> dict[str, Any]:
    """What a command says in JSON of a rebuild that agreed."""
    done = world.home.mvm(*arguments, "--json", cwd=world.tree)
    assert done.returncode == 0, done.stderr.decode()
    result: dict[str, Any] = json.loads(done.stdout)["result"]
    return result


def second_claim(world: World, said: dict[str, Any]) -> Provenance:
    image, bundle = (
        text.removeprefix("sha256:") for text in (said["artifacts"]["manifest.json"], said["rebuild"]["provenance"])
    )
    return claim_in((world.home.state / "rebuilds" / image / bundle).read_bytes())


@pytest.mark.in_turn
def test_the_builder_image_builds_itself(copied: World) -> None:
    """The host's Nix made the first one, and the builder VM makes the same bits."""
    said = rebuilt(copied, "builder", "reproduce")
    second = second_claim(copied, said)
    assert [subject.digest for subject in second.builder_image] == [
        subject.digest for subject in claim_in((copied.hello / "provenance.sigstore.json").read_bytes()).builder_image
    ]
    assert said["artifacts"]["rootfs"] == str(second.builder_image[2].digest)


PLAIN = """
{
  outputs = _:
    let
      system = "x86_64-linux";
      lock = builtins.fromJSON (builtins.readFile ./lock.json);
      build = import ./build.nix { inherit system lock; };
      image = words: build.run {
        name = "plain";
        files = ./image;
        script = ''
          mkdir $out
          cp $files/* $out
          chmod u+w $out/*
          ${words} > $out/kernel
          sed -i "s/@digest@/$(sha256sum $out/kernel | cut -d ' ' -f 1)/; s/\\"@size@\\"/11/" $out/manifest.json
        '';
      };
    in
    {
      packages.${system} = { dated = image "date +%s"; undated = image "echo 1234567890"; };
    };
}
"""


@pytest.fixture
def plain(copied: World, tmp_path: Path) -> str:
    """A flake whose images need nothing built but a file that stands for a kernel: eleven bytes."""
    path = tiny_tree(copied, tmp_path / "tree", PLAIN)
    image = new_world(tmp_path)
    image.change_manifest(lambda it: it.update(sources=[]))
    image.change_manifest(lambda it: it["artifacts"]["kernel"].update(sha256="@digest@", size="@size@"))
    (path / "image").mkdir()
    for name, data in (("initrd", image.initrd), ("rootfs", image.rootfs), ("manifest.json", image.manifest)):
        (path / "image" / name).write_bytes(data)
    return f"path:{path}"


def test_a_build_that_agrees_is_signed_for_twice(copied: World, plain: str) -> None:
    said = rebuilt(copied, "build", "--rebuild", f"{plain}#undated")
    first = claim_in((copied.home.state / "bundles" / said["provenance"].removeprefix("sha256:")).read_bytes())
    second = second_claim(copied, said)
    assert (second.derivation, second.sources, second.root) == (first.derivation, first.sources, first.root)
    assert second.invocation != first.invocation
    assert (first.variation, second.variation) == (None, VARIATION)
    assert first.limits is not None
    assert second.limits is not None
    assert second.limits.vcpus == first.limits.vcpus + 1


def test_a_build_that_embeds_the_date_is_refused(copied: World, plain: str) -> None:
    refused = copied.home.mvm("build", "--rebuild", f"{plain}#dated")
    said = refused.stderr.decode()
    assert refused.returncode == 126, said
    for name in ("kernel", "manifest.json"):
        assert f"mvm: {name}: refused [not-reproducible]" in said
    assert "rootfs: refused" not in said
    assert "1 of 1 blocks of 4096 bytes differ" in said
    assert not list((copied.home.state / "rebuilds").glob("*/*"))
