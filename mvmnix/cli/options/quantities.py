"""The types of options that take a span of time, a moment or a size: each is read by one parser."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final, override

import click

from mvmnix.clock import now

_SPANS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
#: Words for a unit, as systemd.time(7) has them, and an s behind most of them.
_WORDS: Final = {"s": "sec|second", "m": "min|minute", "h": "hr|hour", "d": "day", "w": "week"}
_UNITS: Final = {
    name: unit for unit, words in _WORDS.items() for word in (unit, *words.split("|")) for name in (word, f"{word}s")
}
_PART: Final = re.compile(r"([0-9]{1,10}) ?([a-z]+) ?", re.ASCII)
#: KiB in a unit of size.
_SIZES: Final = {"k": 1, "m": 1 << 10, "g": 1 << 20, "t": 1 << 30}
#: Characters of what is typed.
_LONGEST: Final = 64
#: Digits from which on a number alone is a moment, in seconds since 1970.
_EPOCH: Final = re.compile(r"[0-9]{9,11}", re.ASCII)


def parse_span(text: str) -> int:
    """Return the seconds in a number with a unit, or in some of them.

    Raises:
        ValueError: no span of time.

    >>> parse_span("90s"), parse_span("1h30m"), parse_span("2 hours")
    (90, 5400, 7200)
    """
    lower = text.strip().lower()
    parts = _PART.findall(lower) if len(text) <= _LONGEST and re.fullmatch(f"(?:{_PART.pattern})+", lower) else []
    if not parts or any(name not in _UNITS for _, name in parts):
        raise ValueError(f"not a span of time: {text[:_LONGEST]!r}")
    return sum(int(number) * _SPANS[_UNITS[name]] for number, name in parts)


def parse_moment(text: str, present: datetime) -> datetime:
    """Return the moment in UTC that is meant: a span before `present`, a word, a date, or seconds since 1970.

    A date or time without an offset is meant in the local time zone; `today` and `yesterday` begin at midnight there.

    Raises:
        ValueError: no moment.
    """
    lower = text.strip().lower()
    midnight = present.astimezone().replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    days = {"today": 0, "yesterday": 1}
    try:
        if lower == "now":
            return present
        if lower in days:
            return (midnight - timedelta(days=days[lower])).astimezone(UTC)
        if _EPOCH.fullmatch(lower):
            return datetime.fromtimestamp(int(lower), UTC)
        if len(text) <= _LONGEST and re.match(r"[0-9]{4}-", lower):
            return datetime.fromisoformat(text.strip()).astimezone(UTC)
        return present - timedelta(seconds=parse_span(lower.removesuffix("ago")))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"not a moment: {text[:_LONGEST]!r}") from error


def parse_size_in(text: str, unit: str) -> int:
    """Return a size in `unit`, k or m for KiB or MiB, which a number alone is in as well.

    Raises:
        ValueError: no size, or no whole number of units.

    >>> parse_size_in("1g", "m"), parse_size_in("512", "m"), parse_size_in("16MiB", "k")
    (1024, 512, 16384)
    """
    found = re.fullmatch(r"([0-9]{1,12})([kmgt]?)(?:i?b)?", text.lower(), re.ASCII)
    count, rest = divmod(int(found[1]) * _SIZES[found[2] or unit], _SIZES[unit]) if found else (0, 1)
    if rest:
        raise ValueError(f"not a size in whole {unit.upper()}iB: {text[:_LONGEST]!r}")
    return count


class Span(click.ParamType[int]):
    """A span of time; a number alone is in the option's unit, and so is the value."""

    name = "span"

    def __init__(self, unit: str, least: int, most: int) -> None:
        """`unit` is s, h or d; the bounds are in it."""
        self._unit, self._least, self._most = unit, least, most

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of units; a part of one is refused, as rounding would change what is signed."""
        text = str(value)
        try:
            seconds = parse_span(f"{text}{self._unit}" if text.isdecimal() else text)
        except ValueError:
            self.fail(f"{text[:_LONGEST]!r} is not a span of time: write 90s, 10m, 1h30m or 2d.", param, ctx)
        count, rest = divmod(seconds, _SPANS[self._unit])
        if rest:
            self.fail(f"{text[:_LONGEST]!r} is not in whole {_WORDS[self._unit].rpartition('|')[2]}s.", param, ctx)
        if not self._least <= count <= self._most:
            bounds = f"{self._least}{self._unit} to {self._most}{self._unit}"
            self.fail(f"{text[:_LONGEST]!r} is not in the range from {bounds}.", param, ctx)
        return count


class Moment(click.ParamType[datetime]):
    """A moment, by words or as a date; the value is in UTC."""

    name = "moment"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment that is meant."""
        try:
            return parse_moment(str(value), now())
        except ValueError:
            forms = "write 10m, '2 hours ago', yesterday, 2026-01-31 or 2026-01-31T12:00Z"
            self.fail(f"{str(value)[:_LONGEST]!r} is not a moment: {forms}.", param, ctx)


class Size(click.ParamType[int]):
    """A size in powers of 1024; a number alone is in the option's unit, and so is the value."""

    name = "size"

    def __init__(self, unit: str, least: int, most: int) -> None:
        """`unit` is k or m, for KiB or MiB; the bounds are in it."""
        self._unit, self._least, self._most = unit, least, most

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of units; a part of one is refused."""
        try:
            count = parse_size_in(str(value), self._unit)
        except ValueError:
            count = -1
        if not self._least <= count <= self._most:
            bounds = f"{_show_size(self._least, self._unit)} to {_show_size(self._most, self._unit)}"
            self.fail(f"{str(value)[:_LONGEST]!r} is not a size from {bounds}: write 512m or 2g.", param, ctx)
        return count


def _show_size(count: int, unit: str) -> str:
    """Return a bound in the largest unit below t that it is a whole number of."""
    kib = count * _SIZES[unit]
    shown = next((each for each in "gm" if kib and kib % _SIZES[each] == 0), "k")
    return f"{kib // _SIZES[shown]}{shown}"
