"""Snapshots of real machines: their guests go on, with files, processes and memory, and as machines of their own."""

import json
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.conftest import World
from tests.leaks import in_files
from tests.vm.machines import done, inside, machines, processes_of, states

pytestmark = pytest.mark.vm

#: Counts in a file, as long as it runs.
COUNT = "n=0; while sleep 0.05; do n=$((n+1)); echo $n > /tmp/count; done"
LOOK = "hostname; head -c 16 /dev/urandom | hexdump -v -e '16/1 \"%02x\"'"
GRANTED = ("--verb", "exec", "--verb", "snapshot")


@pytest.fixture
def machine(copied: World, minimal: str, tmp_path: Path) -> Iterator[str]:
    """A machine that counts."""
    plan = copied.home.signed_plan(tmp_path, *GRANTED, minimal, "--", "/bin/busybox", "sh", "-c", COUNT)
    started = copied.home.mvm("launch", "--detach", plan)
    assert started.returncode == 0, started.stderr.decode()
    yield started.stdout.decode().strip()
    running = [str(each["id"]) for each in machines(copied) if each["state"] == "running"]
    if running:
        copied.home.mvm("kill", *running)


def listed(world: World) -> dict[str, str]:
    """The states of the machines that live or are cold, by their ids."""
    return {each["id"]: each["state"] for each in json.loads(done(world, "ps", "--json"))["result"]}


def count(world: World, machine: str) -> int:
    return int(inside(world, machine, "cat /tmp/count 2>/dev/null || echo 0") or 0)


def counts_on(world: World, machine: str) -> None:
    script = f"until [ $(cat /tmp/count || echo 0) -gt {count(world, machine)} ]; do sleep 0.05; done 2>/dev/null"
    assert inside(world, machine, script) == ""


def refused(world: World, *words: str) -> CompletedProcess[bytes]:
    finished = world.home.mvm(*words)
    assert finished.returncode == 126, (finished.stdout, finished.stderr)
    return finished


def records(world: World, *kinds: str) -> Sequence[str]:
    log = [json.loads(line) for line in world.home.mvm("audit", "tail", "-n", "100").stdout.splitlines()]
    return [record["kind"] for record in log if record["kind"] in kinds]


def test_a_machine_goes_on_in_another_one_and_they_are_no_twins(copied: World, machine: str) -> None:
    inside(copied, machine, "echo kept > /tmp/word")
    seen = count(copied, machine)
    snapshot = done(copied, "snapshot", "create", machine)
    counts_on(copied, machine)
    other = done(copied, "restore", snapshot)
    assert count(copied, other) >= seen
    counts_on(copied, other)
    assert inside(copied, other, "cat /tmp/word") == "kept"
    looks = [inside(copied, each, LOOK).split() for each in (machine, other)]
    assert [len({*drawn}) for drawn in zip(*looks, strict=True)] == [2, 2], looks
    assert inside(copied, other, "cat /run/mvm/generation") != inside(copied, machine, "cat /run/mvm/generation")
    again = done(copied, "snapshot", "create", other)
    third = done(copied, "restore", again)
    counts_on(copied, third)
    (line,) = (each for each in json.loads(done(copied, "snapshot", "ls", "--json"))["result"] if each["id"] == again)
    assert (line["machine"], line["parent"]) == (other, snapshot)
    assert records(copied, "start", "snapshot")[-5:] == ["start", "snapshot", "start", "snapshot", "start"]
    assert done(copied, "snapshot", "rm", snapshot) == snapshot
    assert copied.home.mvm("restore", snapshot).returncode == 2
    assert copied.home.mvm("audit", "verify").returncode == 0


def test_a_machine_that_was_cooled_takes_no_memory_and_goes_on(copied: World, machine: str) -> None:
    _, hypervisor = processes_of(copied, machine)
    seen = count(copied, machine)
    snapshot = done(copied, "cool", machine)
    assert (states(copied)[machine]["state"], states(copied)[machine]["reason"]) == ("ended", "cooled")
    assert not Path(f"/proc/{hypervisor}").exists()
    assert listed(copied) == {machine: "cold"}
    assert done(copied, "snapshot", "verify", snapshot).startswith(f"verified: snapshot {snapshot}")
    name = states(copied)[machine]["name"]
    other = done(copied, "thaw", name)
    assert count(copied, other) >= seen
    counts_on(copied, other)
    assert listed(copied) == {other: "running"}
    done(copied, "cool", name)
    third = done(copied, "thaw", name)
    counts_on(copied, third)
    assert states(copied)[third]["name"] == name
    assert listed(copied) == {third: "running"}


def test_those_of_a_fork_are_no_twins(copied: World, machine: str) -> None:
    inside(copied, machine, "echo kept > /tmp/word")
    others = done(copied, "fork", machine, "-n", "3").split()
    for each in (machine, *others):
        counts_on(copied, each)
        assert inside(copied, each, "cat /tmp/word") == "kept"
    looks = [inside(copied, each, LOOK).split() for each in (machine, *others)]
    assert [len({*drawn}) for drawn in zip(*looks, strict=True)] == [4, 4], looks
    assert json.loads(done(copied, "snapshot", "ls", "--json"))["result"] == []
    assert copied.home.mvm("audit", "verify").returncode == 0


def test_a_plan_that_does_not_grant_it(copied: World, minimal: str, tmp_path: Path) -> None:
    plan = copied.home.signed_plan(tmp_path, "--verb", "exec", minimal, "--", "/bin/busybox", "sleep", "1000")
    machine = done(copied, "launch", "--detach", str(plan))
    assert b"refused [verb-not-granted]" in refused(copied, "snapshot", "create", machine).stderr
    assert inside(copied, machine, "echo it goes on") == "it goes on"
    done(copied, "kill", machine)


def test_a_data_disk_goes_on_with_its_machine_and_is_nowhere_in_the_clear(
    copied: World, minimal: str, tmp_path: Path
) -> None:
    word = secrets.token_hex(32)
    more = ("--data", "16:/data", "--memory", "256")
    plan = copied.home.signed_plan(tmp_path, *GRANTED, *more, minimal, "--", "/bin/busybox", "sh", "-c", COUNT)
    machine = done(copied, "launch", "--detach", str(plan))
    inside(copied, machine, f"for i in $(seq 100); do echo {word}; done > /data/words; sync; sed -n 1p /data/words")
    snapshot = done(copied, "snapshot", "create", machine)
    inside(copied, machine, "echo another > /data/words; sync")
    other = done(copied, "restore", snapshot)
    assert inside(copied, other, "grep -c . /data/words; sed -n 100p /data/words").split() == ["100", word]
    inside(copied, other, "dd if=/dev/zero of=/data/more bs=64k count=16 2>/dev/null; sync; echo a third > /data/words")
    assert inside(copied, machine, "cat /data/words; ls /data").split() == ["another", "words"]
    (third,) = done(copied, "fork", other, "-n", "1").split()
    assert inside(copied, third, "cat /data/words; ls /data").split() == ["a", "third", "more", "words"]
    assert list(in_files({"word": word.encode()}, [copied.home.state], since=0)) == []
    done(copied, "kill", machine, other, third)
