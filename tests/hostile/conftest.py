"""What the attacks share: a rig of their own for each, and loose copies of a real image's files to be damaged."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import World
from tests.hostile.rig import FILES, Rig


@pytest.fixture
def rig(copied: World) -> Iterator[Rig]:
    """A real build in a copied home, which the test may change."""
    made = Rig(copied)
    with made.rooms.roots, made.rooms:
        yield made


@pytest.fixture(scope="session")
def loose(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of the image's large files; whoever damages one mends it (`rig.flipped_file`)."""
    directory = tmp_path_factory.mktemp("loose")
    for name in FILES:
        shutil.copyfile(world.hello / name, directory / name)
    return {name: directory / name for name in FILES}
