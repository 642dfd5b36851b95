"""Says which regular expressions could take for ever on a name that another party chose; pure.

Python's `re` tries every way in which an expression can match. Where something that matches in several ways is
repeated, `(a+)+` or `(a|aa)*`, there can be 2 to the power of the name's length of them to be tried in vain.
"""

import re
from typing import Final

#: `{3}` is one way, `{2,}` and `{2,3}` are several.
_COUNT: Final = re.compile(r"\{(\d*)(,?)(\d*)\}")
_SET: Final = re.compile(r"\[\^?\]?(?:\\.|[^\\\]])*\]", re.DOTALL)
#: What `(` may be followed by: `(?:`, `(?P<name>`, `(?=`, flags, …; a comment is a group that holds nothing.
_GROUP: Final = re.compile(r"\((\?(P?<[A-Za-z_]\w*>|P=\w+|#(\\.|[^\\)])*|<?[=!]|>|\(\w+\)|[a-zA-Z-]*:?))?", re.DOTALL)
#: Verbose mode, in which spaces may stand anywhere.
_VERBOSE: Final = re.compile(r"\(\?[a-zA-Z]*x")


def may_backtrack(text: str) -> bool:
    """Whether a repeat stands around what matches in several ways itself, or it can't be told (verbose mode).

    The text is a valid expression.

    >>> may_backtrack("(a+)+@b"), may_backtrack("a+(b|c)d*")
    (True, False)
    """
    if _VERBOSE.search(text):
        return True
    groups, several, at = [False], False, 0
    while at < len(text):
        repeat = _repeat(text, at)
        if repeat:
            if several and text[at] != "?":
                return True
            groups[-1], several, at = True, False, at + repeat
            continue
        match text[at]:
            case "(":
                groups.append(False)
                several = False
            case ")":
                several = groups.pop()
                groups[-1] |= several
            case "|":
                groups[-1], several = True, False
            case _:
                several = False
        at = _next(text, at)
    return False


def _repeat(text: str, at: int) -> int:
    """The length of a quantifier with several ways; 0 where none stands. A lazy or possessive mark is another."""
    count = _COUNT.match(text, at)
    if count is not None and count[2] and (count[1] != count[3] or not count[3]):
        return len(count[0])
    return int(text[at] in "*+?")


def _next(text: str, at: int) -> int:
    """Where the next piece begins."""
    match text[at]:
        case "\\":
            return at + 2
        case "[":
            found = _SET.match(text, at)
        case "(":
            found = _GROUP.match(text, at)
        case "{":
            found = _COUNT.match(text, at)
        case _:
            found = None
    return at + 1 if found is None else found.end()
