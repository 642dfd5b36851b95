"""Reads the strict TOML in which trust is written down: objects, times and durations; pure."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from mvmnix.errors import ReasonCode
from mvmnix.formats import strict, toml

#: No policy that people read is larger, in bytes.
LIMIT: Final = 2**20

_HINT: Final = "correct the file; docs/reference/trust-policy.md has the format"
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_UNITS: Final = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}


def read[T](data: bytes, path: str, parse: Callable[[strict.Record], T], *, schema: str) -> T:
    """Read a file with `parse`. Raises RefusedError POLICY_MALFORMED with all problems at once; unknown keys are some.

    `path` is the file's, for people; `schema` one of schemas.NAMES.
    """
    try:
        return toml.read(data, path, parse, schema=schema, limit=LIMIT)
    except strict.MalformedError as error:
        raise error.refused(ReasonCode.POLICY_MALFORMED, path, _HINT) from error


def moment(record: strict.Record, name: str) -> datetime:
    """A time in UTC and whole seconds, as TOML writes it: `2036-01-31T12:00:00Z`, without quotation marks.

    What is missing, or anything else, is noted, and a stand-in is returned.
    """
    value = record.value(name)
    if isinstance(value, datetime) and value.utcoffset() == timedelta(0) and not value.microsecond:
        return value.astimezone(UTC)
    if value is not None:
        record.note(f"not a time in UTC like 2036-01-31T12:00:00Z: {str(value)[:80]!r}", name)
    return _EPOCH


def duration(text: str) -> timedelta:
    """Days, hours or minutes, at least one. Raises ValueError.

    >>> duration("90d").days, duration("36h") == timedelta(days=1.5)
    (90, True)
    """
    if not re.fullmatch(r"[1-9][0-9]{0,5}[dhm]", text):
        raise ValueError(f"not a duration like 90d, 36h or 30m: {text[:80]!r}")
    return int(text[:-1]) * _UNITS[text[-1]]


def show_duration(it: timedelta) -> str:
    """A duration as `duration` reads it, in the largest unit that fits.

    >>> show_duration(timedelta(days=90)), show_duration(timedelta(hours=36))
    ('90d', '36h')
    """
    minutes = it // _UNITS["m"]
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes % size == 0:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"
