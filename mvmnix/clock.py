"""Reads the wall clock; who may rely on it asks launch/gate/clock.py."""

from datetime import UTC, datetime


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)
