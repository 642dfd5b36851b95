"""`true` in a guest while another guest runs away, against the same guest alone: what a neighbour's latency becomes.

In turns: each that runs away is paused but for its own turn. What it may take at most is said by its plan's limits.
"""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from bench.commands import execute, opened, plan
from bench.measurement import Figure, in_time, in_turns_with
from bench.pairs import Pair, Times, timed
from bench.place import TRUE, Place

_SPIN = ("/bin/busybox", "sh", "-c", "for each in 1 2 3 4; do (while :; do :; done) & done; wait")
_MULTIPLY = ("/bin/busybox", "sh", "-c", "while :; do (while :; do :; done) & done 2>/dev/null")
_MEMORY = ("/bin/busybox", "sh", "-c", "while :; do dd if=/dev/zero of=/dev/null bs=64M count=1; done 2>/dev/null")
_FLOOD = ("/bin/busybox", "yes")
#: What runs away, by name: what its plan says of it, and its command.
_RUNAWAYS = {
    "4 processors that spin": (("--vcpus", "4"), _SPIN),
    "the same, cpu weight 10": (("--vcpus", "4", "--cpu-weight", "10"), _SPIN),
    "the same, at most 50 % of one": (("--vcpus", "4", "--cpu-percent", "50"), _SPIN),
    "processes, as many as 64": (("--tasks", "64"), _MULTIPLY),
    "all the memory that it gets": ((), _MEMORY),
    "output without an end": ((), _FLOOD),
}
#: So often in a row, each time that something runs away.
_AT_A_TIME = 10


def neighbours(place: Place, *, rounds: int) -> Iterator[Figure]:
    """How long `true` takes in a guest alone, and beside each of them, in turns."""
    found: dict[str, list[float]] = {name: [] for name in ("alone", *_RUNAWAYS)}
    with _running_away(place) as machines, opened(place, plan(place)) as (_, machine):
        execute(machine, TRUE)
        for _ in range(rounds):
            for name, times in found.items():
                if name in machines:
                    place.mvm("resume", machines[name])
                times += [timed(lambda: execute(machine, TRUE)) for _ in range(_AT_A_TIME)]
                if name in machines:
                    place.mvm("pause", machines[name])
    alone = found.pop("alone")
    yield in_time("`true` in a guest alone", alone)
    for name, times in found.items():
        yield in_turns_with(
            f"the same beside {name}", "alone", Pair(Times(tuple(times)), Times(tuple(alone))), unit="ms"
        )
        yield in_time(f"19 of 20 of these beside {name} take less than", (statistics.quantiles(times, n=20)[-1],))


@contextmanager
def _running_away(place: Place) -> Iterator[dict[str, str]]:
    """The ids of the machines that run away, paused."""
    machines: dict[str, str] = {}
    signed = place.home.path / "away.sigstore.json"
    try:
        for name, (options, command) in _RUNAWAYS.items():
            signed.write_bytes(plan(place, *command, options=(*options, "--timeout", "86400")))
            machines[name] = place.mvm("launch", "--detach", signed).stdout.decode().strip()
            place.mvm("pause", machines[name])
        yield machines
    finally:
        for machine in machines.values():
            place.mvm("kill", machine)
