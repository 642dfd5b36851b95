"""Builds the expressions by which rules look for words; pure."""

import re
from typing import Final

_OPENING: Final = r"^[\s>*\-|\d.)`\"']*"
#: A sentence that advises or asks, and so claims nothing.
ADVICE: Final = re.compile(
    rf"{_OPENING}(?:please|do|never|always|use|run|set|see|make|keep|put|store|rotate|check|try|add|remove|avoid)\b"
    rf"|{_OPENING}(?:remember|consider|ensure|fix(?:es|ed)?|if you|when you|you (?:can|should|must|may|need))\b"
    rf"|{_OPENING}(?:we recommend|note that you|don't|to \w+)\b|\?\s*$",
    re.IGNORECASE,
)


def last_words(text: str, count: int) -> str:
    """Return the last words of a text, where a search can't take longer than they are."""
    return " ".join(text[-400:].split()[-count:])


def blank(pattern: re.Pattern[str], text: str) -> str:
    """Return a text, as long, with blanks for what a pattern finds in it."""
    return pattern.sub(lambda found: " " * len(found.group()), text)


def either(*alternatives: str) -> str:
    """Return an expression of any of these expressions, as a group."""
    return f"(?:{'|'.join(alternatives)})"


def words(*alternatives: str) -> re.Pattern[str]:
    """Return a pattern of any of these expressions, as whole words, in either case."""
    return re.compile(rf"(?<![\w-]){either(*alternatives)}(?![\w-])", re.IGNORECASE)
