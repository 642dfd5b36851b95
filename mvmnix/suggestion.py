"""Finds the known name that a mistyped one is most like; pure, and below everything that has messages."""

from collections.abc import Iterable
from typing import Final

#: How much of a mistyped name must agree with a known one (difflib's ratio) for that to be suggested; between "lss" for
#: "ls" (0.8) and "tap" for "tag" (0.67).
_NEAR: Final = 0.75


def find_nearest(text: str, known: Iterable[str]) -> str:
    """Return the known name that is nearest to a mistyped one, dashes before them apart; "" where none is close.

    >>> find_nearest("--memroy", ["--memory", "--name"]), find_nearest("tap", ["tag"])
    ('--memory', '')
    """
    import difflib  # noqa: PLC0415 - only failures pay for it

    names = {name.lstrip("-"): name for name in sorted(set(known))}
    near = difflib.get_close_matches(text.lstrip("-"), names, 1, _NEAR)
    return names[near[0]] if near else ""


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """A question with the nearest known name and a blank behind it, to begin a hint with; "" where none is near.

    >>> did_you_mean("helo", ["hello", "tools"]), did_you_mean("x", ["hello"])
    ('did you mean hello? ', '')
    """
    near = find_nearest(text, known)
    return f"did you mean {near}? " if near else ""
