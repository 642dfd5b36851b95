"""Boots many machines, one after the other or some at once, and counts those that stall, hang or fail."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.pairs import Times
from bench.place import TRUE, Place

#: What `mvm run` says of a boot that came to nothing.
_BEGUN_AGAIN = "it is started once more"


@dataclass(frozen=True, slots=True)
class Boot:
    """How one run ended and how long it took, in seconds."""

    status: int
    seconds: float
    words: str

    @property
    def stalls(self) -> list[str]:
        """The lines that tell of a boot without progress."""
        return [line for line in self.words.splitlines() if _BEGUN_AGAIN in line]


def _boot(place: Place) -> Boot:
    begin = time.monotonic()
    done = place.home.mvm("run", "./examples/hello", "--", *TRUE, cwd=place.tree)
    return Boot(done.returncode, time.monotonic() - begin, done.stderr.decode(errors="replace").strip())


def _boots(place: Place, count: int, at_once: int) -> Iterator[Boot]:
    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(lambda _: _boot(place), range(count))


def boots(place: Place, console: Console, series: tuple[tuple[int, int], ...] = ((100, 1), (30, 3))) -> None:
    """Print a table of the given series, each a count and how many run at once; then what stalled and what failed."""
    headings = ("boots", "at once", "ended with 0", "others", "stalls", "seconds each: median (min to max)")
    table = Table(*headings, title="mvm run … true")
    all_done = list[Boot]()
    for count, at_once in series:
        shown = track(
            _boots(place, count, at_once),
            f"{count} boots, {at_once} at once",
            total=count,
            console=Console(stderr=True),
        )
        done = list(shown)
        all_done += done
        good = sum(boot.status == 0 for boot in done)
        stalls = sum(len(boot.stalls) for boot in done)
        times = Times(tuple(boot.seconds for boot in done))
        table.add_row(str(count), str(at_once), str(good), str(count - good), str(stalls), str(times))
    console.print(table)
    for line in (line for boot in all_done for line in boot.stalls):
        console.print(f"{line}; see diagnosis-1.txt in {place.home.state / 'machines'}", markup=False)
    for boot in (boot for boot in all_done if boot.status != 0):
        console.print(f"ended with {boot.status} after {boot.seconds:.1f} s:\n{boot.words}", markup=False)
