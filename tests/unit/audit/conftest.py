"""A log in a fresh directory, with a key of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.audit.world import World, new_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with new_world(tmp_path / "audit") as made:
        yield made


@pytest.fixture
def volatile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes its time for nothing: for tests that append often and cut no power."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _: None)
