"""What tests of launching share: a user whose plans start fake machines."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.launch.house import House, house
from tests.unit.provenance.world import World, new_world


@pytest.fixture
def here(tmp_path: Path) -> Iterator[House]:
    """The user's rooms, in a directory of the test's."""
    with house(tmp_path / "house") as made:
        yield made


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An image and its evidence, in the test's directory."""
    return new_world(tmp_path)
