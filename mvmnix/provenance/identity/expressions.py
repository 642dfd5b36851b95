"""The only importer of re2: matches regular expressions in time that grows with the text's length; pure.

Python's `re` tries one way to match after another, and a text of a few hundred characters can have more of them than
there is time. RE2 follows all ways at once. Its syntax is cosign's: that of `re` without look-around, references and
possessive repeats (RE2, "Syntax").
"""

from functools import lru_cache
from typing import Any, Final

import re2

#: Bytes that one expression may take, compiled and while it is matched; RE2's own bound.
_MEMORY: Final = 8 << 20


def matches(expression: str, text: str) -> bool:
    """Return whether the expression matches the whole text. Raises as `check` does.

    >>> matches("(a+)+b", "a" * 1000), matches("(a+)+b", "aab")
    (False, True)
    """
    return _compiled(expression).fullmatch(text) is not None


def check(expression: str) -> None:
    """Raise ValueError unless RE2 can match the expression."""
    _compiled(expression)


@lru_cache(maxsize=1024)
def _compiled(expression: str) -> Any:
    options = re2.Options()
    options.log_errors, options.max_mem = False, _MEMORY
    try:
        return re2.compile(expression, options=options)
    except re2.error as error:
        raise ValueError(f"not a regular expression of RE2's: {expression[:80]!r}: {_words(error)}") from error


def _words(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
