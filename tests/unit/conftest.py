"""What all unit tests share: nothing that a test's world opened outlives the test."""

import os
from collections.abc import Iterator

import pytest

from mvmnix.vmm.jail import delegated_scope
from tests.descriptors import closed_at_the_end


@pytest.fixture(autouse=True)
def without_a_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks the systemd of its developer for a scope."""
    monkeypatch.setattr(delegated_scope, "_RUNTIME", "/proc/nonexistent")


@pytest.fixture(autouse=True)
def opened_no_longer() -> Iterator[None]:
    """Close what was opened `until_the_end`."""
    with closed_at_the_end():
        yield


@pytest.fixture
def volatile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes its time for nothing: for tests that append often and cut no power."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _: None)
