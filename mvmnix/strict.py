"""Reads untrusted JSON and TOML values into typed ones, naming every problem; writes the one canonical JSON form.

No file, clock or network. The numbers that JSON has beyond integers are refused: no claim of ours needs them.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NoReturn, cast

from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.model import Digest

#: Deeper nesting than any claim of ours has; Python's own parser stops later, by the C stack.
MAX_DEPTH: Final = 32
#: Largest integer that every JSON reader keeps exact (RFC 8259, section 6).
MAX_INTEGER: Final = 2**53 - 1

_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class MalformedError(ValueError):
    """An input is not what its format says; carries every problem that was found."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems

    def refused(self, code: ReasonCode, what: str, hint: str) -> RefusedError:
        """The same as a refusal, one reason for each problem."""
        return RefusedError(*(Reason(code, what, problem, hint) for problem in self.problems))


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = Counter(name for name, _ in pairs)
        raise MalformedError(*(f"the key {name!r} stands there twice" for name in sorted(names) if names[name] > 1))
    return result


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        raise MalformedError(f"the number {text[:24]} is too large")
    return int(text)


def _no_number(text: str) -> NoReturn:
    raise MalformedError(f"the number {text[:24]} is not an integer")


def _check(value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise MalformedError(f"nested deeper than {MAX_DEPTH} levels")
    match value:
        case str():
            # lone surrogates, which \ud800 escapes can make, are a UnicodeEncodeError
            value.isascii() or value.encode()
        case list():
            for item in value:
                _check(item, depth + 1)
        case dict():
            for name, item in value.items():
                _check(name, depth)
                _check(item, depth + 1)
        case _:
            pass


def parse_json(data: bytes, *, limit: int = 16 * 2**20) -> object:
    """The value of a JSON text (RFC 8259) in UTF-8 of at most `limit` bytes.

    Duplicate keys, floats, NaN, lone surrogates and deep nesting raise MalformedError.
    """
    if len(data) > limit:
        raise MalformedError(f"larger than {limit} bytes")
    try:
        value: object = json.loads(
            data.decode(),
            object_pairs_hook=_no_duplicates,
            parse_int=_integer,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
        _check(value, 0)
    except MalformedError:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"not JSON in UTF-8: {error}") from error
    return value


def canonical(value: object) -> bytes:
    """Canonical JSON: sorted keys, no spaces, ASCII only, no newline at the end. The same value, the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def show_time(moment: datetime) -> str:
    """RFC 3339 in UTC and whole seconds, as claims carry it: `2026-01-31T12:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """The only form of RFC 3339 that `show_time` writes. Raises ValueError."""
    if not _TIME.fullmatch(text):
        raise ValueError(f"not a time like 2026-01-31T12:00:00Z: {text!r}")
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


class Record:
    """One object while it is read: each field is asked for once; what nobody asked for is a problem.

    A scalar that is missing or wrong is noted and a stand-in is returned; `read` never lets that stand-in out.
    """

    def __init__(self, value: object, where: str, problems: list[str]) -> None:
        if not isinstance(value, dict):
            raise MalformedError(f"{where}: not an object")
        # the keys of JSON and TOML are text
        self._fields: Mapping[str, object] = cast("dict[str, object]", value)
        self._where = where
        self._problems = problems
        self._asked: set[str] = set()

    def _problem(self, name: str, text: str) -> None:
        self._problems.append(f"{self._where}.{name}: {text}")

    def _take(self, name: str) -> object:
        self._asked.add(name)
        if name not in self._fields:
            self._problem(name, "missing")
        return self._fields.get(name)

    def _found(self, name: str) -> bool:
        return name in self._fields

    def has(self, name: str) -> bool:
        """Whether an optional field stands there."""
        self._asked.add(name)
        return name in self._fields

    def names(self) -> tuple[str, ...]:
        """All keys, for objects whose keys are data."""
        return tuple(self._fields)

    def text(self, name: str, pattern: str = r"[^\x00]*", limit: int = 65_536) -> str:
        """A string that matches `pattern` in full and has at most `limit` characters."""
        value = self._take(name)
        if isinstance(value, str) and len(value) <= limit and re.fullmatch(pattern, value):
            return value
        if self._found(name):
            self._problem(name, f"not a string of the expected form: {str(value)[:80]!r}")
        return ""

    def integer(self, name: str, low: int, high: int) -> int:
        """An integer in [low, high]; `true` is none."""
        value = self._take(name)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        if self._found(name):
            self._problem(name, f"not an integer from {low} to {high}: {str(value)[:80]!r}")
        return low

    def flag(self, name: str) -> bool:
        """`true` or `false`."""
        value = self._take(name)
        if isinstance(value, bool):
            return value
        if self._found(name):
            self._problem(name, f"neither true nor false: {str(value)[:80]!r}")
        return False

    def parsed[T](self, name: str, parse: Callable[[str], T], stand_in: T, limit: int = 65_536) -> T:
        """A string that `parse` accepts, which raises ValueError otherwise."""
        value = self.text(name, limit=limit)
        try:
            return parse(value)
        except ValueError as error:
            if self._found(name):
                self._problem(name, str(error))
            return stand_in

    def digest(self, name: str = "sha256") -> Digest:
        """A SHA-256 digest in hexadecimal."""
        return self.parsed(name, Digest, Digest("0" * 64))

    def time(self, name: str) -> datetime:
        """A time as `show_time` writes it."""
        return self.parsed(name, parse_time, datetime.fromtimestamp(0, UTC))

    def choice[E: StrEnum](self, name: str, kind: type[E]) -> E:
        """A member of an enumeration, by its value."""
        return self.parsed(name, kind, next(iter(kind)))

    def array(self, name: str, limit: int = 65_536) -> tuple[object, ...]:
        """An array of at most `limit` values that the caller will read."""
        value = self._take(name)
        if isinstance(value, list) and len(value) <= limit:
            return tuple(value)
        if self._found(name):
            self._problem(name, f"not an array of at most {limit} values")
        return ()

    def texts(self, name: str, pattern: str = r"[^\x00]*", limit: int = 65_536) -> tuple[str, ...]:
        """An array of strings that match `pattern` in full."""
        values = self.array(name, limit)
        good = tuple(value for value in values if isinstance(value, str) and re.fullmatch(pattern, value))
        if len(good) != len(values):
            self._problem(name, "not an array of strings of the expected form")
        return good

    def integers(self, name: str, low: int, high: int, limit: int = 65_536) -> tuple[int, ...]:
        """An array of integers in [low, high]."""
        values = self.array(name, limit)
        good = tuple(v for v in values if isinstance(v, int) and not isinstance(v, bool) and low <= v <= high)
        if len(good) != len(values):
            self._problem(name, f"not an array of integers from {low} to {high}")
        return good

    def value(self, name: str) -> object:
        """A value that another parser will read."""
        return self._take(name)

    def child[T](self, name: str, parse: "Callable[[Record], T]") -> T:
        """An object in this object. Raises MalformedError when it is none, or when `parse` does."""
        return _read(self._take(name), f"{self._where}.{name}", parse, self._problems)

    def each[T](self, name: str, parse: "Callable[[Record], T]", limit: int = 65_536) -> tuple[T, ...]:
        """An array of objects; a broken one is noted and left out, so that the others are looked at too."""
        result = []
        for index, item in enumerate(self.array(name, limit)):
            try:
                result.append(_read(item, f"{self._where}.{name}[{index}]", parse, self._problems))
            except MalformedError as error:
                self._problems.extend(error.problems)
        return tuple(result)

    def close(self) -> None:
        """Note the keys that nobody asked for."""
        for name in sorted(set(self._fields) - self._asked):
            self._problem(name, "unknown")


def _read[T](value: object, where: str, parse: Callable[[Record], T], problems: list[str]) -> T:
    record = Record(value, where, problems)
    try:
        result = parse(record)
    except MalformedError:
        raise
    except ValueError as error:
        raise MalformedError(f"{where}: {error}") from error
    record.close()
    return result


def read[T](value: object, name: str, parse: Callable[[Record], T]) -> T:
    """Read an object with `parse`. Raises MalformedError with all problems, unknown keys among them."""
    problems: list[str] = []
    try:
        result = _read(value, name, parse, problems)
    except MalformedError as error:
        raise MalformedError(*problems, *error.problems) from error
    if problems:
        raise MalformedError(*problems)
    return result
