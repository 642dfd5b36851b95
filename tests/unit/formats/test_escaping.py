"""What a stranger wrote is text and nothing else, wherever it is shown."""

import re
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mvmnix.formats.escaping import (
    INVISIBLE,
    TerminalStream,
    escape,
    escape_bytes,
    escape_markdown,
    escape_workflow_data,
    escape_workflow_log,
    shell_command,
    shell_word,
)

ANYTHING = st.text(alphabet=st.characters(exclude_categories=()))
#: Texts that are likely to mean something to one of the sinks.
HOSTILE = st.lists(
    st.sampled_from([*"<>&\"'`*_[]()!|#-+.~:,%\\ \n\r\t=@/", "::", "##[", "::error::", "]]>", "http://a.test", "1. "]),
    max_size=12,
).map("".join)
TEXTS = ANYTHING | HOSTILE


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ü, 漢字, 🙂", "plain text, ü, 漢字, 🙂"),
        ("two\nlines", "two\nlines"),
        ("\x00\x07\x08\x1b[2J\x7f", "\\u0000\\u0007\\u0008\\u001b[2J\\u007f"),
        ("a\rb\tc\x0b\x0c", "a\\u000db\\u0009c\\u000b\\u000c"),
        ("\x80\x9b31m\x9f", "\\u0080\\u009b31m\\u009f"),
        ("\u202eevil\u202c\u2066\u2069\u200e\u200f\u061c", "\\u202eevil\\u202c\\u2066\\u2069\\u200e\\u200f\\u061c"),
        ("\u200b\ufeff\u2028\u2029\u00a0\u00ad", "\\u200b\\ufeff\\u2028\\u2029\\u00a0\\u00ad"),
        ("\ud800\udcff", "\\ud800\\udcff"),
        ("\U000e0041\U000f0000", "\\U000e0041\\U000f0000"),
        ("a\u034f\u115f\u3164\ufe0f\uffa0\U000e0100", "a\\u034f\\u115f\\u3164\\ufe0f\\uffa0\\U000e0100"),
        ("\u180b\u17b4\u2800", "\\u180b\\u17b4\\u2800"),
        ("cafe\u0301, \u05e9\u05bc\u05c1\u05b8", "cafe\u0301, \u05e9\u05bc\u05c1\u05b8"),
        ("a" + "\u0301" * 6 + "b\u0301", "a" + "\u0301" * 4 + "\\u0301" * 2 + "b\u0301"),
        ("\u0338a\n\u0338\x1b\u20dd", "\\u0338a\n\\u0338\\u001b\\u20dd"),
    ],
)
def test_escape(text: str, shown: str) -> None:
    assert escape(text) == shown


@given(ANYTHING)
def test_whatever_is_escaped_can_be_printed(text: str) -> None:
    shown = escape(text)
    assert all(c == "\n" or c.isprintable() for c in shown)
    shown.encode()
    assert escape(shown) == shown
    assert not re.search(r"(?:^|\n)[\u0300-\u034f]|[\u0300-\u034f]{5}", shown)


#: Default_Ignorable_Code_Point of Unicode 15.0, as perl's Unicode::UCD has it (prop_invlist): first, and one past last.
IGNORABLE = (
    *(0xAD, 0xAE, 0x34F, 0x350, 0x61C, 0x61D, 0x115F, 0x1161, 0x17B4, 0x17B6, 0x180B, 0x1810, 0x200B, 0x2010),
    *(0x202A, 0x202F, 0x2060, 0x2070, 0x3164, 0x3165, 0xFE00, 0xFE10, 0xFEFF, 0xFF00, 0xFFA0, 0xFFA1, 0xFFF0),
    *(0xFFF9, 0x1BCA0, 0x1BCA4, 0x1D173, 0x1D17B, 0xE0000, 0xE1000),
)


def test_what_can_t_be_seen_is_written_out() -> None:
    """All that is ignored in display, all of the categories that show nothing, and no other character."""
    ignorable = {chr(code) for a, b in zip(IGNORABLE[::2], IGNORABLE[1::2], strict=True) for code in range(a, b)}
    assert len(ignorable) == 4174
    blank = {"\u2800", "\U0001d159"}
    hidden = {chr(code) for code in range(sys.maxunicode + 1) if escape(f"a{chr(code)}") != f"a{chr(code)}"}
    categories = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
    known = {c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in categories} - {" ", "\n"}
    assert hidden == known | ignorable | blank
    listed = {chr(code) for first, last in INVISIBLE for code in range(first, last + 1)}
    assert listed == (ignorable | blank) - known


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"a\tb\n", b"a\tb\n"),
        (b"50%\r100%\r\n", b"50%\n100%\n"),
        (b"\x1b]0;title\x07", b"\\u001b]0;title\\u0007"),
        (b"\x1b[6n\x9b6n", b"\\u001b[6n\\x9b6n"),
        ("\u202e\x9b".encode(), b"\\u202e\\u009b"),
        (b"\xff\xfe", b"\\xff\\xfe"),
        ("漢字".encode(), "漢字".encode()),
        ("e\u0301\t\u0301e".encode(), b"e\xcc\x81\t\\u0301e"),
        (f"e{'\u0301' * 6}".encode(), f"e{'\u0301' * 4}\\u0301\\u0301".encode()),
    ],
)
def test_a_stream_for_a_terminal(data: bytes, shown: bytes) -> None:
    whole, bytewise = TerminalStream(), TerminalStream()
    assert whole(data) == shown
    assert b"".join(bytewise(data[i : i + 1]) for i in range(len(data))) == shown


@given(st.lists(st.binary() | ANYTHING.map(lambda text: text.encode(errors="surrogatepass"))))
def test_whatever_comes_is_text_on_a_terminal(pieces: list[bytes]) -> None:
    stream = TerminalStream()
    shown = b"".join(stream(piece) for piece in pieces).decode()
    assert all(c in "\n\t" or c.isprintable() for c in shown)


MARKDOWN = MarkdownIt("commonmark").enable("table")


@given(TEXTS)
def test_markdown_is_one_line_of_text(text: str) -> None:
    line = escape(text).replace("\n", "\\u000a")
    (before, inline, after) = MARKDOWN.parse(f"x{escape_markdown(text)}x")
    assert (before.type, inline.type, after.type) == ("paragraph_open", "inline", "paragraph_close")
    assert {token.type for token in inline.children or []} <= {"text", "text_special"}
    assert "".join(token.content for token in inline.children or []) == f"x{line}x"


@given(TEXTS)
def test_markdown_stays_in_its_cell(text: str) -> None:
    tokens = MARKDOWN.parse(f"| a | b |\n| - | - |\n| {escape_markdown(text)} | x |\n\nend")
    assert [token.type for token in tokens].count("td_open") == 2
    assert tokens[-2].content == "end"


@pytest.mark.parametrize("text", ["# a", "- a", "1. a", "> a", "```", "<script>", "[a](http://b.test)", "---", "| a |"])
def test_a_line_of_markdown_begins_no_block(text: str) -> None:
    (before, inline, _) = MARKDOWN.parse(escape_markdown(text))
    assert (before.type, inline.content.count("&#") > 0) == ("paragraph_open", True)


def undone(text: str) -> str:
    """What the runner makes of data, in this order (actions/runner, ActionCommand.cs)."""
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        text = text.replace(code, character)
    return text


@given(TEXTS)
def test_the_message_of_a_workflow_command_is_one_line(text: str) -> None:
    shown = escape_workflow_data(text)
    assert len(f"::error::{shown}".splitlines()) == 1
    assert undone(shown) == escape(text)


def is_command(line: str) -> bool:
    """What the runner takes for a command (actions/runner, ActionCommand.cs)."""
    return line.lstrip().startswith("::") or "##[" in line


@given(TEXTS)
def test_no_line_of_a_log_is_a_command(text: str) -> None:
    assert not any(map(is_command, escape_workflow_log(text).split("\n")))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::x", "\\u003a:error::x"),
        ("a\n  ::add-mask::x", "a\n  \\u003a:add-mask::x"),
        ("a ##[error]x", "a ##\\u005berror]x"),
        ("\x1b::error::x", "\\u001b::error::x"),
        ("std::string 12:30", "std::string 12:30"),
    ],
)
def test_lines_of_a_log(text: str, shown: str) -> None:
    assert escape_workflow_log(text) == shown


def test_how_a_character_is_written_out() -> None:
    for character, written in (("\ue000", r"\ue000"), ("\uffff", r"\uffff"), ("\U000f0000", r"\U000f0000")):
        assert escape(character) == written


@settings(max_examples=25, deadline=None)
@given(ANYTHING.filter(lambda text: "\0" not in text))
@example("it's\n\x1b[2J\u202e$(id)`\\\u0301\udcff é")
@example("\x1b\u20dd\u20dd\u0900\u0900\u0900")
def test_a_word_of_a_command_is_that_word_in_bash(text: str) -> None:
    word = shell_word(text)
    assert escape(word) == word
    assert "\n" not in word
    bytes_of = text.encode(errors="surrogateescape" if re.search("[\udc80-\udcff]", text) else "surrogatepass")
    said = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout
    assert said == bytes_of


@pytest.mark.parametrize("shell", ["bash", "/bin/dash"])
@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["'", "\\", "\n", "\x1b", ";", "$(echo -n MARKER)", "`echo MARKER`", "a", "7"])))
@example(["\x1b", "'", ";"])
@example(["\x1b", "\\", "'", ";"])
def test_no_shell_leaves_the_word(shell: str, parts: list[str]) -> None:
    """A shell without $'…' (dash) may read another word, but runs nothing of it."""
    word = shell_word("".join((*parts, "echo MARK", "ER;exit 3;'")))
    script = f"printf %s {word} >/dev/null; echo end"
    said = subprocess.run([shell, "-c", script], capture_output=True, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, b"end\n", b"")


def test_a_command_is_its_words() -> None:
    assert shell_command("rm", "--", "a b", "$HOME", "-x") == "rm -- 'a b' '$HOME' -x"
    assert shell_command("mv", "a\x1b'b", "ü") == "mv $'a\\x1b\\x27b' 'ü'"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain text", "plain text"),
        ("Grüße".encode(), "Grüße"),
        (b"\x1b[2Jgone", "\\u001b[2Jgone"),
        (b"a\nb\rc\0", "a\\nb\\u000dc\\u0000"),
        ("\u202eevil\u2066".encode(), "\\u202eevil\\u2066"),
        ("\x9b31m".encode(), "\\u009b31m"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"x" * 600, "x" * 512 + "…"),
    ],
)
def test_bytes_of_a_guest_in_one_line(data: bytes, text: str) -> None:
    assert escape_bytes(data) == text
