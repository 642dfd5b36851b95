"""A library for the tests of what is kept."""

from pathlib import Path

import pytest

from tests.unit.images.shelf import Shelf
from tests.unit.provenance.world import new_world


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """One with no build in it, and a world whose image may be."""
    (tmp_path / "world").mkdir()
    return Shelf(tmp_path / "state", new_world(tmp_path / "world"))
