"""`python -m bench [WHAT] [--world DIR] [--rounds N]` prints tables of ratios; makes what it needs.

`python -m bench boots --boots N --parallel P` boots N machines, P at once.
`python -m bench callers --starts N` starts N machines through one launcher; `warm` takes --starts, too.
"""

import argparse
import os
import tempfile
from pathlib import Path

from rich.console import Console

from bench.boots import boots
from bench.callers import callers
from bench.commands import asking
from bench.figures import Rows, admissions, fetches, figures, sessions
from bench.jailing import jailing
from bench.listing import listing
from bench.log import log
from bench.memory import memory
from bench.neighbours import neighbours
from bench.network import network
from bench.place import Place, prepare
from bench.sharing import sharing
from bench.stream import stream
from bench.verification import verification
from bench.verify import verify
from bench.warm import warm


def machines(console: Console, *, rounds: int) -> None:
    """Measure `mvm ps`, which needs no world."""
    table = Rows(rounds)
    table.add("mvm ps, 50 machines", "python3 -c 'import click'", listing(50, rounds=rounds), "ours < 0.3")
    console.print(table.table)


#: What needs neither a home nor an image.
_WITHOUT_WORLD = {
    "admissions": admissions,
    "fetches": fetches,
    "jail": jailing,
    "log": log,
    "machines": machines,
    "shares": sharing,
    "verification": verification,
    "verify": verify,
}
_WITH_WORLD = {
    "commands": asking,
    "figures": figures,
    "memory": memory,
    "neighbours": neighbours,
    "network": network,
    "sessions": sessions,
    "stream": stream,
}


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Ratios within one run; nothing is judged.")
    parser.add_argument(
        "what", nargs="?", choices=(*_WITHOUT_WORLD, "boots", "callers", "warm", *_WITH_WORLD), default="figures"
    )
    parser.add_argument("--world", type=Path, help="a directory that keeps home, tree and image between runs")
    parser.add_argument("--rounds", type=int, default=7, help="how often each pair is measured")
    parser.add_argument("--boots", type=_positive, help="boots: how many, in the place of 100 alone and 30 by threes")
    parser.add_argument("--parallel", type=_positive, default=1, help="boots: how many at once")
    parser.add_argument("--starts", type=_positive, default=50, help="callers and warm: how many by one launcher")
    given = parser.parse_args()
    if 0 in os.getresuid():
        parser.error("run it as a plain user, whose worlds and machines it makes")
    if given.what in _WITHOUT_WORLD:
        _WITHOUT_WORLD[given.what](Console(width=160), rounds=given.rounds)
        return
    if given.world is not None:
        _measure(given, prepare(given.world.resolve()))
        return
    with tempfile.TemporaryDirectory(prefix="mvmnix-bench-") as name:
        _measure(given, prepare(Path(name)))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _measure(given: argparse.Namespace, place: Place) -> None:
    console = Console(width=160)
    if given.what in {"callers", "warm"}:
        measure = {"callers": callers, "warm": warm}[given.what]
        measure(place, console, rounds=given.rounds, starts=given.starts)
    elif given.what != "boots":
        _WITH_WORLD[given.what](place, console, rounds=given.rounds)
    elif given.boots is None:
        boots(place, console)
    else:
        boots(place, console, ((given.boots, given.parallel),))


main()
