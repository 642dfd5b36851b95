"""`mvm build --rebuild` and `mvm builder reproduce`, from two builds to what is signed or refused; no VM here."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mvmnix.api.builder_vm import builder_plan, limits_of
from mvmnix.api.image_builder import ImageBuilder
from mvmnix.api.images import VARIATION, varied
from mvmnix.builder import bootstrap
from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.session.build import BuildRecord
from mvmnix.builder.session.closure import read_closure
from mvmnix.builder.session.evaluation import Evaluated
from mvmnix.builder.session.session import BuildInputs
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.images import make_provenance
from mvmnix.images.store import VerifiedImage
from mvmnix.plan.plan import Plan
from mvmnix.provenance.slsa import provenance
from mvmnix.provenance.slsa.provenance import BuilderLimits
from tests.derivations import exported, guest
from tests.fakes import DERIVATION, files_of
from tests.support.claims import claim_in
from tests.unit.cli.station import Station, new_builder, sources_of
from tests.unit.provenance.world import World, new_world


def build(station: Station, made: World, seen: "list[Plan] | None" = None) -> None:
    """Have every builder VM make this image."""

    def make(
        images: ImageBuilder, evaluated: Evaluated, builder: VerifiedImage, vary: Callable[[Plan], Plan]
    ) -> tuple[BuildRecord, provenance.Provenance]:
        plan = vary(builder_plan(images._context, builder))
        if seen is not None:
            seen.append(plan)
        for data in files_of(made).values():
            images._context.library.images.put(data, Digest.of(data))
        record = BuildRecord(
            request=evaluated.request,
            image=made.image,
            derivation=DERIVATION,
            given=BuildInputs(sources_of(made)),
            nix="2.26.3",
            started=now() - timedelta(seconds=2),
            finished=now() - timedelta(seconds=1),
            variation=plan.variation,
        )
        return record, make_provenance.by_builder(record, mvm="0.1.0", builder=builder, limits=limits_of(plan))

    def evaluate(
        _: ImageBuilder, request: BuildRequest, builder: VerifiedImage, vary: Callable[[Plan], Plan]
    ) -> Evaluated:
        del builder, vary
        root, derivations = guest()
        closure = read_closure(exported(derivations), [root])
        return Evaluated(request, root, closure, (), (), BuildInputs(()), now())

    station.monkeypatch.setattr(ImageBuilder, "evaluate", evaluate)
    station.monkeypatch.setattr(ImageBuilder, "build_unsigned", make)


def second_of(station: Station, said: object) -> provenance.Provenance:
    """The provenance that the answer names."""
    assert isinstance(said, dict)
    manifest, bundle = said["artifacts"]["manifest.json"], said["rebuild"]["provenance"]
    path = station.state / "rebuilds" / manifest.removeprefix("sha256:") / bundle.removeprefix("sha256:")
    return claim_in(path.read_bytes())


def test_a_build_that_agrees_is_signed_for_twice(settled: Station) -> None:
    flake = settled.flake()
    seen: list[Plan] = []
    build(settled, settled.world("hello"), seen)
    said = settled.mvm("build", "--rebuild", "--json", flake)
    assert said.code == 0, said.err
    result = said.answer("build")
    assert result["rebuild"]["variation"] == {
        "hostname": "rebuild",
        "clockOffsetSeconds": 34_560_000,
        "directoryOrder": "reversed",
        "vcpus": 3,
    }
    agreed = "two builds, same bits: all four files agree, and the second provenance is "
    assert f"{agreed}{result['rebuild']['provenance']}\n" in said.err
    second = second_of(settled, result)
    assert second.variation == VARIATION == seen[0].variation
    assert (second.limits, second.attribute, second.derivation) == (limits_of(seen[0]), "default", DERIVATION)
    assert result["provenance"] != result["rebuild"]["provenance"]
    again = settled.mvm("build", "--rebuild", "--json", flake).answer("build")
    assert again["rebuild"]["provenance"] != result["rebuild"]["provenance"], "each has its own invocation"
    assert len(list((settled.state / "rebuilds").glob("*/*"))) == 2
    assert "rebuild" not in settled.mvm("build", "--json", flake).answer("build")


def test_what_differs_is_named_and_nothing_is_signed(settled: Station) -> None:
    flake = settled.flake()
    (settled.path / "second").mkdir()
    made = new_world(settled.path / "second", seed=3)
    build(settled, made)
    said = settled.mvm("build", "--rebuild", flake)
    assert (said.code, said.out) == (126, "")
    for name, artifact in zip(("kernel", "initrd", "rootfs", "manifest.json"), made.image.artifacts, strict=True):
        assert f"mvm: {name}: refused [not-reproducible]" in said.err
        assert str(artifact.digest) in said.err
        assert (settled.state / "images" / artifact.digest.hex).exists(), "it is there to be looked at"
    assert not (settled.state / "rebuilds").exists()
    assert "not-reproducible" in settled.mvm("audit", "tail").out


def test_another_tree_is_not_compared(settled: Station, tmp_path: Path) -> None:
    flake = settled.flake()
    build(settled, settled.world("hello"))
    image = ImageBuilder.image

    def changed_meanwhile(images: ImageBuilder, reference: object) -> VerifiedImage:
        finished = image(images, reference)  # type: ignore[arg-type]
        (tmp_path / "flakes/hello/flake.nix").write_text("{ }")
        return finished

    settled.monkeypatch.setattr(ImageBuilder, "image", changed_meanwhile)
    said = settled.mvm("build", "--rebuild", flake)
    assert said.code == 125
    assert "has changed since it was built" in said.err


def test_the_builder_image_is_built_by_itself(settled: Station) -> None:
    build(settled, new_builder(settled))
    said = settled.mvm("builder", "reproduce", "--json")
    assert said.code == 0, said.err
    result = said.answer("builder reproduce")
    second = second_of(settled, result)
    assert (second.builder_id, second.attribute) == (provenance.MICROVM, bootstrap.ATTRIBUTE)
    assert {it.name: str(it.digest) for it in second.builder_image} == result["artifacts"]
    plain = settled.mvm("builder", "reproduce")
    assert plain.out == f"{result['artifacts']['manifest.json']}\n"


def test_a_builder_image_that_is_not_reproduced(settled: Station) -> None:
    build(settled, settled.world("other", seed=8))
    said = settled.mvm("builder", "reproduce")
    assert said.code == 126
    assert "mvm: kernel: refused [not-reproducible]" in said.err


@pytest.mark.parametrize(("before", "after"), [(None, 5), (1, 2), (2, 3), (63, 64), (64, 63)])
def test_processors_are_other_than_the_first_builds(tmp_path: Path, before: int | None, after: int) -> None:
    world = new_world(tmp_path)
    limits = None if before is None else BuilderLimits(before, 2048, 4096, 3600)
    plan = varied(world.plan(vcpus=4), world.provenance(limits=limits))
    assert plan == replace(world.plan(), vcpus=after, variation=VARIATION, nonce=plan.nonce)
