"""Finds the known name that a mistyped one is most like; pure, and below everything that has messages."""

from collections.abc import Iterable


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """A question with the nearest known name and a blank behind it, to begin a hint with; "" where none is near.

    >>> did_you_mean("helo", ["hello", "tools"]), did_you_mean("x", ["hello"])
    ('did you mean hello? ', '')
    """
    import difflib  # noqa: PLC0415 - only failures pay for it

    near = difflib.get_close_matches(text, sorted(set(known)), 1)
    return f"did you mean {near[0]}? " if near else ""
