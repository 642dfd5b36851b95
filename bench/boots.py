"""Boots many machines, one after the other and some at once, and counts those that hang or fail."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.pairs import Times
from bench.place import TRUE, Place


@dataclass(frozen=True, slots=True)
class Boot:
    """How one run ended and how long it took, in seconds."""

    status: int
    seconds: float
    words: str


def _boot(place: Place) -> Boot:
    begin = time.monotonic()
    done = place.home.mvm("run", "./examples/hello", "--", *TRUE, cwd=place.tree)
    return Boot(done.returncode, time.monotonic() - begin, done.stderr.decode(errors="replace").strip())


def _boots(place: Place, count: int, at_once: int) -> Iterator[Boot]:
    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(lambda _: _boot(place), range(count))


def boots(place: Place, console: Console, series: tuple[tuple[int, int], ...] = ((100, 1), (30, 3))) -> None:
    """Print a table of the given series, each a count and how many run at once."""
    table = Table(
        "boots", "at once", "ended with 0", "others", "seconds each: median (min to max)", title="mvm run … true"
    )
    failures = []
    for count, at_once in series:
        shown = track(
            _boots(place, count, at_once),
            f"{count} boots, {at_once} at once",
            total=count,
            console=Console(stderr=True),
        )
        done = list(shown)
        bad = [boot for boot in done if boot.status != 0]
        failures += bad
        times = Times(tuple(boot.seconds for boot in done))
        table.add_row(str(count), str(at_once), str(count - len(bad)), str(len(bad)), str(times))
    console.print(table)
    for boot in failures:
        console.print(f"ended with {boot.status} after {boot.seconds:.1f} s:\n{boot.words}", markup=False)
