"""Mypy refuses what must_not_check.py says it refuses, with that error, and nothing else there."""

import re
from collections import defaultdict
from pathlib import Path

import pytest
from mypy import api

from tests.repository import ROOT

FILE = Path("tests/typing/must_not_check.py")
_EXPECTED = re.compile(r"# E: \[([a-z-]+(?:, [a-z-]+)*)\]$")
_FOUND = re.compile(rf"{re.escape(str(FILE))}:(\d+): error: .*\[([a-z-]+)\]$")


def expected() -> dict[int, set[str]]:
    lines = (ROOT / FILE).read_text().splitlines()
    return {
        number: set(match[1].split(", ")) for number, line in enumerate(lines, 1) if (match := _EXPECTED.search(line))
    }


def test_exactly_the_expected_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    output, errors, _ = api.run(["--config-file", "pyproject.toml", "--no-error-summary", "--no-pretty", str(FILE)])
    found: dict[int, set[str]] = defaultdict(set)
    for line in output.splitlines():
        if match := _FOUND.match(line):
            found[int(match[1])].add(match[2])
    assert dict(found) == expected(), f"{output}\n{errors}"


def test_each_function_has_a_twin_that_passes_or_only_the_verifier_could_write_one() -> None:
    functions = (ROOT / FILE).read_text().split("\ndef ")[1:]
    alone = [body.split("(", 1)[0] for body in functions if not has_twin(body)]
    assert alone == ["only_the_verifier_mints_a_verified_plan", "only_the_verifier_mints_evidence"]


def has_twin(body: str) -> bool:
    """Whether a statement without an expected error stands beside those with one."""
    lines = [line for line in body.split(":\n", 1)[1].splitlines() if re.match(r" {4}[a-z_]", line)]
    return any("# E:" not in line and not line.startswith("    del ") for line in lines)


def test_nobody_borrows_a_seal() -> None:
    """What the type checker can't refuse: a module that makes evidence with another's permission, or one of its own."""
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "mvmnix").rglob("*.py")}
    assert sorted(path for path, text in texts.items() if re.search(r"\b_SEAL\b|\b_seals\b|\bSeal\(", text)) == [
        "mvmnix/builder/reproduce/comparison.py",
        "mvmnix/launch/gate/snapshot.py",
        "mvmnix/launch/gate/verify.py",
        "mvmnix/provenance/verify/authentication.py",
        "mvmnix/provenance/verify/summary.py",
        "mvmnix/provenance/verify/verify.py",
        "mvmnix/sealed.py",
    ]
    made = [line for text in texts.values() for line in text.splitlines() if re.search(r"\bSeal\(", line)]
    assert made == ["_SEAL: Final = Seal()"] * 6
