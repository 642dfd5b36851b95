"""The user whose plans start fake machines, of the tests of launching."""

from tests.unit.launch.conftest import here

__all__ = ["here"]
