"""How many processes commands may be, by the guest agent itself where no control group counts them: by their user."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.launch.agent.requests import ExecRequest, GuestConfig
from mvmnix.machines.exit_status import End
from mvmnix.model import User, Workload
from tests.integration.agent_house import ENVIRONMENT, IDLE, config, execute, talk, until
from tests.unit.launch.channel_house import Collect

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root("as a plain user, one's other processes count too"),
]
TASKS = 6
#: Users of this test alone: the kernel counts by user.
CROWD, NEIGHBOUR = (User(1_800_000_000 + 2 * os.getpid() % 1_000_000 + number, 65534) for number in range(2))
RUNAWAY = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 600 & echo $i; done; echo all"


def command(user: User, *argv: str) -> ExecRequest:
    return ExecRequest(Workload(argv, ENVIRONMENT, "/", user))


def limited() -> GuestConfig:
    return replace(config(), tasks=TASKS)


def test_a_command_that_multiplies_gets_no_further(agent: Path) -> None:
    with talk(agent, limited()) as (channel, _):
        status, out, err = execute(channel, command(CROWD, "sh", "-c", RUNAWAY))
    assert (status.end, status.exit_code) == (End.EXITED, 2)
    assert out.split() == [str(number).encode() for number in range(1, TASKS)]
    assert b"Cannot fork" in err


def test_without_a_limit_it_does(agent: Path) -> None:
    with talk(agent) as (channel, _):
        status, out, _err = execute(channel, command(CROWD, "sh", "-c", RUNAWAY))
    assert (status.exit_code, out.split()[-1]) == (0, b"all")


def test_a_neighbour_is_answered_meanwhile(agent: Path) -> None:
    with talk(agent, limited()) as (channel, loop):
        said = Collect()
        script = "trap : HUP; (while :; do sleep 600 & done) 2>/dev/null; echo full; exec sleep 600"
        crowd = channel.start_exec(command(CROWD, "sh", "-c", script), stdout=said, stderr=said, stdin=None)
        until(loop, lambda: b"full" in said.data)
        assert channel.ping(idle=IDLE) > 0
        assert execute(channel, command(NEIGHBOUR, "echo", "here"))[1] == b"here\n"
        assert crowd.status is None
