"""Many real machines in a row, and many at once: nothing grows, nothing is left; `make soak` takes more of both."""

import json
import os
from pathlib import Path

import pytest

from tests import soak
from tests.conftest import World
from tests.soak import Held

pytestmark = pytest.mark.vm

STARTS = int(os.environ.get("MVMNIX_SOAK_STARTS", "8"))
AT_ONCE = int(os.environ.get("MVMNIX_SOAK_AT_ONCE", "3"))
#: KiB that a process may grow by, however many machines it has started: an allocator's play, and no leak.
PLAY = 16384


def show(found: list[Held]) -> None:
    """A table for whoever runs this with `-s`."""
    names = list(Held.__dataclass_fields__)
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
