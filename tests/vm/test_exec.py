"""Commands in a real machine that runs already: streams and exit codes by the real agent, granted by the plan alone."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import World
from tests.patience import scaled, until

pytestmark = pytest.mark.vm

SLEEP = ("--", "/bin/busybox", "sleep", "1000")


@pytest.fixture
def machine(world: World, minimal: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    created = world.home.mvm("create", world.home.signed_plan(tmp_path, *request.param, minimal, *SLEEP))
    assert created.returncode == 0, created.stderr.decode()
    machine = created.stdout.decode().strip()
    started = world.home.mvm("start", machine)
    assert (started.returncode, started.stdout.decode()) == (0, f"{machine}\n"), started.stderr.decode()
    yield machine
    world.home.mvm("rm", "--force", machine)


@pytest.mark.parametrize("machine", [("--verb", "exec")], indirect=True)
def test_a_command_in_a_running_machine(world: World, machine: str) -> None:
    script = "cat; echo to-stderr >&2; exit 7"
    done = world.home.mvm("exec", "-i", machine, "/bin/busybox", "sh", "-c", script, stdin=b"from stdin\n" * 1000)
    assert (done.returncode, done.stdout) == (7, b"from stdin\n" * 1000), done.stderr.decode()
    assert b"to-stderr\n" in done.stderr
    assert world.home.mvm("exec", machine, "/bin/nosuch").returncode == 127
    assert world.home.mvm("exec", "--timeout", "1", machine, "/bin/busybox", "sleep", "100").returncode == 124
    assert world.home.mvm("exec", machine, "/bin/busybox", "id", "-u").stdout == b"1000\n"


@pytest.mark.parametrize("machine", [()], indirect=True)
def test_a_command_that_was_not_granted(world: World, machine: str) -> None:
    done = world.home.mvm("exec", machine, "/bin/busybox", "true")
    assert done.returncode == 126
    assert b"refused [verb-not-granted]" in done.stderr


@pytest.mark.parametrize("machine", [("--verb", "exec")], indirect=True)
def test_a_machine_stands_still_and_goes_on(world: World, machine: str) -> None:
    def state() -> str:
        return str(json.loads(world.home.mvm("inspect", machine).stdout)["result"]["state"])

    ticking = world.home.start("exec", machine, "/bin/busybox", "sh", "-c", "while date; do sleep 0.1; done")
    assert ticking.stdout is not None
    assert ticking.stdout.readline() != b""
    paused = world.home.mvm("pause", machine)
    assert (paused.returncode, paused.stdout.decode()) == (0, f"{machine}\n"), paused.stderr.decode()
    assert state() == "paused"
    refused = world.home.mvm("exec", machine, "/bin/busybox", "true")
    assert (refused.returncode, b"the machine is paused" in refused.stderr) == (2, True)
    os.set_blocking(ticking.stdout.fileno(), False)
    # what it had written before comes first
    words = ticking.stdout
    until(lambda: not words.read(), lambda: "it ticks on", lambda: time.sleep(scaled(1)))
    os.set_blocking(ticking.stdout.fileno(), True)
    assert world.home.mvm("resume", machine).returncode == 0
    assert ticking.stdout.readline() != b""
    world.home.mvm("pause", machine)
    assert world.home.mvm("stop", machine).returncode == 0
    assert state() == "ended"
    kinds = [json.loads(line)["kind"] for line in world.home.mvm("events", machine).stdout.splitlines()]
    assert kinds == ["creation", "start", "exec", "pause", "resume", "pause", "end"]
