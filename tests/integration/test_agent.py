"""Commands in the guest agent itself, compiled here in its test mode, from the host's end of the channel."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from mvmnix.launch.agent.endpoints import PipeSink
from mvmnix.launch.agent.requests import ExecRequest
from mvmnix.launch.agent.stream_frames import Exec, Exit, Started, Stderr, Stdout, Window
from mvmnix.machines.exit_status import End, ExitStatus, Step
from mvmnix.model import Workload
from tests.integration.agent_house import (
    ENVIRONMENT,
    IDLE,
    USER,
    execute,
    raw,
    shell,
    talk,
    workload,
)
from tests.patience import POLL
from tests.support.processes import gone
from tests.unit.launch.channel_house import Collect, nothing

pytestmark = pytest.mark.integration


def test_the_planned_command_runs_once(agent: Path) -> None:
    with talk(agent) as (channel, _):
        out = Collect()
        assert channel.wait(channel.start_run(stdout=out, stderr=nothing), idle=IDLE).exit_code == 0
        assert out.data == b"planned\n"


def test_commands_end_as_they_do_on_any_machine(agent: Path) -> None:
    rows = [
        (ExecRequest(workload("true")), 0),
        (ExecRequest(workload("false")), 1),
        (ExecRequest(workload("/bin/true")), 0),
        (shell("exit 77"), 77),
        (shell("kill -TERM $$"), 143),
        (shell("kill -KILL $$"), 137),
        (ExecRequest(workload("no-such-program")), 127),
        (ExecRequest(workload("/proc/no/such/program")), 127),
        (ExecRequest(workload("/etc/passwd")), 126),
        (ExecRequest(workload("true", directory="/proc/no/such/place")), 127),
    ]
    with talk(agent) as (channel, _):
        for request, code in rows:
            assert execute(channel, request)[0].exit_code == code, request
        where = execute(channel, ExecRequest(workload("true", directory="/proc/no/such/place")))[0]
        assert str(where) == "could not be started: entering the working directory: No such file or directory"


def test_arguments_environment_and_directory_arrive_unchanged(agent: Path, tmp_path: Path) -> None:
    words = ["", "two words", "new\nline", "Grüße", "\udcff\udcfe", "$HOME", "'\"", "-n"]
    script = "import os, sys; print([os.fsencode(a) for a in sys.argv[1:]], os.environb[b'X'], os.getcwd())"
    work = Workload(("python3", "-c", script, *words), ENVIRONMENT | {"X": "=ä\n"}, "/usr", USER)
    with talk(agent) as (channel, _):
        status, out, err = execute(channel, ExecRequest(work))
    assert (status.exit_code, err) == (0, b"")
    assert out.decode() == f"{[os.fsencode(word) for word in words]} {'=ä\n'.encode()!r} /usr\n"


def test_nothing_is_inherited(agent: Path) -> None:
    with talk(agent) as (channel, _):
        assert (
            execute(channel, ExecRequest(workload("env", ONLY="this")))[1]
            == b"PATH=/usr/bin:/bin\nLC_ALL=C.UTF-8\nONLY=this\n"
        )
        assert execute(channel, shell("ls /proc/self/fd | tr '\\n' ' '"))[1] == b"0 1 2 3 "  # 3 is ls's own
        assert execute(channel, shell("umask; ulimit -c"))[1] == b"0022\n0\n"
        script = "import os; print(os.getsid(0) == os.getpgid(0) == os.getpid())"
        assert execute(channel, ExecRequest(workload("python3", "-c", script)))[1] == b"True\n"


def test_input_comes_back(agent: Path) -> None:
    data = os.urandom(8 << 20)
    with talk(agent) as (channel, _):
        status, out, err = execute(channel, ExecRequest(workload("cat")), data)
        assert (status.exit_code, out == data, err) == (0, True, b"")
        assert execute(channel, ExecRequest(workload("cat")))[1] == b""
        assert execute(channel, ExecRequest(workload("head", "-c", "10")), data)[1] == data[:10]


def test_output_and_errors_stay_apart(agent: Path) -> None:
    with talk(agent) as (channel, _):
        status, out, err = execute(channel, shell("echo out; echo err >&2; echo more > /dev/stdout; exit 3"))
        assert (status.exit_code, out, err) == (3, b"out\nmore\n", b"err\n")


def test_output_of_the_main_process_is_complete_and_stragglers_are_killed(agent: Path) -> None:
    with talk(agent) as (channel, _):
        status, out, _ = execute(channel, shell("head -c 60000 /dev/zero; sleep 600 & echo $! >&2; exit 5"))
        assert (status.exit_code, len(out)) == (5, 60000)
        for script in ("sleep 600 & echo $!", "(trap '' HUP TERM; sleep 600 & sleep 600) & sleep 0.1; echo $!"):
            _, out, _ = execute(channel, shell(script))
            assert gone(int(out))


def test_a_process_that_left_the_session_does_not_hold_the_command(agent: Path) -> None:
    with talk(agent) as (channel, _):
        status, out, _ = execute(channel, shell("setsid sleep 1000 & sleep 0.1; echo $!"))
        left = int(out)
        try:
            assert (status.exit_code, gone(left)) == (0, False), "the command has ended before it"
        finally:
            os.kill(left, signal.SIGKILL)


def test_a_signal_reaches_the_process_group(agent: Path) -> None:
    with talk(agent) as (channel, _):
        out = Collect()
        script = "trap 'echo caught; exit 9' USR1; echo ready; while :; do sleep 0.05; done"
        command = channel.start_exec(shell(script), stdout=out, stderr=Collect())
        command.signal(signal.SIGCONT)  # harmless, perhaps before it has started
        while b"ready" not in out.data:
            channel.ping(idle=IDLE)
        command.signal(signal.SIGUSR1)
        assert (channel.wait(command, idle=IDLE).exit_code, out.data) == (9, b"ready\ncaught\n")
        early = channel.start_exec(ExecRequest(workload("sleep", "600")), stdout=nothing, stderr=Collect())
        early.signal(signal.SIGTERM)
        assert channel.wait(early, idle=IDLE).exit_code == 143
        stubborn = channel.start_exec(shell("trap '' TERM; (sleep 600); sleep 600"), stdout=nothing, stderr=Collect())
        stubborn.signal(signal.SIGKILL)
        assert channel.wait(stubborn, idle=IDLE).exit_code == 137


def test_a_command_that_takes_too_long_is_killed_with_all_its_session(agent: Path) -> None:
    with talk(agent) as (channel, _):
        out = Collect()
        script = "trap '' TERM HUP; sleep 600 & echo $!; sleep 600"
        status = channel.exec(shell(script, timeout_ms=300), stdout=out, stderr=nothing, idle=IDLE)
        assert (status.end, status.exit_code) == (End.TIMED_OUT, 124)
        assert gone(int(out.data))


def test_a_slow_reader_delays_nobody_else(agent: Path) -> None:
    size = 20_000_000
    with talk(agent) as (channel, loop):
        read, write = os.pipe()
        slow = channel.start_exec(
            ExecRequest(workload("head", "-c", str(size), "/dev/zero")), stdout=PipeSink(loop, write), stderr=nothing
        )
        for number in range(10):
            assert execute(channel, ExecRequest(workload("echo", str(number))))[1] == f"{number}\n".encode()
        assert slow.status is None
        got = 0

        def drain() -> None:
            nonlocal got
            got += len(os.read(read, 65536))

        loop.watch(read, read=drain)
        assert channel.wait(slow, idle=IDLE).exit_code == 0
        while got < size:
            loop.turn(IDLE)
        loop.forget(read)
        os.close(read)
        os.close(write)


#: Two flows of 3 MiB, in portions that fit nothing else: the order of each flow's bytes says whether one was lost.
_BOTH_LANES = """
import os, threading
def say(fd, step):
    data = b"".join(b"%d\\n" % number for number in range(fd, 3_000_000, step))[: 3 << 20]
    for at in range(0, len(data), 40961):
        os.write(fd, data[at : at + 40961])
threads = [threading.Thread(target=say, args=(fd, fd + 6)) for fd in (1, 2)]
[each.start() for each in threads]
[each.join() for each in threads]
"""


def test_a_host_that_reads_in_dribs_misses_nothing(agent: Path) -> None:
    wanted = [b"".join(b"%d\n" % number for number in range(fd, 3_000_000, fd + 6))[: 3 << 20] for fd in (1, 2)]
    got = {Stdout: b"", Stderr: b""}
    with raw(agent, portion=30011) as host:
        host.says(Exec(3, ExecRequest(workload(sys.executable, "-S", "-c", _BOTH_LANES))))
        assert host.hears() == Started(3)
        while not isinstance(frame := host.hears(), Exit):
            assert isinstance(frame, Stdout | Stderr)
            got[type(frame)] += frame.data
            host.says(Window(3, frame.KIND, len(frame.data)))
    assert frame == Exit(3, End.EXITED, Step.NONE, 0)
    assert [got[Stdout], got[Stderr]] == wanted


def test_the_end_comes_after_the_last_byte_wherever_it_lies(agent: Path) -> None:
    with raw(agent, portion=30011) as host:
        for number in range(8):
            stream, size, got = 3 + 2 * number, 600_000 + 25_003 * number, 0
            host.says(Exec(stream, shell(f"head -c {size} /dev/zero & head -c {size} /dev/zero >&2; wait")))
            assert host.hears() == Started(stream)
            while isinstance(frame := host.hears(), Stdout | Stderr):
                time.sleep(POLL)  # so that all has long been said, and waits for this reader
                got += len(frame.data)
                host.says(Window(stream, frame.KIND, len(frame.data)))
            assert (frame, got) == (Exit(stream, End.EXITED, Step.NONE, 0), 2 * size)


def test_a_reader_that_left_ends_an_endless_command(agent: Path) -> None:
    with talk(agent) as (channel, loop):
        read, write = os.pipe()
        os.close(read)
        command = channel.start_exec(ExecRequest(workload("yes")), stdout=PipeSink(loop, write), stderr=nothing)
        assert channel.wait(command, idle=IDLE).exit_code == 128 + signal.SIGPIPE
        os.close(write)


def test_many_commands_at_once(agent: Path) -> None:
    with talk(agent) as (channel, _):
        sinks = [Collect() for _ in range(60)]
        commands = [
            channel.start_exec(shell(f"sleep 0.2; echo {n}"), stdout=s, stderr=nothing) for n, s in enumerate(sinks)
        ]
        assert [channel.wait(command, idle=IDLE).exit_code for command in commands] == [0] * 60
        assert [sink.data for sink in sinks] == [f"{number}\n".encode() for number in range(60)]


@pytest.mark.root("the agent is root in its guest")
def test_the_workload_has_no_privileges(agent: Path) -> None:
    with talk(agent) as (channel, _):
        _, out, _ = execute(channel, ExecRequest(workload("cat", "/proc/self/status")))
    status = dict(line.split(":\t", 1) for line in out.decode().splitlines() if ":\t" in line)
    assert status["Uid"].split() == [str(USER.uid)] * 4
    assert status["Gid"].split() == [str(USER.gid)] * 4
    assert status["Groups"].split() == [] or os.geteuid() != 0
    assert status["NoNewPrivs"] == "1"
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert {status[name] for name in ("SigBlk", "SigIgn")} == {"0" * 16}


def test_shutdown_lets_commands_say_goodbye(agent: Path) -> None:
    with talk(agent) as (channel, _):
        out = Collect()
        script = "trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.05; done"
        polite = channel.start_exec(shell(script), stdout=out, stderr=Collect())
        script, up = "trap '' TERM; echo up; sleep 600; sleep 600", Collect()
        stubborn = channel.start_exec(shell(script), stdout=up, stderr=Collect())
        while b"up" not in out.data or b"up" not in up.data:
            channel.ping(idle=IDLE)
        channel.shutdown(grace_ms=400, idle=IDLE)
        assert polite.status == ExitStatus(End.EXITED, Step.NONE, 4)
        assert out.data == b"up\nbye\n"
        assert stubborn.status == ExitStatus(End.SIGNALED, Step.NONE, 9)
