"""Splits a Markdown document into lines, and finds its code fences and comments (CommonMark 0.31.2); pure."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from mvmnix.claims.patterns import blank

#: Sections 4.5: a fence of backticks has none behind it, and one that closes has nothing behind it.
_OPENING: Final = re.compile(r" {0,3}(?:(`{3,})[^`]*|(~{3,}).*)$")
_CLOSING: Final = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*$")
_SPAN: Final = re.compile(r"`[^`\n]*`")


def split_lines(text: str) -> list[str]:
    """Return the lines of a text, which end as in CommonMark (section 2.1) and in Python, and nowhere else."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def find_code(lines: Sequence[str]) -> Iterator[tuple[bool, bool]]:
    """Yield of each line whether it is in a fenced code block, and whether it is one of its fences."""
    fence = ""
    for line in lines:
        if not fence:
            opening = _OPENING.match(line)
            fence = (opening[1] or opening[2]) if opening is not None else ""
            yield False, bool(fence)
        elif (closing := _CLOSING.match(line)) is not None and closing[1].startswith(fence):
            fence = ""
            yield False, True
        else:
            yield True, False


def blank_fences(text: str) -> str:
    """Return a document with empty lines for its fenced code blocks."""
    lines = split_lines(text)
    found = zip(lines, find_code(lines), strict=True)
    return "\n".join("" if is_code or is_fence else line for line, (is_code, is_fence) in found)


def blank_spans(text: str) -> str:
    """Return a text, as long, with blanks for its code spans of one line."""
    return blank(_SPAN, text)


def blank_comments(lines: Sequence[str]) -> list[str]:
    """Return the lines, as long, with blanks for HTML comments; one without an end is shown, and so is none."""
    if not lines:
        return []
    text = "\n".join(lines)
    masked, parts, past = blank_spans(text), list[str](), 0
    while (begin := masked.find("<!--", past)) >= 0 and (end := masked.find("-->", begin + 2)) >= 0:
        parts += [text[past:begin], re.sub(r"[^\n]", " ", text[begin : end + 3])]
        past = end + 3
    return "".join([*parts, text[past:]]).split("\n")
