"""How the guest agent starts commands: many at once, in memory that they share with it; what they inherit from it."""

import ctypes
import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.requests import ExecRequest
from mvmnix.machines.exit_status import End, ExitStatus, Step
from mvmnix.model import Workload
from mvmnix.system.loop import Loop
from tests.integration.agent_house import ENVIRONMENT, IDLE, USER, config, execute, process, workload
from tests.support.processes import status
from tests.unit.launch.channel_house import Collect, nothing

pytestmark = pytest.mark.integration

#: ptrace(2), and waitpid(2) for what is no child.
_SEIZE, _DETACH, _EVENT_MESSAGE, _TRACE_FORK, _EVENT_FORK, _WALL = 0x4206, 17, 0x4201, 2, 1, 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_LIBC.ptrace.restype = ctypes.c_long


@contextmanager
def running(agent: Path) -> Iterator[tuple[Channel, Loop, int]]:
    """The conversation, and the agent's process."""
    loop = Loop()
    with process(agent) as (sock, child):
        channel = Channel(sock, loop)
        channel.wait_hello(idle=IDLE)
        channel.configure(config(), idle=IDLE)
        yield channel, loop, child.pid
        channel.shutdown(grace_ms=1000, idle=IDLE)
        channel.close()
    loop.close()


def trace(request: int, process: int, data: int = 0) -> None:
    if _LIBC.ptrace(request, process, None, data) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")


def test_what_no_command_may_have_the_agent_gave_up_itself(agent: Path) -> None:
    with running(agent) as (_, _, number):
        seen = status(number)
    assert (seen["NoNewPrivs"], seen["Seccomp"]) == ("1", "2")
    assert seen["CapBnd"] == "0" * 16 or os.geteuid() != 0


def test_commands_that_start_at_once_get_each_its_own(agent: Path) -> None:
    places = ("/", "/usr", "/etc", "/dev")
    cases = []
    for number in range(60):
        program, place = ("sh", "missing", "/missing")[number % 3], places[number % 4]
        argv = (program, "-c", 'echo "$0 $NAME $PWD"', f"argument{number}")
        asked = Workload(argv, ENVIRONMENT | {"NAME": f"value{number}"}, place, USER)
        expected = (ExitStatus(End.EXITED), f"argument{number} value{number} {place}\n".encode())
        cases.append(
            (asked, (ExitStatus(End.NOT_STARTED, Step.EXECUTE, errno.ENOENT), b"") if number % 3 else expected)
        )
    sinks = [Collect() for _ in cases]
    with running(agent) as (channel, _, _):
        commands = [
            channel.start_exec(ExecRequest(asked), stdout=sink, stderr=nothing)
            for (asked, _), sink in zip(cases, sinks, strict=True)
        ]
        ends = [channel.wait(command, idle=IDLE) for command in commands]
    found = [(end, sink.data) for end, sink in zip(ends, sinks, strict=True)]
    assert found == [expected for _, expected in cases]


def test_a_child_that_is_held_before_its_program_holds_nobody_else(agent: Path) -> None:
    with running(agent) as (channel, loop, number):
        held = []
        for turn in range(6):
            trace(_SEIZE, number, _TRACE_FORK)
            out = Collect()
            command = channel.start_exec(ExecRequest(workload("echo", str(turn))), stdout=out, stderr=nothing)
            loop.turn()  # says it
            _, stopped = os.waitpid(number, 0)
            assert stopped >> 8 == signal.SIGTRAP | _EVENT_FORK << 8
            child = ctypes.c_ulong()
            assert _LIBC.ptrace(_EVENT_MESSAGE, number, None, ctypes.addressof(child)) == 0
            os.waitpid(child.value, _WALL)
            trace(_DETACH, number)
            held.append((command, out, child.value))
        channel.ping(idle=IDLE)
        assert execute(channel, ExecRequest(workload("echo", "beside")))[:2] == (ExitStatus(End.EXITED), b"beside\n")
        for turn, (command, out, child_number) in enumerate(held):
            assert command.status is None
            trace(_DETACH, child_number)
            assert (channel.wait(command, idle=IDLE), out.data) == (ExitStatus(End.EXITED), f"{turn}\n".encode())
