"""What the agent's keeper may do, and what it answers."""

import errno
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import patience
from tests.integration.freezer_house import (
    ANSWER,
    CLOCK,
    ENTROPY,
    NAME,
    REQUEST,
    SECRET,
)
from tests.seccomp import ALLOW, I386, KILL, numbers, verdict

pytestmark = pytest.mark.integration


type Ask = Callable[..., tuple[int, int]]
type AskFilter = Callable[..., int]


@contextmanager
def real_keeper(agent: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Ask]]:
    """The agent's own keeper, in namespaces of users and of host names, and what asks it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    argv = ["unshare", "--user", "--map-root-user", "--uts", "--", str(agent), "--keep", str(theirs.fileno())]
    with subprocess.Popen(argv, pass_fds=[theirs.fileno()]) as child, ours:
        theirs.close()
        ours.settimeout(patience.EVENT_PATIENCE)

        def ask(parts: int, *, offset: int = 0, hostname: bytes = b"") -> tuple[int, int]:
            ours.send(REQUEST.pack(parts, offset, SECRET, hostname))
            part, number = ANSWER.unpack(ours.recv(4096))
            return part, number

        yield child, ask
        ours.shutdown(socket.SHUT_RDWR)
        assert child.wait(patience.EVENT_PATIENCE) == 0


def test_the_keeper_has_no_right_but_its_own(agent: Path) -> None:
    with real_keeper(agent) as (child, ask):
        assert ask(NAME, hostname=b"twin") == (0, 0)
        pairs = (line.split(":") for line in Path(f"/proc/{child.pid}/status").read_text().splitlines())
        status = {name: value.strip() for name, value in pairs}
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 1 << 21 | 1 << 25
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_the_keeper_says_what_it_could_not_do(agent: Path) -> None:
    """In a namespace of users nobody may add entropy or set the clock (capabilities(7))."""
    near = time.time_ns() - time.monotonic_ns()
    with real_keeper(agent) as (_, ask):
        assert ask(ENTROPY | CLOCK | NAME, offset=near, hostname=b"x") == (ENTROPY, errno.EPERM)
        assert ask(CLOCK, offset=near - 10**12) == (CLOCK, errno.EPERM)
        assert ask(CLOCK | NAME, offset=near, hostname=b"x") == (0, 0), "a clock that is as near is left alone"
        assert ask(0) == (0, 0)


@pytest.fixture(scope="module")
def ask_filter(agent: Path) -> AskFilter:
    """What the program of its filter says to a call by name."""
    program = subprocess.run([agent, "--keeper-filter"], check=True, capture_output=True).stdout
    known = numbers()
    return lambda name, *arguments, **architecture: verdict(program, known[name], *arguments, **architecture)


#: Of ioctl(2) and clock_settime(2); and the calls that it may make whatever their arguments.
ADD_ENTROPY, RESEED, REALTIME, MONOTONIC = 0x40085203, 0x5207, 0, 1
WITHOUT = {"clock_gettime", "sethostname", "exit_group"}


def test_the_keeper_makes_no_other_call(ask_filter: AskFilter) -> None:
    assert {name for name in numbers() if ask_filter(name, 9, 9, 9) != KILL} == WITHOUT
    assert {ask_filter(name, *range(6), architecture=I386) for name in numbers()} == {KILL}


def test_the_keeper_makes_its_calls_in_no_other_way(ask_filter: AskFilter) -> None:
    assert {ask_filter(name, fd) for name in ("recvfrom", "sendto") for fd in range(1, 32)} == {KILL}
    assert {ask_filter(name, 0) for name in ("recvfrom", "sendto")} == {ALLOW}
    assert (ask_filter("clock_settime", REALTIME), ask_filter("clock_settime", MONOTONIC)) == (ALLOW, KILL)
    assert {ask_filter("ioctl", 1, command) for command in (ADD_ENTROPY, RESEED)} == {ALLOW}
    others = {*range(0x5200, 0x5300), *(ADD_ENTROPY ^ 1 << bit for bit in range(32))} - {ADD_ENTROPY, RESEED}
    assert {ask_filter("ioctl", 1, command) for command in others} == {KILL}
