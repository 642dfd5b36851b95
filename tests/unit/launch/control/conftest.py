"""Machines that take commands until a test is over."""

from collections.abc import Iterator

import pytest

from tests.unit.launch.house import House, end_machines


@pytest.fixture
def here(here: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """The user's rooms, whose machines have a short grace and are ended with the test."""
    monkeypatch.setattr("mvmnix.launch.runtime.supervisor.GRACE", 0.1)
    yield here
    end_machines(here.directory("machines"))
