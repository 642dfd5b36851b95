"""Boots many machines, one after the other or some at once, and counts those that stall, hang or fail."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rich.console import Console
from rich.progress import track

from bench.measurement import Figure, in_time
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


def boots(place: Place, series: tuple[tuple[int, int], ...] = ((100, 1), (30, 3))) -> Iterator[Figure]:
    """Measure the given series, each a count and how many run at once; words of what stalled or failed go to stderr."""
    console = Console(stderr=True)
    for count, at_once in series:
        shown = track(
            _boots(place, count, at_once),
            f"{count} boots, {at_once} at once",
            total=count,
            console=console,
        )
        done = list(shown)
        _tell(place, console, done)
        what = f"mvm run … true, {at_once} at once"
        yield in_time(what, tuple(boot.seconds for boot in done), unit="s")
        yield Figure(
            f"{what}: others than 0 of {count} exit codes", "", (float(sum(boot.status != 0 for boot in done)),)
        )
        yield Figure(f"{what}: stalls of {count} boots", "", (float(sum(len(boot.stalls) for boot in done)),))


def _tell(place: Place, console: Console, done: list[Boot]) -> None:
    for line in (line for boot in done for line in boot.stalls):
        console.print(f"{line}; see diagnosis-1.txt in {place.home.state / 'machines'}", markup=False)
    for boot in (boot for boot in done if boot.status != 0):
        console.print(f"ended with {boot.status} after {boot.seconds:.1f} s:\n{boot.words}", markup=False)
