"""Finds the lines of a TOML document on which its keys, tables and values stand; pure, and for error messages alone.

tomllib gives no positions. What it accepts is walked here once more, in time that grows with the text's length. Where
the text is not what TOML 1.0 says, the walk ends, and what follows has no position: nothing is decided by one.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Final

from mvmnix.formats.strict import Place

# Quantifiers are possessive: each pattern walks over a character once, whether it matches or not.
_BLANK: Final = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_BETWEEN_VALUES: Final = re.compile(r"(?:[ \t\r\n,]++|#[^\n]*+)*+")
_OPENING: Final = re.compile(r"\[\[?")
_CLOSING: Final = re.compile(r"\]\]?")
_EQUALS: Final = re.compile(r"=[ \t]*+")
_KEY: Final = re.compile(r"""[ \t]*+(?:([A-Za-z0-9_-]++)|"((?:[^"\\\n]++|\\.)*+)"|'([^'\n]*+)')[ \t]*+""")
#: A string that three quotation marks begin ends with three, behind up to two of its own.
_STRING: Final = re.compile(
    r'''"""(?:[^"\\]++|\\[\s\S]|"{1,2}(?!"))*+"{3,5}|"(?!"")(?:[^"\\\n]++|\\.)*+"'''
    r"""|'''(?:[^']++|'{1,2}(?!'))*+'{3,5}|'(?!'')[^'\n]*+'"""
)
#: A number, time or boolean; a time may have a blank in its middle.
_SCALAR: Final = re.compile(r"""[A-Za-z0-9+-][^,\[\]{}#\n"']*+""")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_ESCAPED: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a text as editors count: line and column, in characters, both from 1."""

    line: int
    column: int

    @classmethod
    def of(cls, text: str, offset: int) -> "Position":
        r"""Return the position of the character at an offset.

        >>> Position.of("a = 1\nb = 2", 8)
        Position(line=2, column=3)
        """
        return cls(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


def locate(text: str, wanted: Collection[Place]) -> Mapping[Place, Position]:
    r"""Find the keys and array elements of these places; for one that is not in the text, the nearest around it.

    Places that have neither are left out.

    >>> locate("[fetch]\nhosts = ['a', 'b']", [("fetch", "hosts", 1), ("fetch", "seconds"), ("version",)])
    {('fetch', 'hosts', 1): Position(line=2, column=15), ('fetch', 'seconds'): Position(line=1, column=1)}
    """
    walk = _Walk(text, wanted)
    with suppress(ValueError):
        walk.run()
    offsets = {place: offset for place in wanted for offset in walk.find_nearest(place)}
    positions = _convert_offsets(text, {*offsets.values()})
    return {place: positions[offset] for place, offset in offsets.items()}


def _convert_offsets(text: str, offsets: Collection[int]) -> Mapping[int, Position]:
    """Return positions by offset, with one walk over the text for all of them."""
    found = {}
    line, begin, last = 1, 0, 0
    for offset in sorted(offsets):
        line += text.count("\n", last, offset)
        begin = max(begin, text.rfind("\n", last, offset) + 1)
        found[offset] = Position(line, offset - begin + 1)
        last = offset
    return found


class _Walk:
    """One walk over a text, which notes the offsets of wanted places and of what is around them.

    The place of what is neither is None, and so is that of whatever it contains.
    """

    def __init__(self, text: str, wanted: Collection[Place]) -> None:
        self._text = text
        self._at = 0
        self._wanted = {place[:steps] for place in wanted for steps in range(1, len(place) + 1)}
        self._offsets: dict[Place, int] = {}
        #: Tables so far of each array of tables.
        self._lengths: dict[Place, int] = {}

    def find_nearest(self, place: Place) -> Iterator[int]:
        """Yield the offset of a place, or of the innermost around it that has one; nothing where none has."""
        around = (self._offsets.get(place[:steps]) for steps in range(len(place), 0, -1))
        yield from [offset for offset in around if offset is not None][:1]

    def run(self) -> None:
        """Walk over all of the text. Raises ValueError where that is not TOML."""
        table: Place | None = ()
        self._take(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._take_header()
            else:
                self._take_value(self._take_key(table))
            self._take(_BLANK)

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise ValueError("not TOML")
        self._at = found.end()
        return found

    def _within(self, place: Place | None, step: str | int, offset: int) -> Place | None:
        """Return the place of a step from here, which is at an offset unless something before is."""
        if place is None or (made := (*place, step)) not in self._wanted:
            return None
        self._offsets.setdefault(made, offset)
        return made

    def _take_header(self) -> Place | None:
        offset = self._at
        is_array = len(self._take(_OPENING)[0]) == 2
        parts = [*self._take_parts()]
        self._take(_CLOSING)
        place: Place | None = ()
        for left, part in zip(range(len(parts) - 1, -1, -1), parts, strict=True):
            place = self._within(place, part, offset)
            if place is None:
                return None
            if is_array and not left:
                self._lengths[place] = self._lengths.get(place, 0) + 1
            if place in self._lengths:
                place = self._within(place, self._lengths[place] - 1, offset)
        if place is not None:
            self._offsets[place] = offset  # headers of tables within may have stood before
        return place

    def _take_key(self, table: Place | None) -> Place | None:
        """Take a key, dotted or not, and what stands between it and its value."""
        offset, place = self._at, table
        for part in self._take_parts():
            place = self._within(place, part, offset)
        self._take(_EQUALS)
        return place

    def _take_parts(self) -> Iterator[str]:
        """Take the parts of a dotted key."""
        while True:
            bare, basic, literal = self._take(_KEY).groups()
            yield _ESCAPE.sub(_unescape, basic) if basic is not None else bare or literal or ""
            if not self._text.startswith(".", self._at):
                return
            self._at += 1

    def _take_value(self, place: Place | None) -> None:
        """Take a value with all that it contains, however deep that is."""
        containers: list[_Container] = []
        while True:
            if self._text.startswith(("[", "{"), self._at):
                containers.append(_Container(place, count() if self._text[self._at] == "[" else None))
                self._at += 1
            else:
                self._take(_STRING if self._text.startswith(('"', "'"), self._at) else _SCALAR)
            while containers:
                self._take(_BETWEEN_VALUES)
                if not self._text.startswith(containers[-1].end, self._at):
                    break
                containers.pop()
                self._at += 1
            if not containers:
                return
            place = self._begin_member(containers[-1])

    def _begin_member(self, container: "_Container") -> Place | None:
        """Return the place of a container's next value, and go to where that begins."""
        if container.indices is None:
            return self._take_key(container.place)
        return self._within(container.place, next(container.indices), self._at)


@dataclass(frozen=True, slots=True)
class _Container:
    """An array, with the indices of its values to come, or an inline table, which has none."""

    place: Place | None
    indices: Iterator[int] | None

    @property
    def end(self) -> str:
        """The bracket that closes it."""
        return "}" if self.indices is None else "]"


def _unescape(escape: re.Match[str]) -> str:
    """Return the character that an escape sequence of a basic string stands for. Raises ValueError for none."""
    digits = escape[1] or escape[2]
    return chr(int(digits, 16)) if digits else _ESCAPED.get(escape[3], escape[3])
