"""What all tests of the builder share: nothing that a test's world opened outlives the test."""

from collections.abc import Iterator

import pytest

from tests.descriptors import close_all


@pytest.fixture(autouse=True)
def opened_no_longer() -> Iterator[None]:
    """Close what was opened `until_the_end`."""
    yield
    close_all()
