"""What the agent makes of readings of the host's clock: they may be late, and are never early."""

import subprocess
from itertools import chain
from pathlib import Path

import pytest

from mvmnix.launch.agent.frames import Ping, Pong, Time
from tests.integration.agent_house import raw

pytestmark = pytest.mark.integration

SECOND = 10**9


def estimates(agent: Path, *readings: tuple[int, int]) -> list[int]:
    """Of (offset, seconds of the guest's clock since its boot)."""
    words = chain.from_iterable((str(offset), str(now * SECOND)) for offset, now in readings)
    said = subprocess.run([agent, "--clock", *words], check=True, capture_output=True, text=True).stdout
    return [int(line) for line in said.split()]


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        ([5], [5]),
        ([-5, -9, -5, -1], [-5, -5, -5, -1]),
        ([5, 6, 9], [5, 6, 9]),  # a clock that is slow
        ([9, 8, 7, 6, 5, 4, 3, 2, 1], [*[9] * 8, 8]),  # one that is fast
        ([9, *[1, 7, 3] * 3], [*[9] * 8, 7, 7]),
        ([9, *[3] * 7, 9, *[3] * 7, 4], [*[9] * 16, 4]),
        ([5, 10**10, 5], [5, 10**10, 10**10]),  # the host's own was set
    ],
)
def test_a_reading_is_never_early(agent: Path, offsets: list[int], expected: list[int]) -> None:
    readings = [(offset, 10 * number) for number, offset in enumerate(offsets)]
    assert estimates(agent, *readings) == expected


def test_readings_that_were_held_up_together_are_one(agent: Path) -> None:
    """As after a stop of the whole machine: the newest is near, and those before it are older and older."""
    held_up = [(9 - late, 1000) for late in range(9, -1, -1)]
    assert estimates(agent, (9, 0), *held_up) == [9] * 11
    assert estimates(agent, (9, 0), *[(1, 1000)] * 20) == [9] * 21


def test_a_guest_that_is_ready_takes_the_time_and_answers_nothing(agent: Path) -> None:
    """In this mode it sets no clock."""
    with raw(agent) as host:
        host.says(Time(1), Time(2**63 - 1), Ping(7))
        assert host.hears() == Pong(7)


@pytest.mark.parametrize(("is_ready", "time"), [(False, 1), (True, 2**63)])
def test_no_other_time_is_taken(agent: Path, *, is_ready: bool, time: int) -> None:
    with raw(agent, ready=is_ready) as host:
        host.says(Time(time))
        assert host.hears() is None
