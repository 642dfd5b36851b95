"""An HTTP request's head, and the comparison of its path with a rule's prefix, which no spelling leads past; pure.

Servers differ in what they make of a path. One that could mean another path to some of them is taken for none: escapes
of slashes, of control characters and of the escape itself, also as letters that look like these (Unicode's NFKC), and
those that aren't UTF-8; segments of dots and punctuation, or of parameters alone; empty segments; characters that no
path has.
"""

import re
from dataclasses import dataclass
from typing import Final
from unicodedata import category, normalize
from urllib.parse import unquote, unquote_to_bytes

#: Characters that a segment has as they are (RFC 3986, section 3.3), and those of a path.
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]")
_PATH: Final = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
#: What some servers take for a separator, an end or another escape, where it is escaped.
_AMBIGUOUS: Final = frozenset({"/", "\\", "%", "\x7f", *map(chr, range(32))})
#: What no other letter may stand for; and slashes that Windows takes for these, which NFKC leaves as they are.
_SYNTAX: Final = frozenset("./\\%;?#\u2044\u2215\u2216\u29f5\u29f8")
#: What some servers take for the end of a segment's name.
_PARAMETERS: Final = re.compile("[;?#]")

type Segments = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What a request asks for; `target` is path and query, `upgrade` whether WebSocket is asked for.

    `has_content` says that a body follows, `has_override` that some servers take a method, path or host from elsewhere.
    """

    method: str
    target: str
    version: str
    upgrade: bool
    has_content: bool = False
    has_override: bool = False

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


def segments_of(target: str) -> Segments | None:
    """The segments of a request's target in origin form (RFC 9112, section 3.2.1), without its query.

    What needs no escape has none; None for a path of more than one meaning, and for a target of another form.

    >>> segments_of("/v1/%61?x=/../y"), segments_of("/v1/%2e%2e/admin")
    (('v1', 'a'), None)
    """
    path = target.partition("?")[0]
    if _PATH.fullmatch(path) is None or any(chr(int(it, 16)) in _AMBIGUOUS for it in _ESCAPE.findall(path)):
        return None
    try:
        text = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        return None
    if any(_is_in_disguise(it) for it in text if not it.isascii()):
        return None
    segments = tuple(_ESCAPE.sub(_unescape, path).split("/")[1:])
    if "" in segments[:-1] or any(map(_is_dots_or_empty, filter(None, segments))):
        return None
    return segments


def is_beneath(segments: Segments, prefix: str) -> bool:
    """Whether a path is that of an allowed prefix or beneath it, segment by segment.

    >>> is_beneath(("v1", "x"), "/v1"), is_beneath(("v1x",), "/v1"), is_beneath(("v1",), "/v1/")
    (True, False, False)
    """
    wanted = prefix.split("/")[1:]
    if wanted[-1] == "":  # what ends in a slash stands for what is in it
        return segments[: len(wanted) - 1] == tuple(wanted[:-1]) and len(segments) >= len(wanted)
    return segments[: len(wanted)] == tuple(wanted)


def may_be_beneath(segments: Segments, prefix: str) -> bool:
    """Whether some server may take a path for one beneath a denied prefix.

    By any case, in letters that look alike, with parameters, and with what Windows drops: dots and blanks at the end of
    a name, and a stream behind a colon.

    >>> may_be_beneath(("Admin.;v=1", "x"), "/admin")
    True
    """
    wanted = prefix.split("/")[1:]
    if wanted[-1] == "":
        wanted.pop()
        if len(segments) <= len(wanted):
            return False
    return len(segments) >= len(wanted) and all(
        _fold(name) in {_fold(text), _fold(text.partition(":")[0])}
        for name, text in zip(wanted, (_decode(it) for it in segments), strict=False)
    )


def _decode(segment: str) -> str:
    """Decode a segment as some servers do: without escapes and parameters."""
    return _PARAMETERS.split(unquote(segment), maxsplit=1)[0]


def _fold(name: str) -> str:
    """Fold all names that some file system takes for one to the same."""
    seen = "".join(it for it in normalize("NFKC", name) if category(it) != "Cf")
    return normalize("NFKC", seen.upper().casefold()).rstrip(" .")


def _is_dots_or_empty(segment: str) -> bool:
    """Whether some server may take it for a dot segment or an empty one.

    A dot segment has dots, and neither letters nor digits beside them.
    """
    name = _decode(segment)
    return not _fold(name) or ("." in name and not any(map(str.isalnum, name)))


def _is_in_disguise(letter: str) -> bool:
    """Whether it folds to one that a path is made of, or is a control character."""
    return category(letter) == "Cc" or not _SYNTAX.isdisjoint(normalize("NFKC", letter))


def _unescape(match: re.Match[str]) -> str:
    """A character that needs no escape, or its escape in capitals."""
    character = chr(int(match[1], 16))
    return character if _PLAIN.fullmatch(character) else match[0].upper()
