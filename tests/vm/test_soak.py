"""Many real machines in a row, and many at once: nothing grows, nothing is left; `make soak` takes more of both."""

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.memory import readable_launcher
from bench.place import Place
from mvmnix.launch.control.launcher_socket import KEPT_VARIABLES
from tests import soak
from tests.conftest import World
from tests.sample import takes_everything
from tests.soak import Held, LauncherHeld
from tests.vm.machines import done

pytestmark = pytest.mark.vm

STARTS = int(os.environ.get("MVMNIX_SOAK_STARTS", "8"))
AT_ONCE = int(os.environ.get("MVMNIX_SOAK_AT_ONCE", "3"))
#: Those that start from a template: half as many in a row and two fifths at once.
WARM_STARTS = STARTS // 2 if takes_everything() else 6
WARM_AT_ONCE = AT_ONCE * 2 // 5 if takes_everything() else 4
#: Those that go on from a snapshot: a fifth as many in a row, and two fifths at once.
RESTORES = STARTS // 5 if takes_everything() else 3
RESTORED_AT_ONCE = AT_ONCE * 2 // 5 if takes_everything() else 3
#: KiB that a process may grow by, however many machines it has started: an allocator's play, and no leak.
PLAY = 16384


def show(found: Sequence[Held | LauncherHeld]) -> None:
    """A table for whoever runs this with `-s`."""
    names = list(found[0].__dataclass_fields__)
    print("\n" + "  ".join(names))  # noqa: T201
    for held in found:
        print("  ".join(str(getattr(held, name)).rjust(len(name)) for name in names))  # noqa: T201


def test_starts_in_a_row_leave_nothing(copied: World, tmp_path: Path) -> None:
    bundle = soak.signed_plan(copied.home, copied.tree, tmp_path, "/bin/busybox", "true")
    found = soak.in_a_row(copied, bundle, STARTS)
    show(found)
    assert len(found) > 5
    assert [held.but_memory for held in found] == [found[0].but_memory] * len(found)
    assert max(held.resident for held in found) < found[0].resident + PLAY
    assert copied.home.mvm("audit", "verify").returncode == 0


def test_many_at_once(copied: World, tmp_path: Path) -> None:
    """On however few processors: what ends a boot is want of progress, not seconds."""
    bundle = soak.signed_plan(copied.home, copied.tree, tmp_path, "/bin/busybox", "sleep", "3600")
    before = Held.by(copied.home)
    machines = soak.at_once(copied.home, bundle, AT_ONCE)
    assert len(set(machines)) == AT_ONCE
    listed = json.loads(copied.home.mvm("ps", "--json").stdout)["result"]
    running = {each["id"]: each["state"] for each in listed}
    assert running == dict.fromkeys(machines, "running"), copied.home.mvm("ps", "--all").stdout
    soak.stopped_at_once(copied.home, machines)
    assert json.loads(copied.home.mvm("ps", "--json").stdout)["result"] == []
    everything = json.loads(copied.home.mvm("ps", "--all", "--json").stdout)["result"]
    ended = {each["id"]: each["ended"] for each in everything if each["id"] in machines}
    assert ended == dict.fromkeys(machines, "stopped")
    assert copied.home.mvm("rm", *machines).returncode == 0
    after = Held.by(copied.home)
    show([before, after])
    spent = 1  # the nonce of a plan is kept as long as it could start
    assert after.but_memory == before.but_memory | {"files": before.files + spent}
    assert copied.home.mvm("audit", "verify").returncode == 0


@pytest.fixture
def environment(copied: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Sandbox` in this process is the world's user's, and has the launcher that its commands have."""
    for name in [name for name in os.environ if KEPT_VARIABLES.fullmatch(name)]:
        monkeypatch.delenv(name)
    for name, value in copied.home.environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("environment")
def test_warm_starts_in_a_row_leave_nothing(minimal: str, copied: World, tmp_path: Path) -> None:
    bundle = soak.open_plan(copied.home, tmp_path, minimal)
    template, found, seconds = soak.make_template(copied.home, minimal), list[tuple[Held, LauncherHeld]](), []
    with readable_launcher(Place(copied.home, copied.tree, copied.hello)) as launcher:
        for number in range(soak.WARM + WARM_STARTS):
            started = soak.warm_start(copied, bundle)
            assert started.template == template, f"start {number + 1} was cold"
            seconds.append(started.seconds)
            if number + 1 >= soak.WARM and (number + 1 - soak.WARM) % max(1, WARM_STARTS // 10) == 0:
                found.append((Held.by(copied.home), LauncherHeld.by(launcher)))
    ours, theirs = [held for held, _ in found], [held for _, held in found]
    show(ours)
    show(theirs)
    measured = sorted(seconds[soak.WARM :])
    late = measured[-1 - len(measured) // 100]
    print(f"warm, in a row: median {statistics.median(measured):.3f} s, p99 {late:.3f} s")  # noqa: T201
    assert [held.but_memory for held in ours] == [ours[0].but_memory] * len(found)
    assert [held.but_memory for held in theirs] == [theirs[0].but_memory] * len(found)
    assert theirs[0].memfds == 2, "the memory and the devices of its one template"
    assert max(held.resident for held in ours) < ours[0].resident + PLAY
    assert max(held.private for held in theirs) < theirs[0].private + PLAY
    assert copied.home.mvm("audit", "verify").returncode == 0


@pytest.mark.usefixtures("environment")
def test_many_warm_starts_at_once(minimal: str, copied: World, tmp_path: Path) -> None:
    bundle = soak.open_plan(copied.home, tmp_path, minimal)
    template = soak.make_template(copied.home, minimal)
    with readable_launcher(Place(copied.home, copied.tree, copied.hello)) as launcher:
        for _ in range(soak.WARM):
            soak.warm_start(copied, bundle)
        before, held = Held.by(copied.home), LauncherHeld.by(launcher)
        machines = soak.at_once(copied.home, bundle, WARM_AT_ONCE)
        listed = json.loads(copied.home.mvm("ps", "--json").stdout)["result"]
        assert {each["id"]: each["state"] for each in listed} == dict.fromkeys(machines, "running")
        soak.stopped_at_once(copied.home, machines)
        assert [soak.taken_receipt(copied, each).observed.template for each in machines] == [template] * WARM_AT_ONCE
        after, still = Held.by(copied.home), LauncherHeld.by(launcher)
    show([before, after])
    show([held, still])
    assert after.but_memory == before.but_memory
    assert still.but_memory == held.but_memory
    assert still.private < held.private + PLAY
    assert copied.home.mvm("audit", "verify").returncode == 0


@pytest.mark.usefixtures("environment")
def test_restores_in_a_row_and_at_once_leave_nothing(minimal: str, copied: World, tmp_path: Path) -> None:
    machine, snapshot = soak.saved_machine(copied, tmp_path, minimal)
    found, kept = list[tuple[Held, LauncherHeld]](), {machine: "running"}
    with readable_launcher(Place(copied.home, copied.tree, copied.hello)) as launcher:
        for number in range(soak.WARM + RESTORES + 1):
            soak.restored(copied, snapshot)
            if number + 1 >= soak.WARM and (number + 1 - soak.WARM) % max(1, RESTORES // 10) == 0:
                found.append((Held.by(copied.home), LauncherHeld.by(launcher)))
        forked = done(copied, "fork", machine, "-n", str(RESTORED_AT_ONCE)).split()
        listed = json.loads(copied.home.mvm("ps", "--json").stdout)["result"]
        assert {each["id"]: each["state"] for each in listed} == dict.fromkeys(forked, "running") | kept
        soak.stopped_at_once(copied.home, forked)
        done(copied, "rm", *forked)
        found.append((Held.by(copied.home), LauncherHeld.by(launcher)))
    ours, theirs = [held for held, _ in found], [held for _, held in found]
    show(ours)
    show(theirs)
    assert len(found) > 3
    assert [held.but_memory for held in ours] == [ours[0].but_memory] * len(found)
    assert [held.but_memory for held in theirs] == [theirs[0].but_memory] * len(found)
    assert max(held.private for held in theirs) < theirs[0].private + PLAY
    done(copied, "snapshot", "rm", snapshot)
    done(copied, "kill", machine)
    assert copied.home.mvm("audit", "verify").returncode == 0
