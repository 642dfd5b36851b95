"""What tests of the launcher share: conversations, and the user of the command line's tests."""

from collections.abc import Iterator

import pytest

from tests.unit.cli.conftest import settled, station
from tests.unit.launcher.talk import Talk, talk

__all__ = ["settled", "station"]


@pytest.fixture
def said() -> Iterator[Talk]:
    """A conversation."""
    with talk() as made:
        yield made
