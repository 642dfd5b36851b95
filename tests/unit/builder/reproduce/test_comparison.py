"""Two images agree when all four files do, and every file that does not is named."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mvmnix.builder.reproduce.comparison import Agreement, Difference, Disagreement, compare_images
from mvmnix.digest import Digest
from mvmnix.model import Artifact
from tests.unit.provenance.world import World, new_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return new_world(tmp_path)


def other(artifact: Artifact) -> Artifact:
    return replace(artifact, digest=Digest.of(artifact.name.encode()))


def test_the_same_bytes_agree(world: World) -> None:
    found = compare_images(world.image, replace(world.image))
    assert isinstance(found, Agreement)
    assert found.image == world.image


@pytest.mark.parametrize("name", ["kernel", "initrd", "rootfs", "manifest"])
def test_one_other_file_is_a_disagreement_about_that_file(world: World, name: str) -> None:
    first = world.image
    changes: dict[str, Any] = {name: other(getattr(first, name))}
    second = replace(first, **changes)
    assert compare_images(first, second) == Disagreement((Difference(getattr(first, name), getattr(second, name)),))


def test_all_that_differs_is_named_in_the_order_of_claims(world: World) -> None:
    first = world.image
    second = replace(first, rootfs=other(first.rootfs), kernel=other(first.kernel), manifest=other(first.manifest))
    found = compare_images(first, second)
    assert isinstance(found, Disagreement)
    assert [it.name for it in found.differences] == ["kernel", "rootfs", "manifest.json"]


def test_what_the_manifest_says_beside_digests_does_not_count(world: World) -> None:
    """It is in the manifest's own bytes, whose digest does."""
    assert isinstance(compare_images(world.image, replace(world.image, vcpus=9)), Agreement)


def test_nobody_else_finds_agreement(world: World) -> None:
    with pytest.raises(TypeError):
        Agreement(world.image, seal=object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="about something"):
        Disagreement(())
    for second in (world.image.kernel, other(world.image.initrd)):
        with pytest.raises(ValueError, match="between two files"):
            Difference(world.image.kernel, second)
