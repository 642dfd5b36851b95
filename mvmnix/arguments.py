"""The only makers of texts that a stranger chose and that become an argument, a path, a ref or a line for a program.

Each is a `str`, so it goes where a `str` goes, and says by its type what it can't be there. What can't be one is
refused [argument-unsafe]. A text that mvm itself wrote needs none of them; nor does a noun that has an alphabet of its
own (`Digest`, `StorePath`, `Url`).
"""

import re
from typing import Final, Self, override

from mvmnix.errors import ReasonCode, RefusedError, refuse

#: Bytes: Linux takes no longer path (PATH_MAX), and no program of ours is given a longer operand.
LONGEST: Final = 4096
#: What ends a line or is invisible in one, for any reader: C0 and C1, and Unicode's separators of lines, paragraphs.
_BREAKS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: git-check-ref-format(1), rules 1 to 9, and no `+` in front, which would force a refspec.
_NO_REF: Final = re.compile(r"^[+/]|[ ~^:?*\[\\]|\.\.|@\{|//|/$|\.$|(^|/)\.|\.lock(/|$)|^@$")
_ATTRIBUTE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_'-]*(\.[A-Za-z_][A-Za-z0-9_'-]*)*")
_DIRECTORY: Final = re.compile(r"[0-9a-zA-Z+\-._=/]+")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HINT: Final = "look where it comes from: a flake, its lock, a server or a guest; nothing was run"


def unsafe(text: str, why: str) -> RefusedError:
    """The refusal [argument-unsafe] of a text, ready to be raised."""
    return refuse(ReasonCode.ARGUMENT_UNSAFE, repr(text[:200]), why, _HINT)


class OneLine(str):
    """A text that stays one line in whatever is read by lines: no control character, no separator, valid UTF-8."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Raises RefusedError [argument-unsafe]."""
        if why := cls.problem(text):
            raise unsafe(text, why)
        return super().__new__(cls, text)

    @classmethod
    def problem(cls, text: str) -> str:
        """Why this text is none; empty where it is one."""
        if _BREAKS.search(text):
            return "it has a control character or a line break"
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            return "it isn't Unicode"
        return f"it is longer than {LONGEST} bytes" if size > LONGEST else ""


class Operand(OneLine):
    """An argument that no program takes for an option: one line, not empty, without a `-` in front."""

    __slots__ = ()

    @classmethod
    @override
    def problem(cls, text: str) -> str:
        """As of any line; and what an option looks like."""
        if not text:
            return "it is empty"
        return "a program would take it for an option" if text.startswith("-") else super().problem(text)


class InsidePath(Operand):
    """A relative path that leads downwards, whatever lies there: no `..`, no `.`, no empty component, not absolute."""

    __slots__ = ()

    @classmethod
    @override
    def problem(cls, text: str) -> str:
        """As of any operand; and what leads elsewhere."""
        if not text or {"", ".", ".."} & set(text.split("/")):
            return "it isn't a path that leads downwards"
        return super().problem(text)


class AttributePath(Operand):
    """How an attribute of a flake is named: plain names with dots in between."""

    __slots__ = ()

    @classmethod
    @override
    def problem(cls, text: str) -> str:
        """As of any operand; and whatever isn't one."""
        return super().problem(text) if _ATTRIBUTE.fullmatch(text) else "it isn't the path of an attribute"


def is_subdirectory(text: str) -> bool:
    """Whether this is a relative path downwards, or empty: what may stand in a flake reference's `dir`."""
    return not text or (_DIRECTORY.fullmatch(text) is not None and not InsidePath.problem(text))


class GitRef(Operand):
    """The name of a branch or tag, `HEAD`, or a full ref (git-check-ref-format(1)): never a refspec of two."""

    __slots__ = ()

    @classmethod
    @override
    def problem(cls, text: str) -> str:
        """As of any operand; and what git itself wouldn't take for a name."""
        return "git has no ref of that name" if _NO_REF.search(text) else super().problem(text)


class Commit(Operand):
    """The full name of a commit: 40 hexadecimal digits, or 64 in a repository with SHA-256."""

    __slots__ = ()

    @classmethod
    @override
    def problem(cls, text: str) -> str:
        """Whatever isn't one."""
        return "" if _COMMIT.fullmatch(text) else "it isn't the full name of a commit"
