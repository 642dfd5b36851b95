"""What all unit tests share: nothing that a test's world opened outlives the test."""

from collections.abc import Iterator

import pytest

from tests.descriptors import closed_at_the_end


@pytest.fixture(autouse=True)
def opened_no_longer() -> Iterator[None]:
    """Close what was opened `until_the_end`."""
    with closed_at_the_end():
        yield
