"""`python -m bench [figures|boots|fetches|sessions] [--world DIR] [--rounds N]` prints tables; makes what it needs."""

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from bench.boots import boots
from bench.figures import fetches, figures, sessions
from bench.place import Place, prepare


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Ratios within one run; nothing is judged.")
    parser.add_argument("what", nargs="?", choices=("figures", "boots", "fetches", "sessions"), default="figures")
    parser.add_argument("--world", type=Path, help="a directory that keeps home, tree and image between runs")
    parser.add_argument("--rounds", type=int, default=7, help="how often each pair is measured")
    given = parser.parse_args()
    if given.what == "fetches":
        fetches(Console(width=160), rounds=given.rounds)
        return
    if given.world is not None:
        _measure(given.what, prepare(given.world.resolve()), given.rounds)
        return
    with tempfile.TemporaryDirectory(prefix="mvmnix-bench-") as name:
        _measure(given.what, prepare(Path(name)), given.rounds)


def _measure(what: str, place: Place, rounds: int) -> None:
    console = Console(width=160)
    match what:
        case "boots":
            boots(place, console)
        case "sessions":
            sessions(place, console, rounds=rounds)
        case _:
            figures(place, console, rounds=rounds)


main()
