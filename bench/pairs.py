"""Times things in turns, so that whatever else the machine does meets all of them alike; knows no mvm."""

import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

type Subject = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Times:
    """How long one subject took, in seconds, each time."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two subjects that were timed in turns: A B A B."""

    ours: Times
    theirs: Times

    @property
    def ratios(self) -> tuple[float, ...]:
        """Those of the rounds: each round compares two neighbours in time."""
        return tuple(a / b for a, b in zip(self.ours.seconds, self.theirs.seconds, strict=True))

    @property
    def differences(self) -> tuple[float, ...]:
        """Those of the rounds, in seconds."""
        return tuple(a - b for a, b in zip(self.ours.seconds, self.theirs.seconds, strict=True))

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(self.ratios)

    @property
    def difference(self) -> float:
        """The median of the rounds' differences, in seconds."""
        return statistics.median(self.differences)


def children() -> float:
    """User and system time of all children that have ended, in seconds: other processes' load changes it less."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(subject: Subject) -> float:
    """How long it takes, in seconds."""
    begin = time.monotonic()
    subject()
    return time.monotonic() - begin


def _nothing(_name: str) -> None:
    pass


def by_clocks(
    clocks: Sequence[Callable[[], float]],
    subjects: Mapping[str, Subject],
    *,
    rounds: int,
    prepare: Callable[[str], object] = _nothing,
) -> tuple[dict[str, Times], ...]:
    """Time all subjects once a round, by each clock; a round before the first, which fills caches, doesn't count.

    `prepare` is called with a subject's name before it, and isn't timed.
    """
    taken: list[dict[str, list[float]]] = [{name: [] for name in subjects} for _ in clocks]
    for number in range(rounds + 1):
        for name, subject in subjects.items():
            prepare(name)
            begin = [clock() for clock in clocks]
            subject()
            end = [clock() for clock in clocks]
            if number:
                for times, before, after in zip(taken, begin, end, strict=True):
                    times[name].append(after - before)
    return tuple({name: Times(tuple(seconds)) for name, seconds in times.items()} for times in taken)


def in_turns(
    subjects: Mapping[str, Subject], *, rounds: int, prepare: Callable[[str], object] = _nothing
) -> dict[str, Times]:
    """Time all subjects once a round by the clock on the wall, as `by_clocks` does."""
    return by_clocks((time.monotonic,), subjects, rounds=rounds, prepare=prepare)[0]


def pair(ours: Subject, theirs: Subject, *, rounds: int) -> Pair:
    """Time two subjects in turns."""
    times = in_turns({"ours": ours, "theirs": theirs}, rounds=rounds)
    return Pair(times["ours"], times["theirs"])


def pair_by_both(ours: Subject, theirs: Subject, *, rounds: int) -> tuple[Pair, Pair]:
    """Time two subjects that start processes, in turns: by the clock on the wall, and by what the processes used."""
    wall, used = by_clocks((time.monotonic, children), {"ours": ours, "theirs": theirs}, rounds=rounds)
    return Pair(wall["ours"], wall["theirs"]), Pair(used["ours"], used["theirs"])
