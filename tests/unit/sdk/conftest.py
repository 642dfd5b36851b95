"""A user whose programs use the SDK: the same user as those of the command line's tests, and both faces."""

import pytest

from tests.unit.cli.conftest import settled, station
from tests.unit.cli.station import Station
from tests.unit.launch.fake_hypervisor import FakeHypervisor
from tests.unit.sdk.faces import Face

__all__ = ["settled", "station"]


@pytest.fixture(params=["blocking", "asyncio"])
def face(request: pytest.FixtureRequest) -> Face:
    """Each face in turn."""
    return Face(request.param)


@pytest.fixture
def guest(settled: Station) -> str:
    """A flake whose image is built, and offers each verb that a user enters a machine by; its files are in `guest`."""
    settled.monkeypatch.setattr("mvmnix.launch.runtime.supervisor.GRACE", 0.1)
    root = settled.path / "guest"
    (root / "tmp").mkdir(parents=True)

    class Found:
        @staticmethod
        def find() -> FakeHypervisor:
            return FakeHypervisor(guest_root=root)

    settled.monkeypatch.setattr("mvmnix.launch.backends.Qemu", Found)
    return settled.flake(verbs=["exec", "shell", "copy"])
