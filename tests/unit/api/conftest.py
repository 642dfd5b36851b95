"""A user who uses the application, without the command line: the same user as those of the command line's tests."""

from tests.unit.cli.conftest import settled, station

__all__ = ["settled", "station"]
