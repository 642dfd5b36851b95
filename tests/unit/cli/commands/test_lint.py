"""`mvm lint claims`: lines, JSON, SARIF and a table; which files are read, and how it ends."""

import json
import os
from pathlib import Path

import pytest

from mvmnix.claims.rules import Rule
from tests.unit.cli.station import Station

CLAIM = "A guest can't reach the host. Witness: `checks/test_a.py::test_it`.\n"
RESULTS = '<testsuite><testcase classname="checks.test_a" name="test_it">{}</testcase></testsuite>'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in the current directory."""
    root = tmp_path / "project"
    for path, text in {
        "README.md": "It is unhackable.\n",
        "docs/guide.md": CLAIM,
        "docs/old/page.md": "It is unhackable.\n",
        "notes/page.md": "It is unhackable.\n",
        ".hidden/page.md": "It is unhackable.\n",
        "checks/test_a.py": "def test_it(): pass\n",
        "claims.toml": 'version = 1\ninclude = ["*.md", "docs/**/*.md", ".hidden/*"]\nexclude = ["docs/old/*"]\n',
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    monkeypatch.chdir(root)
    return root


def test_findings_are_lines_and_a_sum(station: Station, project: Path) -> None:
    told = station.mvm("lint", "claims")
    hint = "say what exactly holds, for whom, and name the test that shows it"
    assert told.out == f"README.md:1:7: broad-phrase: unhackable: {hint}\n"
    assert (told.code, told.err) == (1, "1 claim, 1 finding\n")


def test_nothing_found_is_nothing_printed(station: Station, project: Path) -> None:
    told = station.mvm("lint", "claims", "docs")
    assert (told.code, told.out, told.err) == (0, "", "1 claim, 0 findings\n")


def test_a_named_file_is_read_though_it_is_excluded(station: Station, project: Path) -> None:
    told = station.mvm("lint", "claims", "docs/old/page.md", str(project / "notes/page.md"))
    assert [line.split(":")[0] for line in told.out.splitlines()] == ["docs/old/page.md", "notes/page.md"]


def test_settings_elsewhere_bring_their_project(
    station: Station, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = station.mvm("lint", "claims", "--config", "project/claims.toml")
    assert (told.code, told.out.split(":")[0], told.err) == (1, "README.md", "1 claim, 1 finding\n")


def test_without_settings_the_usual_documents_are_read(station: Station, project: Path) -> None:
    (project / "claims.toml").unlink()
    assert len(station.mvm("lint", "claims").out.splitlines()) == 2


def test_json_has_findings_and_claims(station: Station, project: Path) -> None:
    (project / "junit.xml").write_text(RESULTS.format(""))
    answer = station.mvm("lint", "claims", "--json", "--junit", "junit.xml").answer("claims")
    [finding] = answer["findings"]
    assert (finding["path"], finding["line"], finding["column"], finding["rule"]) == ("README.md", 1, 7, "broad-phrase")
    [claim] = answer["claims"]
    assert claim["sentence"].startswith("A guest can't reach the host.")
    assert claim["witnesses"] == [{"name": "checks/test_a.py::test_it", "outcome": "passed"}]
    assert (claim["path"], claim["status"], answer["unreadable"]) == ("docs/guide.md", "available", [])


def test_sarif_names_each_rule(station: Station, project: Path) -> None:
    told = station.mvm("lint", "claims", "--sarif")
    [run] = json.loads(told.out)["runs"]
    assert {rule["id"] for rule in run["tool"]["driver"]["rules"]} == set(Rule)
    assert [result["ruleId"] for result in run["results"]] == ["broad-phrase"]


@pytest.mark.parametrize(("content", "outcome", "code"), [("", "passed", 0), ("<skipped/>", "skipped", 1)])
def test_the_table_has_the_outcome_of_each_witness(
    station: Station, project: Path, content: str, outcome: str, code: int
) -> None:
    (project / "junit.xml").write_text(RESULTS.format(content))
    told = station.mvm("lint", "claims", "--list", "--junit", "junit.xml", "docs")
    [_, _, row] = told.out.splitlines()
    sentence = "A guest can&#39;t reach the host&#46; (docs&#47;guide&#46;md:1)"
    assert (told.code, row) == (code, f"| {sentence} | available | `checks/test_a.py::test_it` | {outcome} |")


def test_a_link_that_leads_out_is_no_witness(station: Station, project: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.py").write_text("def test_it(): pass\n")
    (project / "checks/test_a.py").unlink()
    (project / "checks/test_a.py").symlink_to(tmp_path / "secret.py")
    told = station.mvm("lint", "claims", "docs")
    assert (told.code, "missing-witness" in told.out) == (1, True)


@pytest.mark.parametrize("name", ["linked", "linked/page.md", "linked.md", "../outside/page.md"])
def test_nothing_outside_of_the_project_is_read(station: Station, project: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/page.md").write_text("It is unhackable. A secret can't be read.\n")
    (project / "linked").symlink_to(tmp_path / "outside")
    (project / "linked.md").symlink_to(tmp_path / "outside/page.md")
    (project / "claims.toml").write_text('version = 1\ninclude = ["**/*.md"]\n')
    told = station.mvm("lint", "claims", "--list", name)
    assert (told.code, "secret" in told.out, "lies outside" in told.err) == (2, False, True)


def test_settings_behind_a_link_that_leads_out_are_not_read(station: Station, project: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.toml").write_text('token = "x"\n')
    (project / "claims.toml").unlink()
    (project / "claims.toml").symlink_to(tmp_path / "secret.toml")
    told = station.mvm("lint", "claims")
    assert (told.code, "token" in told.err) == (2, False)


def test_a_picture_among_the_examples_is_left(station: Station, project: Path) -> None:
    (project / "docs/picture.md").write_bytes(b"\x89PNG\0\xff")
    assert station.mvm("lint", "claims", "docs").code == 0
    assert station.mvm("lint", "claims", "docs/picture.md").code == 2


def test_a_link_to_a_document_is_not_read_with_its_directory(station: Station, project: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.md").write_text("It is unhackable.\n")
    (project / "docs/link.md").symlink_to(tmp_path / "elsewhere.md")
    assert station.mvm("lint", "claims", "docs").code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["notes"], "no document is read there"),
        (["gone.md"], "gone.md is neither a file nor a directory"),
        (["--config", "gone.toml"], "gone.toml"),
        (["--config", "README.md"], "README.md:1:4: refused [config-malformed]"),
        (["--junit", "README.md"], "README.md: not JUnit XML"),
        (["--json", "--sarif"], "exclude each other"),
    ],
)
def test_what_cannot_be_read_ends_with_2(station: Station, project: Path, words: list[str], told: str) -> None:
    said = station.mvm("lint", "claims", *words)
    assert (said.code, said.out, told in said.err) == (2, "", True), said.err


def test_a_file_that_cannot_be_read_is_told_beside_the_findings(station: Station, project: Path) -> None:
    (project / "docs/latin.md").write_bytes(b"\xff")
    os.mkfifo(project / "docs/pipe.md")
    told = station.mvm("lint", "claims")
    assert (told.code, told.out.count("\n")) == (2, 1)
    assert "mvm: docs/latin.md: 'utf-8' codec can't decode" in told.err
    assert "mvm: docs/pipe.md: " in told.err
