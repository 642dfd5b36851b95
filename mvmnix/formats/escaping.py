r"""The only place that makes a stranger's text harmless for a sink: terminal, Markdown, workflow, shell; pure.

Evidence holds names that others chose, and guests print what they like. One function for each sink; each takes any
text, lone surrogates included, and what it returns can be put there and is nothing but text there. Control, format
and other invisible characters, those that turn the direction of writing among them, are written out as `\u202e`; so
are unassigned and private ones, and combining marks that have nothing to combine with, or are too many on it.
"""

import codecs
import io
import re
import shlex
import string
import unicodedata
from typing import Final

#: What the runner of GitHub's workflows takes for a command at the beginning of a line, and anywhere in one.
_COMMANDS: Final = re.compile(r"(?m)^ *:|##\[")
_DATA: Final = {"%": "%25", "\r": "%0D", "\n": "%0A"}


#: First and last of the invisible characters that `str.isprintable` takes: Default_Ignorable_Code_Point (Unicode
#: 15.0, DerivedCoreProperties.txt; the others are of the categories Cf and Cn), and two that are blank (So).
INVISIBLE: Final = (
    *((0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180D), (0x180F, 0x180F), (0x2800, 0x2800)),
    *((0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0x1D159, 0x1D159), (0xE0100, 0xE01EF)),
)
_INVISIBLE: Final = frozenset(chr(code) for first, last in INVISIBLE for code in range(first, last + 1))
#: Nonspacing and enclosing marks on a character, which are drawn over each other: a Hebrew letter has no more.
_MOST_MARKS: Final = 4


def escape(text: str) -> str:
    r"""For a terminal; line breaks stay.

    >>> escape("a\x1b[2J")
    'a\\u001b[2J'
    """
    return _escape(text, "\n", 0)[0]


def _escape(text: str, kept: str, marks: int) -> tuple[str, int]:
    """Return the text, and how many marks may follow it; `marks` may begin it, `kept` are not written out."""
    if text.isascii():
        shown = "".join(c if c.isprintable() or c in kept else _written_out(c) for c in text)
        return shown, _room(text[-1], kept) if text else marks
    parts = list[str]()
    for c in text:
        marks = marks - 1 if _is_mark(c) else _room(c, kept)
        parts.append(c if c in kept or (_is_visible(c) and marks >= 0) else _written_out(c))
    return "".join(parts), max(marks, 0)


def _room(character: str, kept: str) -> int:
    return _MOST_MARKS if character not in kept and _is_visible(character) else 0


def _is_visible(character: str) -> bool:
    return character.isprintable() and character not in _INVISIBLE


def _is_mark(character: str) -> bool:
    """Return whether it is drawn over the one before it: by its category, as not all have a combining class."""
    return unicodedata.category(character) in {"Mn", "Me"}


def escape_line(text: str) -> str:
    r"""For a terminal, in one line: the author of the text can't add lines to what is printed.

    >>> escape_line("a\nverified: b")
    'a\\nverified: b'
    """
    return escape(text).replace("\n", "\\n")


def shell_word(text: str) -> str:
    r"""For one word of a command that people paste into bash; it can be shown on a terminal too.

    What can't be seen is written as bytes (bash(1), "QUOTING"), for an escape of the terminal's would be another word.
    So are quotes and backslashes beside it: a shell without $'…' reads '…', which none of them may end (sh(1)).

    >>> print(shell_word("two words"), shell_word("it's\x1b"), shell_word("plain/path"))
    'two words' $'it\x27s\x1b' plain/path
    """
    if "\n" not in text and escape(text) == text:
        return shlex.quote(text)
    return f"$'{''.join(map(_in_word, text))}'"


def shell_command(*words: str) -> str:
    """For a command that people paste into bash.

    >>> print(shell_command("rm", "--", "two words"))
    rm -- 'two words'
    """
    return " ".join(map(shell_word, words))


def escape_bytes(data: bytes, *, limit: int = 512) -> str:
    r"""For one line of a terminal or a log, `limit` characters at most; bytes that are no UTF-8 are written out.

    >>> escape_bytes(b"a\n\xff")
    'a\\n\\xff'
    """
    words = escape_line(data[: 4 * limit].decode("utf-8", "backslashreplace"))
    return words if len(words) <= limit else words[:limit] + "…"


class TerminalStream:
    r"""For a terminal, from a stream that comes in pieces of bytes: UTF-8 as `escape` shows it, other bytes as `\xff`.

    Tabs stay, and every line end is made `\n`, so that no line is written over. Half a character at the very end is
    left out.

    >>> shown = TerminalStream()
    >>> shown(b"50%\r100%\r\n\x1b]0;mine\xff\xc3") + shown(b"\xa9")
    b'50%\n100%\n\\u001b]0;mine\\xff\xc3\xa9'
    """

    def __init__(self) -> None:
        utf8 = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._decoder = io.IncrementalNewlineDecoder(utf8, translate=True)
        self._marks = 0

    def __call__(self, data: bytes) -> bytes:
        """What the terminal is to be given for the next bytes."""
        shown, self._marks = _escape(self._decoder.decode(data), "\n\t", self._marks)
        return shown.encode()


def escape_markdown(text: str) -> str:
    r"""For one line of Markdown (CommonMark 0.31 with GitHub's tables), a cell of a table included.

    A character reference never stands for structure (CommonMark, section 2.5), so all punctuation becomes one; line
    breaks are written out.

    >>> escape_markdown("**a**|")
    '&#42;&#42;a&#42;&#42;&#124;'
    """
    shown = escape(text).replace("\n", _written_out("\n"))
    return "".join(f"&#{ord(c)};" if c in string.punctuation else c for c in shown)


def escape_workflow_data(text: str) -> str:
    r"""For the message of a workflow command, `::error::MESSAGE`; the runner undoes it, so line breaks stay.

    >>> escape_workflow_data("50%\n::stop-commands::x")
    '50%25%0A::stop-commands::x'
    """
    return "".join(_DATA.get(c, c) for c in escape(text))


def escape_workflow_log(text: str) -> str:
    r"""For whole lines of a workflow's log: none of them is taken for a command; line breaks stay.

    >>> escape_workflow_log("::set-env name=PATH::x")
    '\\u003a:set-env name=PATH::x'
    """
    return _COMMANDS.sub(lambda found: found[0][:-1] + _written_out(found[0][-1]), escape(text))


def _in_word(character: str) -> str:
    if character not in "\\'" and _is_visible(character) and not _is_mark(character):
        return character
    # surrogates stand for bytes that are no UTF-8 (PEP 383)
    is_byte = "\udc80" <= character <= "\udcff"
    data = character.encode(errors="surrogateescape" if is_byte else "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in data)


def _written_out(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if character <= "\uffff" else f"\\U{code:08x}"
