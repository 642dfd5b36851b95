"""The agent stops all commands at the host's word, tells nothing while they stand, and takes nothing but a thaw."""

import errno
import os
import signal
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.launch.agent.frames import (
    Bye,
    Config,
    Frame,
    FrameKind,
    Freeze,
    Frozen,
    NotFrozen,
    Ping,
    Pong,
    Shutdown,
    Thaw,
    Time,
)
from mvmnix.launch.agent.stream_frames import (
    Exec,
    Exit,
    Run,
    Signal,
    Started,
    Stdin,
    Stdout,
    Window,
)
from mvmnix.launch.agent.transport import encode
from mvmnix.machines.exit_status import End, Step
from tests import patience
from tests.integration.agent_house import config, hangs_up, raw, shell, workload
from tests.integration.freezer_house import IN_TIME, NOW, SECRET, SPEAKS_LATE, TALKS, THAWED, is_gone, machine, starts

pytestmark = pytest.mark.integration


def killed(stream: int) -> Exit:
    """How a command ends that was killed."""
    return Exit(stream, End.SIGNALED, Step.NONE, signal.SIGKILL)


def test_nothing_is_told_between_frozen_and_thawed(agent: Path, tmp_path: Path) -> None:
    """What stands for the kernel stops nothing: the command goes on, says something, and ends."""
    with machine(agent, tmp_path) as host:
        pid = starts(host, Exec(3, shell(SPEAKS_LATE)))
        assert host.freezes() == [Frozen()]
        os.kill(pid, signal.SIGUSR1)
        patience.until(lambda: is_gone(pid))
        assert host.kernel.words == [b"1"]
        assert host.thaws() == THAWED
        assert [host.hears(), host.hears()] == [Stdout(3, b"late\n"), killed(3)]
        host.kernel.hears(b"1", b"0")


def test_what_was_told_before_comes_before(agent: Path, tmp_path: Path) -> None:
    """A host that reads nothing meanwhile gets all of it, and then FROZEN."""
    with machine(agent, tmp_path) as host:
        host.says(Exec(3, shell("head -c 700000 /dev/zero; read -r _")))
        first = host.hears_until(Stdout)
        said = [*first, *host.freezes()]
        assert host.thaws() == THAWED
        host.says(Stdin(3, b"\n"))
        rest = host.hears_until(Exit)
        assert (said[0], said[-1]) == (Started(3), Frozen())
        assert sum(len(frame.data) for frame in (*said, *rest) if isinstance(frame, Stdout)) == 700000


def test_each_command_has_started_by_then(agent: Path, tmp_path: Path) -> None:
    """So that none is in the middle of its start in what is saved."""
    with machine(agent, tmp_path) as host:
        commands = [Exec(stream, shell("exec sleep 600")) for stream in range(3, 13, 2)]
        host.says(*commands, Freeze(IN_TIME))
        said = host.hears_until(Frozen)
        assert sorted(said[:-1], key=lambda frame: frame.stream) == [Started(frame.stream) for frame in commands]


def test_a_command_that_does_not_start_has_ended_by_then(agent: Path, tmp_path: Path) -> None:
    guest = replace(config(), workload=workload("/proc/nonexistent"))
    with machine(agent, tmp_path, guest) as host:
        host.says(Run(1))
        assert host.freezes() == [Exit(1, End.NOT_STARTED, Step.EXECUTE, errno.ENOENT), Frozen()]
        assert host.thaws() == THAWED


def test_a_process_that_does_not_stop_in_time(agent: Path, tmp_path: Path) -> None:
    with machine(agent, tmp_path, obeys=False) as host:
        starts(host, Exec(3, shell(TALKS)))
        assert host.freezes(milliseconds=20) == [NotFrozen(b"a process did not stop in time")]
        host.kernel.hears(b"1", b"0")
        host.says(Stdin(3, b"on\n"), Ping(7))
        assert {host.hears(), host.hears()} == {Stdout(3, b"on\n"), Pong(7)}
        assert host.keeper.asked == []


def test_one_that_stops_after_a_while(agent: Path, tmp_path: Path) -> None:
    """The kernel tells of it by a change of its file."""
    with machine(agent, tmp_path, obeys=False) as host:
        host.says(Freeze(IN_TIME))
        host.kernel.hears(b"1")
        host.kernel.freezes()
        assert host.hears() == Frozen()


@pytest.mark.parametrize("missing", ["cgroup.freeze", "cgroup.events"])
def test_a_kernel_that_freezes_no_groups(agent: Path, tmp_path: Path, missing: str) -> None:
    (tmp_path / "groups/workload").mkdir(parents=True)
    for name in {"cgroup.procs", "cgroup.freeze", "cgroup.events"} - {missing}:
        (tmp_path / "groups/workload" / name).touch()
    with raw(agent, tmp_path / "groups") as host:
        host.says(Freeze(IN_TIME))
        assert host.hears() == NotFrozen(b"the guest's kernel has no control group that can be frozen")
        host.says(Ping(1))
        assert host.hears() == Pong(1)


def test_a_machine_without_control_groups(agent: Path) -> None:
    with raw(agent) as host:
        host.says(Freeze(IN_TIME))
        assert isinstance(host.hears(), NotFrozen)


def test_a_second_time_is_as_the_first(agent: Path, tmp_path: Path) -> None:
    with machine(agent, tmp_path) as host:
        starts(host, Exec(3, shell(TALKS)))
        for number in range(3):
            assert host.freezes() == [Frozen()]
            assert host.thaws() == THAWED
            line = f"line {number}\n".encode()
            host.says(Stdin(3, line))
            assert host.hears() == Stdout(3, line)
        host.kernel.hears(*(b"1", b"0") * 3)


@pytest.mark.parametrize(
    "frame",
    [
        Ping(1),
        Time(NOW),
        Freeze(IN_TIME),
        Run(1),
        Exec(5, shell("true")),
        Stdin(3, b"x"),
        Signal(3, 9),
        Window(3, FrameKind.STDOUT, 1),
        Config(config()),
    ],
    ids=lambda frame: type(frame).__name__,
)
@pytest.mark.parametrize("obeys", [True, False], ids=["frozen", "freezing"])
def test_a_frame_while_commands_stand_ends_the_conversation(
    agent: Path, tmp_path: Path, frame: Frame, *, obeys: bool
) -> None:
    with machine(agent, tmp_path, obeys=obeys) as host:
        pid = starts(host, Exec(3, shell(TALKS)))
        host.says(Freeze(IN_TIME))
        if obeys:
            assert host.hears() == Frozen()
        host.says(frame)
        assert host.hears() is None
        patience.until(lambda: is_gone(pid))
        assert b"0" not in host.kernel.heard()


@pytest.mark.parametrize("said", [[Freeze(1)], [Thaw(is_renewed=False, time_ns=NOW, entropy=SECRET)]])
def test_neither_is_for_a_guest_that_is_not_ready(agent: Path, said: list[Frame]) -> None:
    with raw(agent, ready=False) as host:
        host.says(*said)
        assert host.hears() is None


def test_no_thaw_without_a_freeze(agent: Path) -> None:
    hangs_up(agent, encode(Thaw(is_renewed=False, time_ns=NOW, entropy=SECRET)))


def test_no_thaw_before_the_commands_stand(agent: Path, tmp_path: Path) -> None:
    with machine(agent, tmp_path, obeys=False) as host:
        host.says(Freeze(IN_TIME), Thaw(is_renewed=False, time_ns=NOW, entropy=SECRET))
        assert host.hears() is None
        assert host.keeper.asked == []
        assert b"0" not in host.kernel.heard()


@pytest.mark.parametrize("frame", [Freeze(IN_TIME), Thaw(is_renewed=False, time_ns=NOW, entropy=SECRET)])
def test_neither_comes_after_shutdown(agent: Path, tmp_path: Path, frame: Frame) -> None:
    with machine(agent, tmp_path) as host:
        starts(host, Exec(3, shell(f"trap '' TERM; {TALKS}")))
        host.says(Shutdown(IN_TIME), frame)
        assert host.hears() is None
        assert host.kernel.heard() == []


def thaw_bytes(*, flags: int = 0, time_ns: int = NOW, hostname: bytes = b"", more: bytes = b"") -> bytes:
    """A THAW that our own constructor would refuse."""
    payload = struct.pack(">IQ", flags, time_ns) + SECRET + struct.pack(">I", len(hostname)) + hostname + more
    return struct.pack(">BBHII", FrameKind.THAW, 0, 0, 0, len(payload)) + payload


@pytest.mark.parametrize(
    "said",
    [
        thaw_bytes(flags=2),
        thaw_bytes(time_ns=2**63),
        thaw_bytes(hostname=b"a" * 65),
        thaw_bytes(hostname=b"a\0b"),
        thaw_bytes(more=b"x"),
        thaw_bytes()[:-1],
    ],
    ids=["an unknown flag", "a time", "a long name", "a name with NUL", "more than that", "less than that"],
)
def test_no_other_thaw_is_taken(agent: Path, tmp_path: Path, said: bytes) -> None:
    with machine(agent, tmp_path) as host:
        assert host.freezes() == [Frozen()]
        with suppress(ConnectionError):
            host.says(said, Shutdown(0))
        assert host.hears() is None
        assert host.keeper.asked == []
        assert host.kernel.heard() == [b"1"]


@pytest.mark.parametrize("obeys", [True, False], ids=["frozen", "freezing"])
def test_shutdown_ends_commands_as_they_stand(agent: Path, tmp_path: Path, *, obeys: bool) -> None:
    with machine(agent, tmp_path, obeys=obeys) as host:
        pid = starts(host, Exec(3, shell(f"trap 'echo asked' TERM; {TALKS}")))
        host.says(Freeze(IN_TIME))
        if obeys:
            assert host.hears() == Frozen()
        host.says(Shutdown(IN_TIME))
        assert [host.hears(), host.hears()] == [Bye(), None]
        patience.until(lambda: is_gone(pid))
        assert b"0" not in host.kernel.heard()
