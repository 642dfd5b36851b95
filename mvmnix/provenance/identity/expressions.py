"""Matches regular expressions in time that grows with expression times text, as RE2 does; pure.

Python's `re` tries one way to match after another, and a text of a few hundred characters can have more of them than
there is time. Here all ways are followed at once, a character at a time (Thompson, "Regular expression search
algorithm", 1968). The language is that of `re` without what this can't decide: look-around, references to groups,
possessive and atomic repeats. `re` itself reads the whole for errors, and decides about single characters.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

#: Steps of a program; the longest expression of a policy has 1,024 characters. Each may be taken at each character.
MOST_STEPS: Final = 4096
#: Opening brackets, in sets too: `re` reads groups by recursion.
_MOST_GROUPS: Final = 64

_FLAGS: Final = re.compile(r"\(\?[aims]+\)")
_GROUP: Final = re.compile(r"\((\?:|\?P<[A-Za-z_]\w*>|(?!\?))")
_COUNT: Final = re.compile(r"\{(?!\})(\d*)(,?)(\d*)\}")
#: One character, a set of them, or a place between two.
_PIECE: Final = re.compile(
    r"\[\^?\]?(?:\\.|[^\\\]])*\]|\\(?:x..|u.{4}|U.{8}|N\{[^}]*\}|0[0-7]{0,2}|[0-3][0-7]{2}|[^1-9])|[^\\\[]", re.DOTALL
)
_PLACES: Final = frozenset(("^", "$", r"\A", r"\Z", r"\b", r"\B"))


@dataclass(frozen=True, slots=True)
class _Step:
    """Takes a character, or holds at a place, or only leads on: to the steps that are so many further."""

    character: re.Pattern[str] | None = None
    place: re.Pattern[str] | None = None
    jumps: tuple[int, ...] = (1,)


type _Steps = tuple[_Step, ...]


def matches(expression: str, text: str) -> bool:
    """Return whether the expression matches the whole text. Raises as `check` does.

    >>> matches("(a+)+b", "a" * 1000), matches("(a+)+b", "aab")
    (False, True)
    """
    return _run(_program(expression), text)


def check(expression: str) -> None:
    """Raise ValueError unless it is an expression that can be matched here."""
    _program(expression)


def _run(steps: _Steps, text: str) -> bool:
    states = _reach(steps, {0}, text, 0)
    for at, character in enumerate(text, 1):
        taken = {state + 1 for state in states if state < len(steps) and _takes(steps[state], character)}
        states = _reach(steps, taken, text, at)
    return len(steps) in states


def _takes(step: _Step, character: str) -> bool:
    return step.character is not None and step.character.fullmatch(character) is not None


def _reach(steps: _Steps, states: set[int], text: str, at: int) -> set[int]:
    """Return all states that are reached without a further character, `states` among them."""
    seen, left = set(states), list(states)
    while left:
        state = left.pop()
        if state == len(steps) or steps[state].character is not None:
            continue
        place = steps[state].place
        if place is None or place.match(text, at):
            further = {state + jump for jump in steps[state].jumps} - seen
            seen |= further
            left += further
    return seen


@lru_cache(maxsize=1024)
def _program(expression: str) -> _Steps:
    if expression.count("(") > _MOST_GROUPS:
        raise ValueError(f"more than {_MOST_GROUPS} groups: {expression[:80]!r}")
    try:
        flags = re.compile(expression).flags
    except (re.error, OverflowError) as error:
        raise ValueError(f"not a regular expression: {expression!r}: {error}") from error
    reader = _Reader(expression, flags & (re.ASCII | re.IGNORECASE | re.MULTILINE | re.DOTALL))
    return reader.read()


class _Reader:
    """Reads one valid expression into steps, from left to right."""

    def __init__(self, text: str, flags: int) -> None:
        self._text, self._flags = text, flags
        found = _FLAGS.match(text)
        self._at = 0 if found is None else found.end()

    def read(self) -> _Steps:
        """Read all of it. Raises ValueError for what is not in the language, or takes more than MOST_STEPS."""
        steps = self._choice()
        if self._at < len(self._text):
            raise self._unsupported()
        return steps

    def _unsupported(self) -> ValueError:
        rest = self._text[self._at : self._at + 10]
        return ValueError(f"no look-around, reference, possessive repeat or inner flag can be matched here: {rest!r}")

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        self._at = self._at if found is None else found.end()
        return found

    def _choice(self) -> _Steps:
        steps = self._sequence()
        while self._next() == "|":
            self._at += 1
            other = self._sequence()
            first, over = _Step(jumps=(1, len(steps) + 2)), _Step(jumps=(len(other) + 1,))
            steps = self._bounded((first, *steps, over, *other))
        return steps

    def _sequence(self) -> _Steps:
        steps: _Steps = ()
        while self._next() not in {"", "|", ")"}:
            steps = self._bounded((*steps, *self._repeat(self._item())))
        return steps

    def _item(self) -> _Steps:
        if self._next() == "(":
            if self._take(_GROUP) is None:
                raise self._unsupported()
            steps = self._choice()
            self._at += 1
            return steps
        piece = self._take(_PIECE)
        if piece is None:
            raise self._unsupported()
        one = re.compile(re.escape(piece[0]) if piece[0] == "{" else piece[0], self._flags)
        return (_Step(place=one) if piece[0] in _PLACES else _Step(one),)

    def _repeat(self, steps: _Steps) -> _Steps:
        low, high = self._bounds()
        if len(steps) * max(low, high or 0) > MOST_STEPS:
            raise self._too_large()
        optional = (_Step(jumps=(1, len(steps) + 1)), *steps)
        endless = (_Step(jumps=(1, len(steps) + 2)), *steps, _Step(jumps=(-len(steps) - 1,)))
        return steps * low + (endless if high is None else optional * (high - low))

    def _bounds(self) -> tuple[int, int | None]:
        """Return how often the last item may be there, at least and at most; a lazy repeat matches the same."""
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if (mark := self._next()) in simple:
            self._at += 1
            found = simple[mark]
        elif count := self._take(_COUNT):
            low = int(count[1] or 0)
            found = low, int(count[3]) if count[3] else None if count[2] else low
        else:
            return 1, 1
        if self._next() == "+":
            raise self._unsupported()
        if self._next() == "?":
            self._at += 1
        return found

    def _bounded(self, steps: _Steps) -> _Steps:
        if len(steps) > MOST_STEPS:
            raise self._too_large()
        return steps

    def _too_large(self) -> ValueError:
        return ValueError(f"it takes more than {MOST_STEPS} steps: {self._text[:80]!r}")
