"""A small image with everything that is said about it."""

from pathlib import Path

import pytest

from tests.unit.provenance.world import World, new_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return new_world(tmp_path)
