"""How long tests wait: every wait and limit of theirs is one of these, scaled by how slow this machine is today."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

#: Hands the factor on to xdist's workers and to programs that tests start, so that it is measured once.
VARIABLE: Final = "MVMNIX_TEST_PATIENCE"
_MOST: Final = 20.0
#: Of time-outs that run out, for these are waited for; and of a hung command, or it would take a night.
_MOST_SCALED: Final = 5.0
_WORK: Final = (sys.executable, "-I", "-S", "-c", "sum(range(1_000_000))")
#: Seconds that the work takes on an idle machine of 2024.
_REFERENCE: Final = 0.05
_RUNS: Final = 5


def measure() -> float:
    """Return how many times slower than the reference this machine is: at least 1, at most 20.

    A machine whose processors are wanted by several processes each is slower by as much again, for the best of the
    runs may have had a processor of its own.
    """
    runs = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        subprocess.run(_WORK, check=True, env={}, stdin=subprocess.DEVNULL)
        runs.append(time.perf_counter() - began)
    return bounded(min(runs) / _REFERENCE, os.getloadavg()[0] / (os.process_cpu_count() or 1))


def bounded(slowness: float, load: float) -> float:
    """The factor of a machine that is so many times slower, with so many processes for each processor."""
    return min(_MOST, max(1.0, slowness) * max(1.0, load))


def factor() -> float:
    """Return the factor that was handed on, or measure it and hand it on."""
    try:
        given = float(os.environ.get(VARIABLE, ""))
    except ValueError:
        given = math.nan
    if not 1.0 <= given <= _MOST:
        given = round(measure(), 2)
    os.environ[VARIABLE] = f"{given:.2f}"
    return given


FACTOR: Final = factor()


def scaled(seconds: float) -> int:
    """Return whole seconds that are enough on the reference machine, for this one.

    For a time-out of mvm's that a test has run out after something that has to come in time: a boot, a connection.
    """
    return math.ceil(seconds * min(FACTOR, _MOST_SCALED))


#: Seconds after which a command that builds or boots counts as hung.
PATIENCE: Final = scaled(1800)
#: The same of one answer, one event or a small program.
EVENT_PATIENCE: Final = math.ceil(120 * FACTOR)
#: Seconds in which nothing must happen. On a slow machine such a wait can miss a fault, and never makes one.
QUIET: Final = 0.3
#: Seconds of a time-out of mvm's that a test has run out: what it waits for never comes, so load can only delay it.
SHORT: Final = 0.2
#: Seconds between two looks at something that comes by itself.
POLL: Final = 0.02


def until[T](
    find: Callable[[], T],
    describe: Callable[[], object] = lambda: "",
    rest: Callable[[], object] = lambda: time.sleep(POLL),
    *,
    seconds: float = EVENT_PATIENCE,
) -> T:
    """Wait for what a function finds, and return it.

    Args:
        find: Returns something true once it is there.
        describe: What the failure says if it never is.
        rest: What is done between two looks.
        seconds: After which it counts as hung; PATIENCE for what takes a boot or a build.
    """
    limit = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < limit, describe()
        rest()
    return found
