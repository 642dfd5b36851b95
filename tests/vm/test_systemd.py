"""A plain user's control groups where Debian's systemd runs, from a service, a log-in and a scope of the user's own.

The stand-in for a hypervisor is in the jail as it is shipped, in a guest that boots Debian's kernel and systemd.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from mvmnix.errors import ReasonCode
from tests.hostile.stand_in import compiled
from tests.vm.systemd_guest import boot

pytestmark = [pytest.mark.vm, pytest.mark.systemd]

#: 64 MiB of the guest's and 64 beside it; a virtual processor and 96 threads; half a processor's time.
LIMITS = {
    "memory.max": str(128 << 20),
    "memory.swap.max": "0",
    "pids.max": "97",
    "cpu.max": "50000 100000",
    "cpu.weight": "50",
}
MANAGER = "/sys/fs/cgroup/user.slice/user-{0}.slice/user@{0}.service/app.slice"


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    where = tmp_path_factory.mktemp("systemd")
    with compiled() as program:
        lines = boot(where, program).splitlines()
    found = {one["name"]: one for one in map(json.loads, lines)}
    assert "killed" in found, (found, Path(where / "console").read_text(errors="replace")[-8000:])
    return found


def of(said: dict[str, dict[str, Any]], name: str) -> Any:
    assert said[name]["found"] is not None, said[name]
    return said[name]["found"]


@pytest.mark.parametrize(
    ("name", "before", "own", "uid"),
    [
        ("manager", "/run-", "/mvmnix-", 1000),
        ("session", "/session-", "/mvmnix-", 1001),
        ("own scope", "/run-", "/run-", 1000),
    ],
)
def test_the_plans_limits_hold(said: dict[str, dict[str, Any]], name: str, before: str, own: str, uid: int) -> None:
    """A process stays in a unit that was delegated to it, with what limits that; else it gets a scope."""
    found = of(said, name)
    assert before in found["before"]
    unit = Path(found["own"]).parent
    assert str(unit).startswith(MANAGER.format(uid) + own)
    assert unit.suffix == ".scope"
    assert Path(found["group"]).parent == unit
    assert found["limits"] == LIMITS
    assert found["member"]
    assert {"cgroup-memory", "cgroup-pids", "cgroup-cpu"} <= set(found["layers"])
    assert (found["left"], found["leases"]) == (False, 0)


@pytest.mark.parametrize("name", ["manager", "session", "own scope"])
def test_one_that_takes_more_memory_is_killed(said: dict[str, dict[str, Any]], name: str) -> None:
    found = of(said, name)
    assert (found["greedy"], found["ended"], found["killed"]) == ({"thread": 0}, True, 1)


def test_with_a_subordinate_uid_or_without(said: dict[str, dict[str, Any]]) -> None:
    """ada has some, eve none."""
    (uid,) = of(said, "manager")["uids"]
    assert uid >= 100_000
    assert "own-uid" in of(said, "manager")["layers"]
    assert of(said, "session")["uids"] == [1001]


def test_where_no_manager_runs_a_plans_limit_is_refused(said: dict[str, dict[str, Any]]) -> None:
    assert of(said, "no manager")["codes"] == [ReasonCode.LIMIT_UNAVAILABLE]


def test_doctor_says_so(said: dict[str, dict[str, Any]]) -> None:
    with_, without = ({one["what"]: one for one in of(said, name)["result"]} for name in ("doctor", "doctor without"))
    assert (with_["control groups"]["health"], with_["control groups"]["said"]) == (
        "good",
        "processor time, memory, tasks (v2)",
    )
    assert with_["lingering"]["next"] == "loginctl enable-linger"
    assert without["control groups"]["health"] == "note"
    assert "no systemd runs for this user" in without["control groups"]["said"]
    assert "lingering" not in without


def test_machines_in_the_background(said: dict[str, dict[str, Any]]) -> None:
    """Each supervisor gets a scope; what started them stays in its session, and ends before they do."""
    found = of(said, "detached")
    assert "/session-" in found["own"]
    scopes = {Path(one["group"]).parent for one in found["machines"]}
    assert {scope.name.split("-")[1] for scope in scopes} == {str(one["supervisor"]) for one in found["machines"]}
    assert of(said, "lives on") == [True, True]


def test_the_manager_takes_no_limit_back(said: dict[str, dict[str, Any]]) -> None:
    """When no unit needs a controller any more, it disables that in its slice, but not in delegated units."""
    assert of(said, "kept") == ["50000 100000"] * 2


def test_nothing_is_left(said: dict[str, dict[str, Any]]) -> None:
    """Neither after an orderly end nor when a supervisor was killed."""
    assert of(said, "emptied") is True
    assert (of(said, "killed"), said["killed"]["emptied"]) == ([True, True], True)
