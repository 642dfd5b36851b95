"""Findings have their places; witnesses are looked up, links followed, and allowances used up."""

from collections.abc import Mapping
from typing import Any

import pytest

from mvmnix.claims.lint import Finding, Linter
from mvmnix.claims.rules import Rule
from mvmnix.claims.sarif import sarif_log
from mvmnix.claims.settings import ClaimSettings, Exemption

CLAIM = "A guest can't reach the host's network."
TESTS = b"""import pytest

def test_runs(): pass

def helper(): pass

@pytest.mark.skip(reason="x")
def test_skipped(): pass

@pytest.mark.xfail
def test_fails(): pass

@pytest.mark.skipif(True, reason="x")
def test_perhaps(): pass

@pytest.mark.skip
class TestSkipped: pass
"""
FILES = {
    "tests/test_a.py": TESTS,
    "tests/test_idle.py": b"import pytest\npytestmark = [pytest.mark.skip]\ndef test_a(): pass\n",
    "tests/test_called.py": b"import pytest\npytest.skip('x', allow_module_level=True)\n",
    "tests/test_annotated.py": b"import pytest\npytestmark: list = [pytest.mark.skip(reason='x')]\n",
    "tests/deep.py": b"@a" + b"()" * 1000 + b"\ndef test_a(): pass\n",
    "tests/broken.py": b"def (",
    "tests/net.rs": b"#[test]\n#[ignore]\nfn refuses() {}\n#[test]\nfn\n  denies() {}\n",
    "tests/net.test.js": b"it.skip('denies')\nit('refuses')",
    "docs/other.md": b"# Other page\n\n## Its network, too\n\nWitness: `tests/test_a.py::test_runs`.\n\n## None\n\nx\n",
}


def lint(
    text: str,
    path: str = "docs/page.md",
    outcomes: Mapping[str, str] | None = None,
    exempt: tuple[Exemption, ...] = (),
) -> list[Finding]:
    linter = Linter(ClaimSettings(exempt=exempt), FILES.get, outcomes or {})
    return [*linter.lint(linter.read(path, text.encode()))]


def test_a_finding_has_its_place_in_the_file() -> None:
    text = "# Title\n\nSome words, and\n  then it is *unhackable* for\nall.\n\n- Item: instant boot.\n"
    assert [(it.path, it.line, it.column, it.words) for it in lint(text)] == [
        ("docs/page.md", 4, 15, "unhackable"),
        ("docs/page.md", 7, 9, "instant boot"),
    ]
    assert str(lint(text)[0]).startswith("docs/page.md:4:15: broad-phrase: unhackable: say what exactly holds")


@pytest.mark.parametrize(
    ("witness", "why"),
    [
        ("tests/test_a.py::test_runs", ""),
        ("tests/test_a.py::TestSkipped::test_x", "its file has no such test"),
        ("tests/test_a.py", ""),
        ("tests/test_a.py::test_perhaps", ""),
        ("tests/test_a.py::test_skipped", "it is skipped"),
        ("tests/test_a.py::test_fails", "it is skipped"),
        ("tests/test_a.py::TestSkipped", "it is skipped"),
        ("tests/test_a.py::helper", "it isn't called as tests are"),
        ("tests/test_called.py", "its file is skipped"),
        ("tests/test_annotated.py", "its file is skipped"),
        ("tests/test_a.py::TestSkipped::test_runs", "it is skipped"),
        ("tests/test_a.py::test_gone", "its file has no such test"),
        ("tests/test_idle.py::test_a", "its file is skipped"),
        ("tests/test_idle.py", "its file is skipped"),
        ("tests/deep.py::test_a", ""),
        ("tests/broken.py::test_a", "its file isn't Python"),
        ("tests/none.py::test_a", "there is no such file"),
        ("tests/net.rs::refuses", "it is skipped"),
        ("tests/net.rs::denies", ""),
        ("tests/net.test.js::denies", "it is skipped"),
        ("tests/net.test.js::allows", "its file has no such test"),
    ],
)
def test_a_witness_exists_and_runs(witness: str, why: str) -> None:
    found = lint(f"{CLAIM} Witness: `{witness}`.")
    assert [(it.rule, it.words, it.hint.partition(":")[0]) for it in found] == (
        [(Rule.MISSING_WITNESS, witness, why)] if why else []
    )


@pytest.mark.parametrize(("outcome", "count"), [("passed", 0), ("skipped", 1), ("failed", 1)])
def test_a_witness_passed_where_results_are_given(outcome: str, count: int) -> None:
    found = lint(f"{CLAIM} Witness: `tests/test_a.py::test_runs`.", outcomes={"tests/test_a.py::test_runs": outcome})
    assert len(found) == count


@pytest.mark.parametrize(
    "text",
    [
        f"{CLAIM}\n\nWitnesses: `tests/test_a.py::test_runs`,\n`tests/test_a.py`.",
        f"Witnesses:\n\n- `tests/test_a.py`\n\n{CLAIM}",
        f"| claim | witness |\n| --- | --- |\n| {CLAIM} | `tests/test_a.py::test_runs` |",
        f"{CLAIM}\n\n## More\n\n{CLAIM}\n\n## Witnesses\n\nOne.\n\n`tests/test_a.py` has it.",
        f"{CLAIM} <!-- Witness: tests/test_a.py::test_runs -->",
        f"{CLAIM} ([more](other.md#its-network-too))",
        f"{CLAIM} ([more](other.md))",
        f"{CLAIM} ([below](#tests))\n\n## Tests\n\nWitness: `tests/test_a.py`.",
    ],
)
def test_a_claim_has_a_witness_in_its_section_or_behind_its_link(text: str) -> None:
    assert lint(text) == []


@pytest.mark.parametrize(
    "text",
    [
        f"{CLAIM}\n\n## Tests\n\nWitness: `tests/test_a.py`.",
        f"{CLAIM} Witness: docs/other.md",
        f"{CLAIM} Witness: soon.",
        f"{CLAIM} Witness: `src/guest.py`.",
        f"{CLAIM}\n\n```\nWitness: `tests/test_a.py`.\n```",
        f"| claim | witness |\n| --- | --- |\n| x | `tests/test_a.py` |\n| {CLAIM} | |",
        f"{CLAIM} See tests/test_a.py.",
        f"{CLAIM} ([more](other.md#none))",
        f"{CLAIM} ([more](gone.md))",
        f"{CLAIM} ([more](https://other.example/tests/test_a.py))",
        f"{CLAIM} ([more](../../etc/passwd.md))",
    ],
)
def test_a_claim_without_one_is_found(text: str) -> None:
    assert [it.rule for it in lint(text)] == [Rule.CLAIM_WITHOUT_WITNESS]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("<!-- claims: allow broad-phrase: the title of a talk -->\nIt is unhackable,\nand unbreakable.", "a.md"),
        ("It is unhackable. <!-- claims: allow broad-phrase: the title of a talk -->", "a.md"),
        ('# claims: allow oci-without-digest: a stand-in\nrun("x", image="debian:13")', "a.py"),
        (
            "docker run debian:13  # claims: allow oci-without-digest, credential: a stand-in\ntoken=ghp_" + "a1" * 18,
            "a.sh",
        ),
    ],
)
def test_a_comment_allows_a_finding_beside_it(text: str, path: str) -> None:
    assert lint(text, path) == []


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("<!-- claims: allow broad-phrase -->\nIt is unhackable.", ["needless-allowance", "broad-phrase"]),
        ("<!-- claims: allow credential: x y z -->\nIt is unhackable.", ["needless-allowance", "broad-phrase"]),
        ("<!-- claims: allow broad-phrases: x y z -->\nIt is unhackable.", ["needless-allowance", "broad-phrase"]),
        (
            "<!-- claims: allow broad-phrase: x y z -->\n\nx\n\nIt is unhackable.",
            ["needless-allowance", "broad-phrase"],
        ),
    ],
)
def test_an_allowance_without_reason_or_use_is_found(text: str, rules: list[str]) -> None:
    assert [it.rule.value for it in lint(text)] == rules


@pytest.mark.parametrize(
    ("comment", "hint"),
    [
        ("broad-phrase", "it allows nothing without a reason"),
        ("brod-phrase: x y z", "there is no such rule; did you mean broad-phrase?"),
        ("credential: x y z", "nothing is found there"),
    ],
)
def test_what_is_wrong_with_an_allowance_is_told(comment: str, hint: str) -> None:
    [needless, _] = lint(f"<!-- claims: allow {comment} -->\nIt is unhackable.")
    assert needless.hint.startswith(hint)


def test_an_allowance_or_a_witness_that_a_document_shows_is_none() -> None:
    text = "Write `<!-- claims: allow broad-phrase: x y z -->`.\n\n```\n# claims: allow credential: x y z\n"
    assert lint(f"{text}Witness: tests/none.py\n```\n") == []


def test_an_exempt_file_is_spared_these_rules() -> None:
    exempt = (Exemption(("docs/*.md",), (Rule.BROAD_PHRASE,), "old"),)
    assert [it.rule for it in lint(f"It is unhackable. {CLAIM}", exempt=exempt)] == [Rule.CLAIM_WITHOUT_WITNESS]
    assert lint("It is unhackable.", "page.md", exempt=exempt) != []


def test_what_is_no_text_is_told() -> None:
    with pytest.raises(ValueError, match="can't decode"):
        Linter(ClaimSettings(), FILES.get, {}).read("a.md", b"\xff")


@pytest.mark.parametrize("text", ["def (", "x = 1\0", "print 'x'"])
def test_what_is_no_python_is_read_by_its_lines(text: str) -> None:
    assert [it.line for it in lint(f'{text}\nrun(image="debian:13")', "a.py")] == [2]
    assert [it.rule for it in lint(f"\ufeff# T\n\nIt is unhackable. {text}", "a.md")] == [Rule.BROAD_PHRASE]


@pytest.mark.parametrize(
    "text",
    [
        "A `<!--` begins a comment.\n\nIt is unhackable.",
        "<!--> It is unhackable.",
        "<!-- not ended\n\nIt is unhackable.",
        "```x``` is code.\n\nIt is unhackable.",
        "```\nx\n```x\n```\n\nIt is unhackable.",
        "x\u2028```\n\nIt is unhackable.",
        "It is **fully** secure.",
        "It is unhack\u200bable.",
        "It is " + "very " * 1000 + "unhackable.",
    ],
)
def test_what_a_reader_sees_is_read(text: str) -> None:
    assert [it.rule for it in lint(text)] == [Rule.BROAD_PHRASE]


@pytest.mark.parametrize(
    "text",
    [
        "not " + "," * 2000 + " x x x x x x x unhackable.",
        "TCG: not " + "," * 2000 + " x x x x x x x x x same isolation",
        "- word word word word\n" * 20_000,
        "| claim | witness |\n| --- | --- |\n" + f"| {CLAIM} | |\n" * 5_000,
        f"# A\n\n{CLAIM}\n\n" * 5_000,
    ],
    ids=len,
)
def test_a_document_does_not_hold_it_up(text: str) -> None:
    """None of these ends within the suite's time if it takes time with the square of its length."""
    lint(text)


def test_a_witness_that_was_not_run_is_none() -> None:
    text = f"{CLAIM} Witness: `tests/test_a.py::test_runs`."
    [found] = lint(text, outcomes={"tests/test_b.py::test_x": "passed"})
    assert found.hint.startswith("it isn't in the given results")


@pytest.mark.parametrize(("path", "count"), [("CHANGELOG.md", 0), ("docs/changes-2.md", 0), ("docs/change.md", 1)])
def test_a_changelog_is_asked_for_no_witness(path: str, count: int) -> None:
    assert len(lint(f"- {CLAIM}\n- It is *now* a guest.", path)) == count
    assert [it.rule for it in lint("It is unhackable.", path)] == [Rule.BROAD_PHRASE]


def test_claims_are_listed_with_status_and_witnesses() -> None:
    text = f"{CLAIM} Witness: `tests/test_a.py::test_runs`.\n\n## Later (Planned)\n\nSecrets are never written.\n"
    linter = Linter(ClaimSettings(), FILES.get, {})
    claims = linter.find_claims(linter.read("docs/page.md", text.encode()))
    assert [(it.line, it.status, it.witnesses) for it in claims] == [
        (1, "available", ("tests/test_a.py::test_runs",)),
        (5, "planned", ()),
    ]
    assert lint(text) == []


def test_a_log_of_sarif_has_the_rule_and_the_place() -> None:
    log: Any = sarif_log(lint("It is unhackable."), (), "1.2")
    assert log["version"] == "2.1.0"
    [run] = log["runs"]
    driver = run["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("mvm lint claims", "1.2")
    assert {rule["id"] for rule in driver["rules"]} == set(Rule)
    [result] = run["results"]
    assert result["ruleId"] == "broad-phrase"
    [place] = result["locations"]
    assert place["physicalLocation"] == {
        "artifactLocation": {"uri": "docs/page.md"},
        "region": {"startLine": 1, "startColumn": 7},
    }
