"""Times things in turns, so that whatever else the machine does meets all of them alike; knows no mvm."""

import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import override

type Subject = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Times:
    """How long one subject took, in seconds, each time."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @override
    def __str__(self) -> str:
        return f"{self.median:.3f} ({min(self.seconds):.3f} to {max(self.seconds):.3f})"


class Milliseconds(Times):
    """The same times, for people to whom a millisecond is long."""

    @override
    def __str__(self) -> str:
        low, middle, high = (1000 * each for each in (min(self.seconds), self.median, max(self.seconds)))
        return f"{middle:.3f} ({low:.3f} to {high:.3f})"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two subjects that were timed in turns: A B A B."""

    ours: Times
    theirs: Times

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios: each round compares two neighbours in time."""
        return statistics.median(a / b for a, b in zip(self.ours.seconds, self.theirs.seconds, strict=True))

    @property
    def difference(self) -> float:
        """The median of the rounds' differences, in seconds."""
        return statistics.median(a - b for a, b in zip(self.ours.seconds, self.theirs.seconds, strict=True))


def children() -> float:
    """User and system time of all children that have ended, in seconds: other processes' load changes it less."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(subject: Subject) -> float:
    """How long it takes, in seconds."""
    begin = time.monotonic()
    subject()
    return time.monotonic() - begin


def in_turns(subjects: Mapping[str, Subject], *, rounds: int) -> dict[str, Times]:
    """Time all subjects once a round; a round before the first, which fills caches, doesn't count."""
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds + 1):
        for name, subject in subjects.items():
            seconds = timed(subject)
            if number:
                taken[name].append(seconds)
    return {name: Times(tuple(seconds)) for name, seconds in taken.items()}


def pair(ours: Subject, theirs: Subject, *, rounds: int) -> Pair:
    """Time two subjects in turns."""
    times = in_turns({"ours": ours, "theirs": theirs}, rounds=rounds)
    return Pair(times["ours"], times["theirs"])


def pair_by_both(ours: Subject, theirs: Subject, *, rounds: int) -> tuple[Pair, Pair]:
    """Time two subjects that start processes, in turns: by the clock on the wall, and by what the processes used."""
    clocks = (time.monotonic, children)
    taken: list[list[tuple[float, ...]]] = [[], []]
    for number in range(rounds + 1):
        for subject, rows in zip((ours, theirs), taken, strict=True):
            begin = [clock() for clock in clocks]
            subject()
            if number:
                rows.append(tuple(clock() - before for clock, before in zip(clocks, begin, strict=True)))
    wall, used = (tuple(Times(tuple(row[which] for row in rows)) for rows in taken) for which in range(len(clocks)))
    return Pair(*wall), Pair(*used)
