"""Reads untrusted JSON and TOML values into typed ones, naming every problem; writes the one canonical JSON form.

No file, clock or network. The numbers that JSON has beyond integers are refused: no claim of ours needs them.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NoReturn, cast, override

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError

#: Deeper nesting than any claim of ours has; Python's own parser stops later, by the C stack.
MAX_DEPTH: Final = 32
#: More values than any claim of ours or an SBOM has; each takes about 100 bytes of memory, however short its text is.
MAX_VALUES: Final = 1 << 20
#: Largest integer that every JSON reader keeps exact (RFC 8259, section 6).
MAX_INTEGER: Final = 2**53 - 1
#: Bytes of a JSON text; characters of a text in it, or values of an array: unless the caller says another number.
_MAX_BYTES: Final = 16 << 20
_MAX_LENGTH: Final = 65_536

_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}Z")
#: The beginning of an escape that makes half a surrogate pair (RFC 8259, section 7), and maybe the other.
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
#: For `bytes.translate`: one kind of bracket in the place of two, and what is none.
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(frozenset(range(256)) - frozenset(b"[]{}"))

#: Matches all texts without NUL.
_ANY: Final = r"[^\x00]*"
_NOTHING: Final = MappingProxyType[str, Callable[[object], Hashable]]({})
#: Stand for what is missing.
_NO_DIGEST: Final = Digest("0" * 64)
_NO_TIME: Final = datetime.fromisoformat("1970-01-01T00:00:00Z")


#: Keys and indices that lead from a document to one of its values.
type Place = tuple[str | int, ...]


def show_place(place: Place) -> str:
    """Return a place in one word.

    >>> show_place(("signers", 0, "roles"))
    'signers[0].roles'
    """
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at a place of a document, which has a name for people."""

    document: str
    place: Place
    text: str

    @override
    def __str__(self) -> str:
        return f"{self.document}{'.' if self.place else ''}{show_place(self.place)}: {self.text}"


class MalformedError(ValueError):
    """An input is not what its format says; carries every problem that was found, with its place where it has one."""

    def __init__(self, *found: str | Problem) -> None:
        self.found = found
        self.problems = tuple(map(str, found))
        super().__init__("; ".join(self.problems))

    def refused(self, code: ReasonCode, what: str, hint: str) -> RefusedError:
        """The same as a refusal, one reason for each problem."""
        return RefusedError(*(Reason(code, what, problem, hint) for problem in self.problems))


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = Counter(name for name, _ in pairs)
        raise MalformedError(*(f"the key {name!r} is listed twice" for name in sorted(names) if names[name] > 1))
    return result


def _integer(text: str) -> int:
    # of a number with thousands of digits, int() takes none
    if len(text) > len(str(-MAX_INTEGER)) or abs(int(text)) > MAX_INTEGER:
        raise MalformedError(f"the number {text[:24]} is too large")
    return int(text)


def _no_number(text: str) -> NoReturn:
    raise MalformedError(f"the number {text[:24]} is not an integer")


def _has_many(data: bytes, bracket: bytes) -> bool:
    """Whether it is found more often than for half of the levels; `count` looks at every byte, even of a long text."""
    at = -1
    return all((at := data.find(bracket, at + 1)) >= 0 for _ in range(MAX_DEPTH // 2 + 1))


def has_many_values(data: bytes, most: int = MAX_VALUES) -> bool:
    """Whether a JSON text may have more than `most`: one of these stands before each, and in strings maybe too."""
    return sum(map(data.count, (b",", b"[", b"{"))) > most


def _check_depth(data: bytes) -> None:
    """Peel the brackets of a JSON text off it, a level at a time, once strings are taken out: one walk is slower."""
    left = b"".join(re.sub(rb"\\.", b"", data).split(b'"')[::2]).translate(_SQUARE, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        left = left.replace(b"[]", b"")
    if left:
        raise MalformedError(f"nested deeper than {MAX_DEPTH} levels")


def parse_json(
    data: bytes,
    *,
    limit: int = _MAX_BYTES,
    values: int = MAX_VALUES,
    fraction: Callable[[str], object] = _no_number,
) -> object:
    """The value of a JSON text (RFC 8259) in UTF-8 of at most `limit` bytes and `values` values.

    Duplicate keys, NaN, lone surrogates, deep nesting and too many values raise MalformedError, and so do numbers that
    are no integers, unless `fraction` reads them: claims that other tools make may have some.
    """
    if len(data) > limit:
        raise MalformedError(f"larger than {limit} bytes")
    if has_many_values(data, values):
        raise MalformedError(f"more than {values} values")
    try:
        value: object = json.loads(
            data.decode(),
            object_pairs_hook=_no_duplicates,
            parse_int=_integer,
            parse_float=fraction,
            parse_constant=_no_number,
        )
        # what is looked for takes as many brackets, or an escape of a surrogate: most texts have neither
        if _has_many(data, b"[") or _has_many(data, b"{"):
            _check_depth(data)
        if _SURROGATE.search(data):
            json.dumps(value, ensure_ascii=False, default=str).encode()  # UnicodeEncodeError where half a pair is left
    except MalformedError:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"not JSON in UTF-8: {error}") from error
    return value


_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical(value: object) -> bytes:
    """Canonical JSON: sorted keys, no spaces, ASCII only, no newline at the end. The same value, the same bytes."""
    return _CANONICAL.encode(value).encode()


def show_time(moment: datetime) -> str:
    """RFC 3339 in UTC and whole seconds, as claims carry it: `2026-01-31T12:00:00Z`."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


def parse_time(text: str) -> datetime:
    """The only form of RFC 3339 that `show_time` writes. Raises ValueError."""
    if not _TIME.fullmatch(text):
        raise ValueError(f"not a time like 2026-01-31T12:00:00Z: {text!r}")
    return datetime.fromisoformat(text)


#: `re` has a cache too, which takes as long to ask as most patterns take to match.
_compiled: Final = lru_cache(re.compile)


def _matches(pattern: str, value: str) -> bool:
    return "\0" not in value if pattern == _ANY else _compiled(pattern).fullmatch(value) is not None


class Record:
    """One object while it is read: each field is asked for once; what was not asked for is a problem.

    A scalar that is missing or wrong is noted and a stand-in is returned; `read` never lets that stand-in out.
    """

    def __init__(self, value: object, document: str, place: Place, problems: list[str | Problem]) -> None:
        if not isinstance(value, dict):
            raise MalformedError(Problem(document, place, "not an object"))
        # the keys of JSON and TOML are text
        self._fields: Mapping[str, object] = cast("dict[str, object]", value)
        self._document = document
        self._place = place
        self._problems = problems
        self._asked: set[str] = set()

    def note(self, text: str, *steps: str | int) -> None:
        """Note what is wrong at a place within the object, for what no other method here looks at."""
        self._problems.append(Problem(self._document, (*self._place, *steps), text))

    def _take(self, name: str) -> object:
        self._asked.add(name)
        return self._fields.get(name)

    def _needed(self, name: str) -> object:
        if name not in self._fields:
            self.note("missing", name)
        return self._take(name)

    def _unfit[T](self, name: str, text: str, stand_in: T) -> T:
        """Note what is wrong with a field that was asked for: most of all that it is not there."""
        self.note(text if name in self._fields else "missing", name)
        return stand_in

    def has(self, name: str) -> bool:
        """Whether an optional field stands there."""
        self._asked.add(name)
        return name in self._fields

    def names(self) -> tuple[str, ...]:
        """All keys, for objects whose keys are data."""
        return tuple(self._fields)

    def text(self, name: str, pattern: str = _ANY, limit: int = _MAX_LENGTH) -> str:
        """A string that matches `pattern` in full and has at most `limit` characters; without one, it has no NUL."""
        value = self._take(name)
        if isinstance(value, str) and len(value) <= limit and _matches(pattern, value):
            return value
        return self._unfit(name, f"not a string of the expected form: {str(value)[:80]!r}", "")

    def integer(self, name: str, low: int, high: int) -> int:
        """An integer in [low, high]; `true` is none."""
        value = self._take(name)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        return self._unfit(name, f"not an integer from {low} to {high}: {str(value)[:80]!r}", low)

    def flag(self, name: str) -> bool:
        """`true` or `false`."""
        value = self._take(name)
        if isinstance(value, bool):
            return value
        return self._unfit(name, f"neither true nor false: {str(value)[:80]!r}", False)

    def parsed[T](self, name: str, parse: Callable[[str], T], stand_in: T, limit: int = _MAX_LENGTH) -> T:
        """A string that `parse` accepts, which raises ValueError otherwise."""
        before = len(self._problems)
        value = self.text(name, limit=limit)
        if len(self._problems) > before:
            return stand_in
        try:
            return parse(value)
        except ValueError as error:
            self.note(str(error), name)
            return stand_in

    def digest(self, name: str = "sha256") -> Digest:
        """A SHA-256 digest in hexadecimal."""
        value = self._take(name)
        if isinstance(value, str):  # most of what a long log has is digests
            with suppress(ValueError):
                return Digest(value)
        return self.parsed(name, Digest, _NO_DIGEST)

    def time(self, name: str) -> datetime:
        """A time as `show_time` writes it."""
        return self.parsed(name, parse_time, _NO_TIME)

    def choice[E: StrEnum](self, name: str, kind: type[E]) -> E:
        """A member of an enumeration, by its value."""

        def member(text: str) -> E:
            if text not in set(kind):
                raise ValueError(f"{text[:80]!r} is not one of {', '.join(kind)}")
            return kind(text)

        return self.parsed(name, member, next(iter(kind)))

    def array(self, name: str, limit: int = _MAX_LENGTH, *, least: int = 0) -> tuple[object, ...]:
        """An array of `least` to `limit` values that the caller will read."""
        value = self._take(name)
        if isinstance(value, list) and least <= len(value) <= limit:
            return tuple(value)
        length = f"{least} to {limit}" if least else f"at most {limit}"
        return self._unfit(name, f"not an array of {length} values", ())

    def texts(
        self, name: str, pattern: str = _ANY, limit: int = _MAX_LENGTH, form: str = "", *, least: int = 0
    ) -> tuple[str, ...]:
        """An array of strings that match `pattern` in full; `form` says for a message which these are."""
        values = self.array(name, limit, least=least)
        good = tuple(value for value in values if isinstance(value, str) and re.fullmatch(pattern, value))
        if len(good) != len(values):
            self.note(f"not an array of strings {form or 'of the expected form'}", name)
        return good

    def integers(self, name: str, low: int, high: int, limit: int = _MAX_LENGTH) -> tuple[int, ...]:
        """An array of integers in [low, high]."""
        values = self.array(name, limit)
        good = tuple(v for v in values if isinstance(v, int) and not isinstance(v, bool) and low <= v <= high)
        if len(good) != len(values):
            self.note(f"not an array of integers from {low} to {high}", name)
        return good

    def value(self, name: str) -> object:
        """A value that another parser will read."""
        return self._needed(name)

    def child[T](self, name: str, parse: "Callable[[Record], T]") -> T:
        """An object in this object. Raises MalformedError when it is none, or when `parse` does."""
        return _read(self._needed(name), self._document, (*self._place, name), parse, self._problems)

    def each[T](
        self,
        name: str,
        parse: "Callable[[Record], T]",
        limit: int = _MAX_LENGTH,
        *,
        distinct: Mapping[str, Callable[[T], Hashable]] = _NOTHING,
    ) -> tuple[T, ...]:
        """An array of objects; a broken one is noted and left out, so that the others are looked at too.

        `distinct` has what no two of them may have in common, unless that is None, by what is noted of the second.
        """
        result = []
        known: set[tuple[str, Hashable]] = set()
        for index, item in enumerate(self.array(name, limit)):
            before = len(self._problems)
            try:
                result.append(_read(item, self._document, (*self._place, name, index), parse, self._problems))
            except MalformedError as error:
                self._problems.extend(error.found)
            if len(self._problems) > before:  # it may have stand-ins, which are all alike
                continue
            found = {(text, value) for text, of in distinct.items() if (value := of(result[-1])) is not None}
            for text, _ in sorted(found & known, key=lambda pair: pair[0]):
                self.note(text, name, index)
            known |= found
        return tuple(result)

    def leave_rest(self) -> None:
        """Let other keys be: for formats of others, which may grow fields that change nothing in what is read."""
        self._asked.update(self._fields)

    def close(self) -> None:
        """Note the keys that were not asked for."""
        for name in sorted(self._fields.keys() - self._asked):
            self.note("unknown", name)


def _read[T](
    value: object, document: str, place: Place, parse: Callable[[Record], T], problems: list[str | Problem]
) -> T:
    record = Record(value, document, place, problems)
    try:
        result = parse(record)
    except MalformedError:
        raise
    except ValueError as error:
        raise MalformedError(Problem(document, place, str(error))) from error
    record.close()
    return result


def read[T](value: object, name: str, parse: Callable[[Record], T]) -> T:
    """Read an object with `parse`. Raises MalformedError with all problems, unknown keys among them."""
    problems: list[str | Problem] = []
    try:
        result = _read(value, name, (), parse, problems)
    except MalformedError as error:
        raise MalformedError(*problems, *error.found) from error
    if problems:
        raise MalformedError(*problems)
    return result
