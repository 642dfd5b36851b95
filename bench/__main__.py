"""`python -m bench [WHAT] [--world DIR] [--rounds N]` prints a table of figures; makes what it needs.

`python -m bench boots --boots N --parallel P` boots N machines, P at once.
`python -m bench callers --starts N` starts N machines through one launcher; `warm` and `snapshots` take it, too.
`python -m bench report --out DIR [--only WHAT…]` measures all, and writes report.json, report.html, report.png there.
"""

import argparse
import compileall
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Final, Protocol

from rich.console import Console

import mvmnix
from bench.boot_instructions import boot_instructions
from bench.boots import boots
from bench.callers import callers
from bench.commands import asking
from bench.figures import admissions, fetches, figures, sessions
from bench.jailing import jailing
from bench.listing import machines
from bench.log import log
from bench.measurement import Figure, console_table
from bench.memory import memory
from bench.neighbours import neighbours
from bench.network import network
from bench.place import Place, prepare
from bench.report import NeedsMatplotlibError, report
from bench.sharing import sharing
from bench.snapshots import snapshots
from bench.stream import stream
from bench.verification import verification
from bench.verify import verify
from bench.warm import warm

_WIDTH: Final = 160


class _Alone(Protocol):
    """A benchmark that needs neither a home nor an image."""

    def __call__(self, *, rounds: int) -> Iterator[Figure]: ...


class _InPlace(Protocol):
    """A benchmark of a user who has run examples/hello."""

    def __call__(self, place: Place, /, *, rounds: int) -> Iterator[Figure]: ...


_ALONE: Final[Mapping[str, _Alone]] = {
    "admissions": admissions,
    "fetches": fetches,
    "jail": jailing,
    "log": log,
    "machines": machines,
    "shares": sharing,
    "verification": verification,
    "verify": verify,
}
_IN_PLACE: Final[Mapping[str, _InPlace]] = {
    "commands": asking,
    "figures": figures,
    "instructions": boot_instructions,
    "memory": memory,
    "neighbours": neighbours,
    "network": network,
    "sessions": sessions,
    "stream": stream,
}
#: Benchmarks with numbers of their own.
_COUNTED: Final = ("boots", "callers", "snapshots", "warm")
_NAMES: Final = tuple(sorted((*_ALONE, *_IN_PLACE, *_COUNTED)))
#: What a report of everything leaves out, because another benchmark has it: `figures` and `callers`.
_PARTS: Final = frozenset({"fetches", "sessions", "stream"})


def main() -> int:
    """Measure what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Ratios within one run; nothing is judged.")
    parser.add_argument("what", nargs="?", choices=("report", *_NAMES), default="figures")
    parser.add_argument("--world", type=Path, help="a directory that keeps home, tree and image between runs")
    parser.add_argument("--rounds", type=_positive, default=7, help="how often each pair is measured")
    parser.add_argument("--boots", type=_positive, help="boots: how many, in the place of 100 alone and 30 by threes")
    parser.add_argument("--parallel", type=_positive, default=1, help="boots: how many at once")
    parser.add_argument(
        "--starts", type=_positive, default=50, help="callers, snapshots and warm: how many by one launcher"
    )
    parser.add_argument("--only", nargs="+", choices=_NAMES, metavar="WHAT", help="report: these, and no others")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="report: the directory of its files")
    given = parser.parse_args()
    if 0 in os.getresuid():
        parser.error("run it as a plain user, whose worlds and machines it makes")
    _compile()
    with _place(given.world) as place:
        measured = {name: partial(_measure, given, name, place) for name in _chosen(given)}
        if given.what != "report":
            console = Console(width=_WIDTH)
            for name, measure in measured.items():
                console.print(console_table(f"{name}: in turns, {given.rounds} rounds or more", measure()))
            return 0
        try:
            failed = report(given.out, measured, rounds=given.rounds)
        except NeedsMatplotlibError as error:
            parser.error(str(error))
    return 1 if failed else 0


def _chosen(given: argparse.Namespace) -> tuple[str, ...]:
    if given.what != "report":
        return (given.what,)
    return tuple(dict.fromkeys(given.only or (name for name in _NAMES if name not in _PARTS)))


def _compile() -> None:
    """Compile mvm's modules, as an installation does, so that no command that is measured compiles them itself."""
    if not compileall.compile_dir(Path(mvmnix.__file__).parent, quiet=2):
        warning = "mvm's bytecode isn't current and can't be written: each command compiles its modules anew"
        print(f"{warning}; run python -m compileall mvmnix as the tree's owner", file=sys.stderr)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


@contextmanager
def _place(kept: Path | None) -> Iterator[Callable[[], Place]]:
    """What makes the place, once, for the first benchmark that needs it."""
    if kept is not None:
        yield cache(lambda: prepare(kept.resolve()))
        return
    with tempfile.TemporaryDirectory(prefix="mvmnix-bench-") as name:
        yield cache(lambda: prepare(Path(name)))


def _measure(given: argparse.Namespace, name: str, place: Callable[[], Place]) -> list[Figure]:
    """Run a benchmark; the variables of this process are afterwards what they were."""
    variables = dict(os.environ)
    try:
        if (alone := _ALONE.get(name)) is not None:
            return list(alone(rounds=given.rounds))
        if name == "boots":
            return list(boots(place()) if given.boots is None else boots(place(), ((given.boots, given.parallel),)))
        counted = {"callers": callers, "snapshots": snapshots, "warm": warm}
        if name in counted:
            return list(counted[name](place(), rounds=given.rounds, starts=given.starts))
        return list(_IN_PLACE[name](place(), rounds=given.rounds))
    finally:
        os.environ.clear()
        os.environ.update(variables)


sys.exit(main())
