"""What a workflow's step writes: bounded, a row for each reason, images and certified identities too."""

import re
from pathlib import Path
from typing import Any

import pytest

from mvmnix import process
from mvmnix.cli.commands import verify_step
from mvmnix.cli.commands.verify_step import OPTIONS, annotations, arguments, read_verdict, rows, summary

REASON = {"code": "source-mismatch", "what": "app.img", "why": "expected x", "next": "look"}


def verified(**counted: Any) -> dict[str, Any]:
    each = {"type": "urn:x", "signer": "key", "identity": None, "time": None, "witness": "no log, no trusted time"}
    return {"verified": True, "artifacts": [{"artifact": "a", "verified": True, "statements": [each | counted]}]}


def test_who_vouches() -> None:
    assert list(rows(verified())) == [("a", "verified", "urn:x, by key (no log, no trusted time)")]
    certified = verified(identity={"subject": "ci", "issuer": "https://issuer.test"}, time="2026-09-01T12:00:00Z")
    del certified["artifacts"][0]["statements"][0]["witness"]
    ((_, _, who),) = rows(certified)
    assert who == "urn:x, by ci, certified by https://issuer.test (signed 2026-09-01T12:00:00Z)"
    ((_, _, who),) = rows(verified(type=None))
    assert who.startswith("a signature over the file, by key")


def test_an_image() -> None:
    passed = {"verified": True, "signer": "builder", "builder": "urn:b", "level": 1, "identity": None, "time": None}
    passed |= {"witness": "no log, no trusted time"}
    assert list(rows(passed)) == [("image", "verified", "builder, urn:b, SLSA Build L1 (no log, no trusted time)")]
    assert list(rows({"verified": False, "reasons": [REASON]})) == [
        ("app.img", "refused [source-mismatch]", "expected x. Next: look")
    ]


def test_it_is_bounded() -> None:
    many = {"verified": False, "reasons": [REASON | {"why": "|" * 10_000}] * 1000}
    text = summary(1, many, "")
    assert 2**18 < len(text.encode()) < 2**20
    assert re.search(r"\n… and [89]\d\d more\n$", text)
    few = {"verified": False, "reasons": [REASON] * 201}
    assert summary(1, few, "").endswith("\n… and 1 more\n")
    assert len(list(annotations(many, ""))) == 200
    assert len(summary(2, None, "word\n" * 10_000).splitlines()) < 210


@pytest.mark.parametrize("character", ["|", "\u00e9", "\u4e2d", "\U0001d51e", "\x1b", "\u202e"])
def test_it_is_bounded_in_bytes(character: str) -> None:
    """The runner counts bytes, and throws a summary away that has too many."""
    many = {"verified": False, "reasons": [REASON | {"what": character * 10_000, "why": character * 10_000}] * 1000}
    assert len(summary(1, many, "").encode()) < 2**20
    assert max(len(line.encode()) for line in annotations(many, "")) < 2**16
    assert max(len(line.encode()) for line in annotations(None, character * 10**6)) < 2**16


def test_no_verdict_is_no_refusal() -> None:
    """Python ends with 1 as well when it can't so much as start."""
    assert summary(1, None, "Traceback").startswith("### mvm verify: could not verify\n")
    for text in (b"", b"\n", b"no json", b"[]", b"{}", b'{"result": 1}', b"\xff"):
        assert read_verdict(text) is None
    assert read_verdict(b'{"result": {"verified": true}}') == {"verified": True}


def test_a_crash_is_no_refusal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for status, printed, code in (
        (1, b"", 2),
        (0, b"", 2),
        (137, b'{"result": {"verified": false, "reasons": []}}', 2),
        (1, b'{"result": {"verified": false, "reasons": []}}', 1),
    ):
        done = process.Completed(("mvm",), status, printed, b"Traceback (most recent call last):")
        monkeypatch.setattr(verify_step, "run", lambda *_, done=done, **__: done)
        output, written = tmp_path / f"output-{status}-{code}", tmp_path / f"summary-{status}-{code}"
        monkeypatch.setenv("GITHUB_OUTPUT", str(output))
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(written))
        assert verify_step.main() == code
        assert output.read_text() == "verified=false\n"
        assert written.read_text().startswith(f"### mvm verify: {'refused' if code == 1 else 'could not verify'}\n")


def test_inputs_become_arguments() -> None:
    inputs = {"INPUT_ARTIFACTS": "a\n\n --b \n", "INPUT_SOURCE_URI": "x y; $(z)", "INPUT_KEY": ""}
    assert arguments(inputs) == ["verify", "--json", "--source-uri=x y; $(z)", "--", "a", "--b"]
    assert len(set(OPTIONS)) == len(OPTIONS) == 13
