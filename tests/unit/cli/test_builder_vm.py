"""Builder VMs whose hypervisor is none: one that hangs while it boots gives way to another, once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, override

import pytest

from mvmnix.audit.reading import records
from mvmnix.audit.record import Kind
from mvmnix.cli.builder_vm import BuilderVm, builder_plan
from mvmnix.cli.house import House
from mvmnix.cli.workshop import Workshop
from mvmnix.errors import GuestTimeoutError
from mvmnix.launch.hypervisor.port import Acceleration, Invocation, LaunchSpec
from mvmnix.launch.records import registry
from tests.unit.cli.station import Station
from tests.unit.cli.test_part_shop import Shown
from tests.unit.launch.fake_hypervisor import FakeHypervisor, Scenario


@dataclass(frozen=True, slots=True)
class Moody(FakeHypervisor):
    """Its machines boot or not, as `mood` says of the next one; it has no KVM."""

    mood: Callable[[], Scenario] = lambda: Scenario.BOOTS

    @override
    def invocation(self, spec: LaunchSpec) -> Invocation:
        translated = spec.acceleration is Acceleration.TCG
        return FakeHypervisor(self.mood() if translated else Scenario.ABORTS).invocation(spec)


@dataclass
class Site:
    """A house, and builder VMs in it; `shown` is what their user reads."""

    rooms: House
    moods: tuple[Scenario, ...] = ()
    shown: Shown = field(default_factory=Shown)

    def vm(self, *moods: Scenario) -> BuilderVm:
        self.moods = moods
        progress: Any = self.shown
        builder = Workshop(self.rooms, progress).builder()
        plan = builder_plan(self.rooms, builder)
        return BuilderVm(self.rooms, progress, builder, replace(plan, timeouts=replace(plan.timeouts, boot_seconds=1)))

    def mood(self) -> Scenario:
        return self.moods[len(registry.entries(self.rooms.machines))]

    def log(self) -> list[tuple[Kind, tuple[str, ...]]]:
        """Starts and ends, with the reasons for these."""
        told = [it.record for it in records(self.rooms.audit, self.rooms.log_key, last=9)]
        return [(it.kind, tuple(map(str, it.reasons))) for it in told if it.kind in {Kind.START, Kind.END}]


@pytest.fixture
def site(station: Station, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    station.settle()
    station.installation()
    station.hypervisor()
    with station.roots() as roots, House(roots) as rooms:
        made = Site(rooms)
        monkeypatch.setattr("mvmnix.launch.backends.choice.Qemu.find", lambda: Moody(mood=made.mood))
        yield made


def nobody(_: object) -> Any:
    raise AssertionError("asked nothing")


def test_one_that_hangs_gives_way_to_another(site: Site) -> None:
    with site.vm(Scenario.HANGS, Scenario.BOOTS).running(nobody) as machine:
        machine.ping()
    assert [it for it in site.shown.notices if "took too long" in it and it.endswith("; starting another one")]
    assert site.log() == [(Kind.START, ()), (Kind.END, ("timeout",)), (Kind.START, ()), (Kind.END, ())]


def test_the_second_is_the_last(site: Site) -> None:
    with pytest.raises(GuestTimeoutError), site.vm(Scenario.HANGS, Scenario.HANGS).running(nobody):
        pass
    assert site.log() == 2 * [(Kind.START, ()), (Kind.END, ("timeout",))]


def test_what_takes_too_long_once_it_has_booted_is_not_begun_again(site: Site) -> None:
    with pytest.raises(GuestTimeoutError), site.vm(Scenario.BOOTS).running(nobody):
        raise GuestTimeoutError("the build")
    assert [kind for kind, _ in site.log()] == [Kind.START, Kind.END]
