"""Compares the path of an HTTP request with the prefix of a rule, so that no other spelling leads past it; pure.

Servers differ in what they make of a path. One that could mean another path to some of them is taken for none: escapes
of slashes, of control characters and of the escape itself, dot segments, empty segments, characters that no path has.
"""

import re
from typing import Final

#: Characters that a segment has as they are (RFC 3986, section 3.3).
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]")
_PIECES: Final = re.compile(r"%([0-9A-Fa-f]{2})|(.)", re.DOTALL)
#: What some servers take for a separator, an end or another escape, where it is escaped.
_AMBIGUOUS: Final = frozenset({"/", "\\", "%", "\x7f", *map(chr, range(32))})

type Segments = tuple[str, ...]


def segments_of(target: str) -> Segments | None:
    """The segments of a request's target in origin form (RFC 9112, section 3.2.1), without its query.

    What needs no escape has none; None for a path of more than one meaning, and for a target of another form.

    >>> segments_of("/v1/%61?x=/../y"), segments_of("/v1/%2e%2e/admin")
    (('v1', 'a'), None)
    """
    path = target.partition("?")[0]
    if not path.startswith("/"):
        return None
    decoded = [_decoded(match) for match in _PIECES.finditer(path.removeprefix("/"))]
    if None in decoded:
        return None
    segments = tuple("".join(it for it in decoded if it is not None).split("/"))
    if "" in segments[:-1] or any(_stem(it) in {".", ".."} for it in segments):
        return None
    return segments


def is_beneath(segments: Segments, prefix: str) -> bool:
    """Whether a path is that of an allowed prefix or beneath it, segment by segment.

    >>> is_beneath(("v1", "x"), "/v1"), is_beneath(("v1x",), "/v1"), is_beneath(("v1",), "/v1/")
    (True, False, False)
    """
    return _begins(segments, prefix)


def may_be_beneath(segments: Segments, prefix: str) -> bool:
    """Whether some server may take a path for one beneath a denied prefix: by any case, and with parameters.

    >>> may_be_beneath(("Admin;v=1", "x"), "/admin")
    True
    """
    return _begins(tuple(_stem(it).lower() for it in segments), prefix.lower())


def _begins(segments: Segments, prefix: str) -> bool:
    wanted = prefix.split("/")[1:]
    if wanted[-1] == "":  # what ends in a slash stands for what is in it
        return segments[: len(wanted) - 1] == tuple(wanted[:-1]) and len(segments) >= len(wanted)
    return segments[: len(wanted)] == tuple(wanted)


def _stem(segment: str) -> str:
    """A segment without its parameters, which some servers take off before they look at dots."""
    return segment.partition(";")[0]


def _decoded(match: re.Match[str]) -> str | None:
    """A character of a path, or its escape; None for one that stands for something else to some servers."""
    escape, plain = match.groups()
    if escape is None:
        return plain if plain == "/" or _PLAIN.fullmatch(plain) else None
    character = chr(int(escape, 16))
    if character in _AMBIGUOUS:
        return None
    return character if _PLAIN.fullmatch(character) else f"%{escape.upper()}"
