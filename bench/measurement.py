"""A figure as every benchmark returns it: what was measured, in which unit, against what, and what is asked of it."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rich.table import Table

from bench.pairs import Pair

#: By a unit of time: how many of it are a second.
_PER_SECOND: Final = {"s": 1.0, "ms": 1000.0}


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, the least and the largest."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))

    def text(self, form: str = "") -> str:
        """The three as a person reads them; `form` is that of a number, by default three or four digits."""
        middle, least, most = (f"{value:{form}}" if form else _digits(value) for value in self.values)
        return middle if self.least == self.most else f"{middle} ({least} to {most})"

    @property
    def values(self) -> tuple[float, float, float]:
        return self.median, self.least, self.most


def _digits(value: float) -> str:
    size = abs(value)
    return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.{2 if size >= 10 else 3}f}"


@dataclass(frozen=True, slots=True)
class Figure:
    """Values of one thing in rounds, and of what it is compared with in the same rounds, if it is.

    `unit` is "" for a number; `asked` says in words what the project promises of it, if it promises anything.
    """

    what: str
    unit: str
    ours: tuple[float, ...]
    compared: str = ""
    theirs: tuple[float, ...] = ()
    asked: str = ""

    def __post_init__(self) -> None:
        if (
            not self.ours
            or (self.theirs and len(self.theirs) != len(self.ours))
            or bool(self.theirs) != bool(self.compared)
        ):
            raise ValueError(f"{self.what}: there are no values, or they are not of the same rounds")

    @property
    def ratios(self) -> tuple[float, ...]:
        """Those of the rounds; none where it is compared with nothing, or with 0."""
        return () if 0 in self.theirs else tuple(a / b for a, b in zip(self.ours, self.theirs, strict=False))

    @property
    def differences(self) -> tuple[float, ...]:
        """Those of the rounds, in its unit."""
        return tuple(a - b for a, b in zip(self.ours, self.theirs, strict=False))


def in_time(
    what: str, seconds: Sequence[float], asked: str = "", *, unit: Literal["s", "ms"] = "ms", each: int = 1
) -> Figure:
    """A time; `each`: so many of the same were done in it."""
    return Figure(what, unit, tuple(_PER_SECOND[unit] / each * it for it in seconds), asked=asked)


def in_turns_with(
    what: str, compared: str, found: Pair, asked: str = "", *, unit: Literal["s", "ms"] = "s", each: int = 1
) -> Figure:
    """A time, against another one."""
    ours, theirs = (
        tuple(_PER_SECOND[unit] / each * it for it in times.seconds) for times in (found.ours, found.theirs)
    )
    return Figure(what, unit, ours, compared, theirs, asked)


#: The headings of a table of figures.
HEADINGS: Final = (
    "what",
    "unit",
    "ours: median (min to max)",
    "compared with",
    "theirs",
    "difference",
    "ratio",
    "asked",
)


def cells(figure: Figure) -> tuple[str, ...]:
    """What a table says of a figure, in the order of `HEADINGS`."""
    theirs, difference, ratio = (
        Spread.of(values).text(form) if values else ""
        for values, form in ((figure.theirs, ""), (figure.differences, "+.3f"), (figure.ratios, ".2f"))
    )
    ours = Spread.of(figure.ours).text()
    return figure.what, figure.unit, ours, figure.compared, theirs, difference, ratio, figure.asked


def console_table(title: str, figures: Iterable[Figure]) -> Table:
    """The figures of one benchmark, for a terminal."""
    table = Table(*HEADINGS, title=title, show_lines=True)
    for figure in figures:
        table.add_row(*cells(figure))
    return table
