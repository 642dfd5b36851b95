"""What tests of machines share."""

import pytest

from tests.conftest import World


@pytest.fixture(scope="session")
def minimal(world: World) -> str:
    """A flake whose guest grants each verb, for plans with a command of their own. The first plan builds it."""
    return f"{world.tree}#minimal"
