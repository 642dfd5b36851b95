"""Waiting for a descriptor: a signal is heard meanwhile, and what was set before is set again afterwards."""

import os
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from mvmnix.cli.stdio import attentive
from tests.patience import POLL


class HeardError(Exception):
    """The handler ran."""


def heard(_number: int, _frame: FrameType | None) -> None:
    raise HeardError


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_what_can_be_read_is_waited_for(pipe: tuple[int, int]) -> None:
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    with attentive() as attend:
        os.write(pipe[1], b"x")
        attend(pipe[0])
    assert os.read(pipe[0], 1) == b"x"
    assert signal.set_wakeup_fd(before) == before


def test_a_signal_while_nothing_can_be_read(pipe: tuple[int, int]) -> None:
    previous = signal.signal(signal.SIGALRM, heard)
    try:
        with attentive() as attend, pytest.raises(HeardError):
            signal.setitimer(signal.ITIMER_REAL, POLL)
            attend(pipe[0])
    finally:
        signal.signal(signal.SIGALRM, previous)
