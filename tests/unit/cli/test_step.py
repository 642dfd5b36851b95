"""What a workflow's step writes: bounded, a row for each reason, images and certified identities too."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mvmnix.cli.commands import verify_step
from mvmnix.cli.commands.verify_step import (
    LEFT_OUT,
    OPTIONS,
    annotations,
    arguments,
    read_inputs,
    read_verdict,
    rows,
    summary,
)
from mvmnix.system import process
from tests.repository import ROOT

ACTION = (ROOT / "action/action.yml").read_text()
#: Defaults of the action's inputs, by their names.
DEFAULTS = dict(re.findall(r'(?m)^ {2}([a-z-]+):\n {4}description: .*\n {4}default: "(.*)"$', ACTION))
REASON = {"code": "source-mismatch", "what": "app.img", "why": "expected x", "next": "look"}


def verified(**counted: Any) -> dict[str, Any]:
    each = {"type": "urn:x", "signer": "key", "identity": None, "time": None, "witness": "no log, no trusted time"}
    each["package"] = None
    return {"verified": True, "artifacts": [{"artifact": "a", "verified": True, "statements": [each | counted]}]}


def test_who_vouches() -> None:
    assert list(rows(verified())) == [("a", "verified", "urn:x, by key (no log, no trusted time)")]
    certified = verified(identity={"subject": "ci", "issuer": "https://issuer.test"}, time="2026-09-01T12:00:00Z")
    del certified["artifacts"][0]["statements"][0]["witness"]
    ((_, _, who),) = rows(certified)
    assert who == "urn:x, by ci, certified by https://issuer.test (signed 2026-09-01T12:00:00Z)"
    ((_, _, who),) = rows(verified(type=None))
    assert who.startswith("a signature over the file, by key")
    ((_, _, who),) = rows(verified(package="pkg:npm/app@1"))
    assert who.startswith("urn:x, package pkg:npm/app@1, by key")


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
    monkeypatch.setenv("INPUTS", json.dumps(with_inputs()))
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


def with_inputs(**inputs: str) -> dict[str, str]:
    """The inputs as the runner hands them on: what a step leaves out has its default."""
    return DEFAULTS | {"artifacts": "a"} | {name.replace("_", "-"): text for name, text in inputs.items()}


def test_inputs_become_arguments() -> None:
    inputs = with_inputs(artifacts="a\n--b\n", source_uri="x y; $(z)")
    assert arguments(inputs) == ["verify", "--json", "--source-uri=x y; $(z)", "--", "a", "--b"]
    assert len(set(OPTIONS)) == len(OPTIONS) == 14


@pytest.mark.parametrize("name", ["a ", " a", "a\t", "\u00a0a", "a\r", "a\x0b", "a\u2028b"], ids=ascii)
def test_what_is_verified_is_the_file_that_is_named(name: str) -> None:
    """A build may leave a file beside the verified one whose name differs from its by a blank."""
    assert arguments(with_inputs(artifacts=f"a\n{name}\n"))[-2:] == ["a", name]


def test_each_input_has_a_default_that_is_not_empty() -> None:
    """An empty default could not be told from an expression without a value."""
    assert ["artifacts", *OPTIONS] == re.findall(r"(?m)^ {2}([a-z-]+):\n {4}description:", ACTION.split("outputs:")[0])
    assert dict.fromkeys(OPTIONS, LEFT_OUT) == DEFAULTS
    assert arguments(with_inputs()) == ["verify", "--json", "--", "a"]


@pytest.mark.parametrize("text", ["", " ", "\n", "\t \n"])
@pytest.mark.parametrize("name", ["artifacts", *OPTIONS])
def test_an_input_without_a_value_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, text: str
) -> None:
    """`${{ vars.TAG }}` without TAG: nothing is verified, since less than what was meant would be."""
    status = refused_by_step(monkeypatch, tmp_path, with_inputs() | {name: text})
    assert status == 2
    assert name in (tmp_path / "summary").read_text().replace("&#45;", "-")


@pytest.mark.parametrize(
    "inputs",
    [
        with_inputs(artifacts="a\n\nb"),
        with_inputs(artifacts="\na"),
        with_inputs(artifacts="a\n\n"),
        with_inputs(source_tags="v1"),
        {name: text for name, text in with_inputs().items() if name != "source-tag"},
        {},
        [],
        {"artifacts": ["a"]},
        None,
    ],
    ids=json.dumps,
)
def test_no_input_is_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inputs: object) -> None:
    """One of several artifacts without a value, a name that is mistyped, or one that action.yml doesn't hand on."""
    assert refused_by_step(monkeypatch, tmp_path, inputs) == 2


@pytest.mark.parametrize("character", ["\0", "\ud800"], ids=ascii)
@pytest.mark.parametrize("name", ["artifacts", "key"])
def test_what_no_argument_can_hold_is_no_verdict(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, character: str
) -> None:
    monkeypatch.setenv("INPUTS", json.dumps(with_inputs() | {name: f"a{character}"}))
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    assert verify_step.main() == 2
    assert (tmp_path / "output").read_text() == "verified=false\n"


def refused_by_step(monkeypatch: pytest.MonkeyPatch, path: Path, inputs: object) -> int:
    """The exit code of a step that starts nothing, whose output is that nothing is verified."""
    monkeypatch.setattr(verify_step, "run", lambda *_, **__: pytest.fail("mvm verify was started"))
    monkeypatch.setenv("INPUTS", json.dumps(inputs))
    monkeypatch.setenv("GITHUB_OUTPUT", str(path / "output"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path / "summary"))
    status = verify_step.main()
    assert (path / "output").read_text() == "verified=false\n"
    return status


def test_names_are_read_in_any_case() -> None:
    assert read_inputs('{"Source-Tag": "v1"}') == {"source-tag": "v1"}
