"""How much memory commands and files may have, by the guest agent itself; a directory stands for control groups."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.launch.agent.encoding import GuestFailedError
from mvmnix.machines.exit_status import End, ExitStatus
from tests.integration.agent_house import config, execute, shell, talk

pytestmark = pytest.mark.integration

MIB = 1 << 20


class Groups:
    """What the kernel would show: words that it takes are pipes, so that each one that was written is kept."""

    WORDS = "cgroup.subtree_control", "workload/cgroup.procs", "workload/memory.max", "workload/pids.max"

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "workload").mkdir(parents=True)
        self._open: dict[str, int] = {}
        for word in self.WORDS:
            os.mkfifo(path / word)
            self._open[word] = os.open(path / word, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def written(self, word: str) -> bytes:
        try:
            return os.read(self._open[word], 4096)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)


@contextmanager
def kernel(path: Path) -> Iterator[Groups]:
    groups = Groups(path)
    try:
        yield groups
    finally:
        groups.close()


def memory(name: str) -> int:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return next(int(line[1]) * 1024 for line in lines if line[0] == f"{name}:")


def test_commands_are_in_a_group_with_less_than_there_is(agent: Path, tmp_path: Path) -> None:
    with kernel(tmp_path / "groups") as groups, talk(agent, config(), groups.path) as (channel, _):
        assert groups.written("cgroup.subtree_control") == b"+memory"
        assert 0 < int(groups.written("workload/memory.max")) < memory("MemTotal")
        assert groups.written("workload/pids.max") == groups.written("workload/cgroup.procs") == b""
        for _ in range(2):
            assert execute(channel, shell("echo here"))[1] == b"here\n"
            assert groups.written("workload/cgroup.procs") == b"0", "the command itself, and the agent never"


def test_with_a_limit_on_their_number_the_same_group_has_both(agent: Path, tmp_path: Path) -> None:
    with kernel(tmp_path / "groups") as groups, talk(agent, replace(config(), tasks=6), groups.path) as (channel, _):
        assert groups.written("cgroup.subtree_control") == b"+memory+pids"
        assert groups.written("workload/pids.max") == b"6"
        assert int(groups.written("workload/memory.max")) > 0
        assert execute(channel, shell("echo here"))[1] == b"here\n"
        assert groups.written("workload/cgroup.procs") == b"0"


def test_a_kernel_without_such_controllers_bounds_nothing(agent: Path, tmp_path: Path) -> None:
    with kernel(tmp_path / "groups") as groups:
        (groups.path / "cgroup.subtree_control").unlink()
        with talk(agent, config(), groups.path) as (channel, _):
            assert execute(channel, shell("echo here"))[1] == b"here\n"
            assert groups.written("workload/memory.max") == b""
            assert groups.written("workload/cgroup.procs") == b"0", "it can be frozen"


def test_a_bound_that_the_kernel_refuses_ends_the_boot(agent: Path, tmp_path: Path) -> None:
    with kernel(tmp_path / "groups") as groups:
        (groups.path / "workload/memory.max").unlink()
        (groups.path / "workload/memory.max").mkdir()
        with pytest.raises(GuestFailedError, match="can't bound the commands"), talk(agent, config(), groups.path):
            pass


@pytest.mark.parametrize(
    ("script", "kills", "expected"),
    [
        ("kill -9 $$", 1, ExitStatus(End.SIGNALED, code=9, is_out_of_memory=True)),
        ("exit 137", 1, ExitStatus(End.EXITED, code=137, is_out_of_memory=True)),  # a shell whose child was ended
        ("exit 1", 2, ExitStatus(End.EXITED, code=1, is_out_of_memory=True)),
        ("exit 0", 1, ExitStatus(End.EXITED)),
        ("kill -9 $$", 0, ExitStatus(End.SIGNALED, code=9)),
    ],
)
def test_a_command_that_fails_while_the_kernel_ends_processes(
    agent: Path, tmp_path: Path, script: str, kills: int, expected: ExitStatus
) -> None:
    """By the count of them that the kernel keeps for the group, which may not be 0 before."""
    events = tmp_path / "groups/workload/memory.events"
    with kernel(tmp_path / "groups") as groups:
        events.write_text("max 7\noom 5\noom_kill 3\noom_group_kill 0\n")
        with talk(agent, config(), groups.path) as (channel, _):
            count = f"printf 'oom 9\\noom_kill {3 + kills}\\n' >{events}"
            assert execute(channel, shell(f"{count}; {script}"))[0] == expected
            assert execute(channel, shell(script))[0].is_out_of_memory is False, "another command's"


def test_a_kernel_that_counts_none(agent: Path, tmp_path: Path) -> None:
    with kernel(tmp_path / "groups") as groups, talk(agent, config(), groups.path) as (channel, _):
        assert execute(channel, shell("kill -9 $$"))[0] == ExitStatus(End.SIGNALED, code=9)


@pytest.mark.parametrize(
    ("available", "commands", "files"),
    [
        pytest.param(24 * MIB, 19.25, 15.25, id="of a guest with 96 MiB"),
        pytest.param(52 * MIB, 46.375, 42.375, id="of a guest with 128 MiB"),
        pytest.param(6016 * MIB, 5824, 5820, id="of a builder, whose files may be 5,120"),
        pytest.param(8 * MIB, 4, 2, id="with next to nothing"),
        pytest.param(0, 0, 0, id="with nothing at all"),
    ],
)
def test_a_reserve_is_left(agent: Path, available: int, commands: float, files: float) -> None:
    said = subprocess.run([agent, "--memory", str(available)], check=True, capture_output=True).stdout
    assert [int(number) / MIB for number in said.split()] == [commands, files]
