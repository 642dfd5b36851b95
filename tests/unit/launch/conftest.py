"""What tests of launching share: a user whose plans start fake machines."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.launch.house import House, house


@pytest.fixture
def here(tmp_path: Path) -> Iterator[House]:
    """The user's rooms, in a directory of the test's."""
    with house(tmp_path / "house") as made:
        yield made
