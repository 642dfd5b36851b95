"""The agent renews its machine before commands go on, and forgets the old host's streams where another one speaks."""

import errno
import os
import select
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.launch.agent.frames import (
    INITIAL_WINDOW,
    OUTPUT_WINDOW,
    Failed,
    FrameKind,
    Frozen,
    Ping,
    Pong,
    Thaw,
    Time,
)
from mvmnix.launch.agent.stream_frames import (
    Data,
    Eof,
    Exec,
    Exit,
    Open,
    Run,
    Started,
    Stdin,
    Stdout,
    Window,
)
from mvmnix.machines.exit_status import End, Step
from tests import patience
from tests.integration.agent_house import config, shell, workload
from tests.integration.freezer_house import (
    CLOCK,
    ENTROPY,
    NAME,
    NOW,
    RUNS,
    SECRET,
    SPEAKS_LATE,
    TALKS,
    THAWED,
    is_gone,
    machine,
    starts,
)

pytestmark = pytest.mark.integration


def reads_urgent(pid: int) -> bool:
    """Whether SIGURG waits for a process (proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pending = sum(int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd")))
    return bool(pending >> (signal.SIGURG - 1) & 1)


def test_the_same_host_renews_entropy_and_clock_alone(agent: Path, tmp_path: Path) -> None:
    """Its twin, if there will be one, has the same pool; whose name and generation these are doesn't change."""
    with machine(agent, tmp_path) as host:
        before = host.generation
        pid = starts(host, Exec(3, shell(f"trap 'echo urgent' URG; {TALKS}")))
        host.kernel.has(pid)
        host.freezes()
        now = time.monotonic_ns()
        assert host.thaws() == THAWED
        (asked,) = host.keeper.asked
        assert (asked.parts, asked.entropy, asked.hostname) == (ENTROPY | CLOCK, SECRET, b"")
        assert NOW - time.monotonic_ns() <= asked.offset <= NOW - now
        assert host.generation == before
        host.says(Stdin(3, b"last\n"), Stdin(3, b""))
        assert host.hears() == Stdout(3, b"last\n")


def test_a_clock_that_was_renewed_is_what_later_readings_are_compared_with(agent: Path, tmp_path: Path) -> None:
    with machine(agent, tmp_path) as host:
        host.says(Time(NOW + 10**18))
        host.freezes()
        assert host.thaws() == THAWED
        host.says(Time(NOW - 10**9), Time(NOW + 10**12), Ping(1))
        assert host.hears() == Pong(1)
        assert [asked.parts for asked in host.keeper.asked] == [CLOCK, ENTROPY | CLOCK, CLOCK]


def test_a_restored_machine_is_renewed_before_it_goes_on(agent: Path, tmp_path: Path) -> None:
    guest = replace(config(), workload=workload("sh", "-c", f"trap 'echo urgent' URG; {TALKS}"))
    seen: list[tuple[bool, bool, str]] = []
    with machine(agent, tmp_path, guest) as host:
        before = host.generation
        pid = starts(host, Run(1))
        host.kernel.has(pid)
        host.freezes()
        os.kill(pid, signal.SIGSTOP)

        def look() -> None:
            told = bool(select.select([host.sock], [], [], 0)[0])
            seen.append((told, reads_urgent(pid), host.generation))
            os.kill(pid, signal.SIGCONT)

        host.kernel.thaws = look
        host.says(Thaw(is_renewed=True, time_ns=NOW, entropy=SECRET, hostname="twin"))
        host.kernel.hears(b"1", b"0")
        assert host.hears() == RUNS
        assert host.hears() == Stdout(1, b"urgent\n")
        (asked,) = host.keeper.asked
        assert (asked.parts, asked.entropy, asked.hostname) == (ENTROPY | CLOCK | NAME, SECRET, b"twin")
        assert seen == [(True, True, host.generation)]
        assert host.generation != before


def test_a_generation_is_for_all_to_read(agent: Path, tmp_path: Path) -> None:
    with machine(agent, tmp_path) as host:
        seen = {host.generation}
        for _ in range(3):
            host.freezes()
            assert host.thaws(is_renewed=True) == THAWED
            seen.add(host.generation)
        assert len(seen) == 4
        assert all(len(number) == 33 and int(number, 16) >= 0 and number[-1] == "\n" for number in seen)
        path = host.root / "run/mvm/generation"
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o444, 0o755)


def test_a_generation_that_the_workload_has_moved(agent: Path, tmp_path: Path) -> None:
    """It may, where the directory above is its own: the agent writes to the file that it made, and to no other."""
    with machine(agent, tmp_path) as host:
        path = host.root / "run/mvm/generation"
        path.rename(path.with_name("moved"))
        path.symlink_to(tmp_path / "victim")
        (tmp_path / "victim").write_text("untouched")
        before = path.with_name("moved").read_text()
        host.freezes()
        assert host.thaws(is_renewed=True) == THAWED
        assert path.with_name("moved").read_text() != before
        assert (tmp_path / "victim").read_text() == "untouched"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((ENTROPY, errno.EIO), b"can't add entropy: I/O error"),
        ((CLOCK, errno.EINVAL), b"can't set the clock: Invalid argument"),
        ((NAME, errno.EPERM), b"can't set the host name: Operation not permitted"),
    ],
)
@pytest.mark.parametrize("is_renewed", [True, False], ids=["restored", "the same"])
def test_nothing_goes_on_that_could_not_be_renewed(
    agent: Path, tmp_path: Path, answer: tuple[int, int], why: bytes, *, is_renewed: bool
) -> None:
    with machine(agent, tmp_path) as host:
        pid = starts(host, Exec(3, shell(TALKS)))
        host.freezes()
        host.keeper.answer = answer
        assert host.thaws(is_renewed=is_renewed) == Failed(why)
        assert host.hears() is None
        patience.until(lambda: is_gone(pid))
        assert host.kernel.heard() == [b"1"]


def test_nothing_goes_on_without_its_keeper(agent: Path, tmp_path: Path) -> None:
    with machine(agent, tmp_path) as host:
        host.freezes()
        host.keeper.dies()
        assert host.thaws() == Failed(b"the process is gone that keeps clock, entropy and host name")
        assert host.hears() is None
        assert host.kernel.heard() == [b"1"]


def test_commands_of_the_old_host_are_gone_without_a_word(agent: Path, tmp_path: Path) -> None:
    gone: list[bool] = []
    guest = replace(config(), workload=workload("sh", "-c", "echo $$; exec sleep 600"))
    with machine(agent, tmp_path, guest) as host:
        kept, dropped = starts(host, Run(1)), starts(host, Exec(9, shell(f"sleep 600 & {SPEAKS_LATE}")))
        host.kernel.thaws = lambda: gone.append(is_gone(dropped))
        host.freezes()
        assert host.thaws(is_renewed=True) == RUNS
        host.says(Ping(1), Exec(3, shell("echo again; exit 3")))
        assert host.hears() == Pong(1)
        assert host.hears_until(Exit) == [Started(3), Stdout(3, b"again\n"), Exit(3, End.EXITED, Step.NONE, 3)]
        assert gone == [True]
        assert not is_gone(kept)


def test_a_command_that_ended_before_is_not_told_of_either(agent: Path, tmp_path: Path) -> None:
    with machine(agent, tmp_path) as host:
        pid = starts(host, Exec(3, shell(SPEAKS_LATE)))
        host.freezes()
        os.kill(pid, signal.SIGUSR1)
        patience.until(lambda: is_gone(pid))
        assert host.thaws(is_renewed=True) == THAWED
        host.says(Ping(1))
        assert host.hears() == Pong(1)


def test_the_plans_command_goes_on_with_a_window_of_its_own(agent: Path, tmp_path: Path) -> None:
    """What the old host hadn't credited is forgotten."""
    guest = replace(config(), workload=workload("sh", "-c", "exec head -c 1900000 /dev/zero"))
    with machine(agent, tmp_path, guest) as host:
        host.says(Run(1))
        got = 0
        while got < OUTPUT_WINDOW:
            frame = host.hears()
            got += len(frame.data) if isinstance(frame, Stdout) else 0
        assert host.freezes() == [Frozen()]
        assert host.thaws(is_renewed=True) == RUNS
        rest = host.hears_until(Exit)
        assert sum(len(frame.data) for frame in rest if isinstance(frame, Stdout)) == 1900000 - OUTPUT_WINDOW


def test_the_plans_command_that_had_ended(agent: Path, tmp_path: Path) -> None:
    with machine(agent, tmp_path) as host:
        host.says(Run(1))
        host.hears_until(Exit)
        host.freezes()
        assert host.thaws(is_renewed=True) == THAWED
        host.says(Run(1))
        assert host.hears() is None


def test_its_input_ends_behind_what_was_queued(agent: Path, tmp_path: Path) -> None:
    """And nothing is credited for it, which the new host would take for a violation."""
    count = INITIAL_WINDOW
    script = 'trap "go=1" USR1; echo $$; while [ -z "$go" ]; do sleep 0.02; done; exec wc -c'
    with machine(agent, tmp_path, replace(config(), workload=workload("sh", "-c", script))) as host:
        pid = starts(host, Run(1))
        for _ in range(4):
            host.says(Stdin(1, b"x" * (count // 4)))
        host.says(Ping(1))
        credited = [frame for frame in host.hears_until(Pong) if isinstance(frame, Window)]
        host.freezes()
        assert host.thaws(is_renewed=True) == RUNS
        os.kill(pid, signal.SIGUSR1)
        assert host.hears_until(Exit) == [Stdout(1, f"{count}\n".encode()), Exit(1, End.EXITED, Step.NONE, 0)]
        assert all(frame.flow is FrameKind.STDIN for frame in credited)


def test_its_input_takes_no_more(agent: Path, tmp_path: Path) -> None:
    with machine(agent, tmp_path, replace(config(), workload=workload("sh", "-c", f"{TALKS}; sleep 600"))) as host:
        starts(host, Run(1))
        host.freezes()
        assert host.thaws(is_renewed=True) == RUNS
        host.says(Stdin(1, b"x"))
        assert host.hears() is None


def test_connections_of_the_old_host_are_reset(agent: Path, tmp_path: Path, port: int) -> None:
    with machine(agent, tmp_path, config(ports=(port,))) as host:
        with socket.create_connection(("127.0.0.1", port)) as old:
            old.settimeout(patience.EVENT_PATIENCE)
            assert host.hears() == Open(2, port)
            old.sendall(b"question")
            assert host.hears() == Data(2, b"question")
            host.freezes()
            old.sendall(b"more")
            assert host.thaws(is_renewed=True) == THAWED
            with pytest.raises(ConnectionResetError):
                old.recv(1)
        with socket.create_connection(("127.0.0.1", port)) as new:
            assert host.hears() == Open(2, port), "numbers begin again"
            new.settimeout(patience.EVENT_PATIENCE)
            host.says(Data(2, b"answer"), Eof(2))
            assert new.recv(100) == b"answer"


def test_with_the_same_host_streams_go_on(agent: Path, tmp_path: Path, port: int) -> None:
    with machine(agent, tmp_path, config(ports=(port,))) as host:
        with socket.create_connection(("127.0.0.1", port)) as old:
            old.settimeout(patience.EVENT_PATIENCE)
            assert host.hears() == Open(2, port)
            host.freezes()
            old.sendall(b"more")
            assert host.thaws() == THAWED
            assert host.hears() == Data(2, b"more")
            host.says(Data(2, b"answer"))
            assert old.recv(100) == b"answer"
        host.says(Exec(3, shell("true")))
        host.hears_until(Exit)
        host.freezes()
        assert host.thaws() == THAWED
        host.says(Exec(3, shell("true")))
        assert host.hears() is None, "numbers only grow"
