"""Builder VMs whose hypervisor is none: one that hangs while it boots is begun once more, as any machine is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, override

import pytest

from mvmnix.api.builder_vm import BuilderVm, builder_plan
from mvmnix.api.context import Context
from mvmnix.api.image_builder import ImageBuilder
from mvmnix.audit.reading import last_records
from mvmnix.audit.record import RecordKind
from mvmnix.errors import GuestTimeoutError
from mvmnix.machines import registry, retention
from mvmnix.vmm.port import Acceleration, Invocation, LaunchSpec
from tests.support.frontends import Shown
from tests.unit.cli.station import Station
from tests.unit.launch.fake_hypervisor import FakeHypervisor, Scenario
from tests.unit.launch.house import hurry


@dataclass(frozen=True, slots=True)
class Moody(FakeHypervisor):
    """Its machines boot or not, as `mood` says of the next one; it has no KVM."""

    mood: Callable[[], Scenario] = lambda: Scenario.BOOTS

    @override
    def invocation(self, spec: LaunchSpec) -> Invocation:
        if spec.channel < 0:  # asked what it would be, before there are sockets
            return FakeHypervisor.invocation(self, spec)
        translated = spec.acceleration is Acceleration.TCG
        return FakeHypervisor(self.mood() if translated else Scenario.ABORTS).invocation(spec)


@dataclass
class Site:
    """A house, and builder VMs in it; `shown` is what their user reads."""

    rooms: Context
    moods: Iterator[Scenario] = field(default_factory=lambda: iter(()))
    shown: Shown = field(default_factory=Shown)

    def vm(self, *moods: Scenario) -> BuilderVm:
        self.moods = iter(moods)
        builder = ImageBuilder(self.rooms, self.shown).builder_image()
        plan = builder_plan(self.rooms, builder)
        return BuilderVm(self.rooms, self.shown, builder, plan)

    def mood(self) -> Scenario:
        return next(self.moods)

    def log(self) -> list[tuple[RecordKind, tuple[str, ...]]]:
        """Starts and ends, with the reasons."""
        told = [it.record for it in last_records(self.rooms.audit, self.rooms.log_key, last=9)]
        return [(it.kind, tuple(map(str, it.reasons))) for it in told if it.kind in BOOTS]


@pytest.fixture
def site(station: Station, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    station.settle()
    station.installation()
    station.hypervisor()
    with station.rooms() as rooms:
        made = Site(rooms)
        monkeypatch.setattr("mvmnix.launch.backends.Qemu.find", lambda: Moody(mood=made.mood))
        yield made


BOOTS = {RecordKind.START, RecordKind.RESTART, RecordKind.END}


def nobody(_: object) -> Any:
    raise AssertionError("asked nothing")


def test_one_that_hangs_is_begun_once_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    said = list[bytes]()
    with site.vm(Scenario.HANGS, Scenario.BOOTS).running(nobody) as machine:
        assert machine.exec(("true",), environment={}, stdout=said.append, stderr=said.append).exit_code == 0
    assert [it for it in site.shown.notices if it.endswith("hangs while it boots; it is started once more")]
    assert site.log() == [(RecordKind.START, ()), (RecordKind.RESTART, ("timeout",)), (RecordKind.END, ("stopped",))]


def test_the_second_is_the_last(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch, boots=2)
    with pytest.raises(GuestTimeoutError), site.vm(Scenario.HANGS, Scenario.HANGS).running(nobody):
        pass
    assert site.log() == [(RecordKind.START, ()), (RecordKind.RESTART, ("timeout",)), (RecordKind.END, ("timeout",))]


def test_what_takes_too_long_once_it_has_booted_is_not_begun_again(site: Site) -> None:
    with pytest.raises(GuestTimeoutError), site.vm(Scenario.BOOTS).running(nobody):
        raise GuestTimeoutError("the build")
    assert [kind for kind, _ in site.log()] == [RecordKind.START, RecordKind.END]


def test_the_last_ones_are_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "KEPT", {retention.MachineKind.RUN: 1, retention.MachineKind.BUILD: 2})
    made: list[str] = []
    for _ in range(4):
        with site.vm(Scenario.BOOTS).running(nobody) as machine:
            made.append(machine.id)
    kept = {entry.status.machine for entry in registry.list_entries(site.rooms.machines)}
    assert kept == set(made[2:])
