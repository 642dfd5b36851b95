"""Machines that wait and are claimed, in real jails: whoever claims, is killed or changes the policy meanwhile."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from mvmnix.machines.ending import EndReason
from tests.conftest import World
from tests.hostile.rig import replaced
from tests.patience import PATIENCE, until
from tests.vm.drawing import ANY, LOOK, TRUE, receipts
from tests.vm.machines import HELLO, machines

pytestmark = pytest.mark.vm


def waiting(world: World) -> list[dict[str, object]]:
    return [machine for machine in machines(world) if machine["state"] == "waiting"]


def log(world: World) -> list[dict[str, object]]:
    return [json.loads(line) for line in world.home.mvm("audit", "tail", "-n", "1000").stdout.splitlines()]


def claims(world: World) -> list[object]:
    """The machines that were claimed, by the log."""
    return [each["machine"] for each in log(world) if each.get("reasons") == [EndReason.CLAIMED]]


def launchers(world: World) -> list[int]:
    return [each["process"] for each in json.loads(world.home.mvm("launcher", "ls", "--json").stdout)["result"]]


@pytest.fixture
def pooled(copied: World) -> Iterator[World]:
    """A world where two machines of the hello image wait."""
    made = copied.home.mvm("pool", "set", HELLO, "-n", "2", cwd=copied.tree)
    assert made.returncode == 0, made.stderr.decode()
    yield copied
    assert copied.home.mvm("launcher", "stop").returncode == 0
    until(lambda: not waiting(copied))
    done = copied.home.mvm("audit", "verify")
    assert done.returncode == 0, done.stderr.decode()


def run(world: World, *words: str) -> bytes:
    done = world.home.mvm("run", *ANY, *words, cwd=world.tree)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_a_claimed_machine_is_a_start_like_any_other(pooled: World) -> None:
    first = {each["id"] for each in waiting(pooled)}
    assert len(first) == 2
    before = receipts(pooled).keys()
    assert run(pooled, HELLO, "--", "/bin/busybox", "echo", "x") == b"x\n"
    (claimed,) = claims(pooled)
    assert claimed in first
    found = {it.observed.machine: it for it in receipts(pooled, before).values()}
    (own,) = found.keys() - {claimed}
    assert found[str(claimed)].observed.reason is EndReason.CLAIMED
    assert found[own].observed.reason is EndReason.GUEST_EXIT
    assert found[own].observed.template == found[str(claimed)].observed.template is not None
    starts = [each for each in log(pooled) if each["kind"] == "start" and each["machine"] == own]
    assert [set(each["digests"]) >= {"waited", "template"} for each in starts] == [True]  # type: ignore[call-overload]
    until(lambda: len(waiting(pooled)) == 2)
    run(pooled, "--memory", "200M", HELLO, *TRUE)
    assert claims(pooled) == [claimed], "it is of another shape"


def test_many_claims_at_once_are_served_by_machines_of_their_own(pooled: World) -> None:
    """And what each draws is another one's nowhere."""
    count = 5
    with ThreadPoolExecutor(count) as threads:
        said = list(threads.map(lambda _: run(pooled, HELLO, "--", "/bin/busybox", "sh", "-c", LOOK), range(count)))
    for drawn in list(zip(*(each.decode().splitlines() for each in said), strict=True))[:4]:
        assert len({*drawn}) == count, drawn
    assert len(claims(pooled)) >= 2
    assert len({*claims(pooled)}) == len(claims(pooled))


def test_one_that_waits_is_killed_with_its_process(pooled: World) -> None:
    """Its hypervisor ends with it, the log has its end, and another one takes its place."""
    gone = waiting(pooled)[0]["id"]
    lock = pooled.home.state / "machines" / str(gone) / "lock"
    os.kill(holder(lock), signal.SIGKILL)
    until(lambda: gone not in {each["id"] for each in waiting(pooled)})
    until(lambda: len(waiting(pooled)) == 2)
    run(pooled, HELLO, *TRUE)
    ends = {each["machine"]: each.get("reasons") for each in log(pooled) if each["kind"] == "end"}
    assert ends[gone] == [EndReason.SUPERVISOR_DIED]


def holder(lock: object) -> int:
    """The process that holds a lock file, by /proc/locks."""
    inode = os.stat(str(lock)).st_ino  # noqa: PTH116 - a number of a path
    with open("/proc/locks", encoding="ascii") as locks:  # noqa: PTH123 - of the kernel
        return next(int(line.split()[4]) for line in locks if line.split()[5].rpartition(":")[2] == str(inode))


def test_the_launcher_is_killed_and_none_waits_any_more(pooled: World) -> None:
    (launcher,) = launchers(pooled)
    os.kill(launcher, signal.SIGKILL)
    until(lambda: not waiting(pooled))
    run(pooled, HELLO, *TRUE)
    assert claims(pooled) == []


def test_a_policy_that_changes_while_they_wait(pooled: World) -> None:
    policy = pooled.home.config / "trust.toml"
    replaced(policy, policy.read_bytes().replace(b"serial = 1 ", b"serial = 2 "))
    run(pooled, HELLO, *TRUE)  # at once: the gate looks, and not those that wait
    assert claims(pooled) == []
    until(lambda: not waiting(pooled))


def test_a_caller_that_is_killed_while_it_claims(pooled: World) -> None:
    """Its machine ends with it."""
    process = pooled.home.start("run", *ANY, HELLO, "--", "/bin/busybox", "sleep", "1000", cwd=pooled.tree)
    until(lambda: any(each["state"] == "running" for each in machines(pooled)))
    process.kill()
    process.communicate(timeout=PATIENCE)
    until(lambda: not any(each["state"] == "running" for each in machines(pooled)))
    assert len(claims(pooled)) == 1
