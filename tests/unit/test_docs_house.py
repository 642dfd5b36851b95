"""The documents against the house: help texts, commands, links, witnesses, codes and labels are what they say."""

import ast
import importlib
import inspect
import re
import tomllib
from functools import cache
from pathlib import Path

import click
import pytest

from mvmnix import __version__, errors
from mvmnix.cli.main import cli
from mvmnix.errors import MvmnixError
from tests.pages import blocks
from tests.repository import ROOT, tracked

README = (ROOT / "README.md").read_text()
TRACKED = tracked()
DOCUMENTS = [ROOT / path for path in TRACKED if path.suffix == ".md" and path.parts[0] in {path.name, "docs"}]
RECORDS = [path for path in DOCUMENTS if path.parent == ROOT / "docs/adr" and path.name != "index.md"]
#: These name modules as they were called.
FORMER = {ROOT / "CHANGELOG.md", *RECORDS}
#: What is not there yet is spoken of beside one of these.
LABELS = re.compile(r"Planned|Preview|in this version|not among the goals|Not among", re.IGNORECASE)


#: Characters in a line of a document.
WIDTH = 100


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def paragraphs(path: Path) -> list[str]:
    """Paragraphs, and each row of a table and each item of a list by itself."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    return [part for part in re.split(r"\n\s*\n|\n(?=[|-] ?|\d+\. )", text) if part.strip()]


@cache
def anchors(path: Path) -> set[str]:
    """How a renderer of Markdown names the headings of a document."""
    headings = re.findall(r"(?m)^#+ (.*)$", path.read_text())
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_hook_for_generations_is_the_one_that_is_tested() -> None:
    _, _, code = (ROOT / "tests/vm/generations/hook.py").read_text().partition('"""\n\n')
    assert f"```python\n{code}```" in (ROOT / "docs/reference/guests.md").read_text()


def long_lines(path: Path) -> list[str]:
    """Tables, commands and single long words are as wide as they are."""
    prose = re.sub(r"(?ms)^ *```.*?^ *```$", "", path.read_text())
    long = [line for line in prose.splitlines() if len(line) > WIDTH and not line.startswith("|")]
    return [line for line in long if " " in re.sub(r"`[^`]*`", "", line.strip()).removeprefix("- ")]


def test_lines_are_wrapped() -> None:
    assert not {name(path): long for path in DOCUMENTS if (long := long_lines(path))}


def leads_somewhere(path: Path, target: str) -> bool:
    file, _, anchor = target.partition("#")
    linked = (path.parent / file).resolve() if file else path
    return "://" in target or (linked.exists() and (not anchor or anchor in anchors(linked)))


def test_links_lead_somewhere() -> None:
    links = [(path, target) for path in DOCUMENTS for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text())]
    assert len(links) > 100
    assert not [(name(path), target) for path, target in links if not leads_somewhere(path, target)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_witnesses_exist(path: Path) -> None:
    """A test that a document names is there, and so is every other file of this repository that it names."""
    text = path.read_text()
    for file, test in re.findall(r"`(tests/[\w/.*]+\.py)(?:::(\w+))?`", text):
        found = list(ROOT.glob(file))
        assert found, file
        assert not test or f"def {test}(" in found[0].read_text(), f"{file}::{test}"
    for file in re.findall(r"`((?:mvmnix|modules|profiles|examples|docs)/[\w/.*-]+)`", text):
        assert list(ROOT.glob(file.rstrip("/"))), file
    assert not re.findall(r"`test_\w+\.py\b[^`]*`", text), "name a test by its whole path"
    if path not in FORMER:
        assert not [file for file in re.findall(r"`([\w/]+\.py)[`:]", text) if not is_there(file)]


def is_there(file: str) -> bool:
    """Whether a module is tracked, by its path or by the end of it."""
    return any(f"/{path}".endswith(f"/{file}") for path in TRACKED)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_commands_are_real(path: Path) -> None:
    """What a document writes as a command of mvm or of make is one, with options that it has; or is labelled."""
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    for part in paragraphs(path):
        codes = re.findall(r"`((?:mvm|make) [^`]+)`", part)
        for code in codes:
            program, *words = code.split(" ")
            if program == "make":
                assert words[0] in targets, code
            elif not LABELS.search(part) and re.match(r"[a-z]", words[0]):
                check_command(words, code)


def check_command(words: list[str], code: str) -> None:
    context = click.Context(cli, info_name="mvm")
    command = cli.get_command(context, words.pop(0).rstrip(","))
    assert command is not None, code
    if isinstance(command, click.Group) and words and re.fullmatch(r"[a-z]+", words[0]):
        command = command.get_command(context, words.pop(0))
        assert command is not None, code
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = [word for word in " ".join(words).partition(" -- ")[0].split() if re.match(r"--[a-z]", word)]
    assert {word.partition("=")[0].rstrip(",") for word in given} <= options | {"--help"}, code


def test_commands_in_messages_are_real() -> None:
    """What mvm tells people to run next is there."""
    said = {
        code
        for path in TRACKED
        if path.suffix == ".py" and path.parts[0] == "mvmnix"
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for code in [*re.findall(r"`(mvm [^`]+)`", node.value), *re.findall(r"^(mvm [a-z][^;.]*)$", node.value)]
    }
    assert len(said) > 10
    for code in said:
        words = code.split()[1:]
        if words[0] != "…":
            check_command(words, code)


def test_messages_that_are_explained_are_mvms() -> None:
    """Of what the page on troubleshooting quotes, three words in a row at least are in a message of the code."""
    constants = (
        node.value
        for path in TRACKED
        if path.suffix == ".py" and path.parts[0] == "mvmnix"
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    said = re.sub(r"\s+", " ", "\n".join(constants))
    page = re.sub(r"(?ms)^```sh\n.*?^```$", "", (ROOT / "docs/how-to/troubleshoot.md").read_text())
    quoted = [*re.findall(r"`([^`\n]+)`", page), *re.findall(r"(?m)^(?:  \w+: |• ).*$", page)]
    messages = [words for words in map(str.split, quoted) if len(words) > 4 and words[0] != "mvm"]
    assert len(messages) > 10
    assert not [
        words for words in messages if not any(" ".join(words[at : at + 3]) in said for at in range(len(words) - 2))
    ]


#: This page shows messages, and the test above reads them.
MESSAGES = ROOT / "docs/how-to/troubleshoot.md"


@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if path.parent.name in {"tutorial", "how-to"} and path != MESSAGES], ids=name
)
def test_output_that_is_shown_is_compared(path: Path) -> None:
    """A block of text that stands elsewhere than right behind its command would be held against nothing."""
    page = path.read_text()
    assert len(re.findall(r"(?m)^ *```text$", page)) == sum(bool(block.printed) for block in blocks(page))


def test_every_document_is_in_the_index() -> None:
    """Records of decisions in the index of their own."""
    for index, folders in (
        ("docs/index.md", ("tutorial", "how-to", "reference", "explanation")),
        ("docs/adr/index.md", ("adr",)),
    ):
        text, place = (ROOT / index).read_text(), (ROOT / index).parent
        pages = [path for path in DOCUMENTS if path.parent.name in folders and path.is_relative_to(ROOT / "docs")]
        missing = [name(path) for path in pages if f"]({path.relative_to(place)})" not in text and path != ROOT / index]
        assert len(pages) > 20 and not missing
    assert {path.parent for path in DOCUMENTS} - {ROOT} == {
        ROOT / "docs",
        *(ROOT / "docs" / each for each in ("tutorial", "how-to", "reference", "explanation", "adr")),
    }


@pytest.mark.parametrize("path", RECORDS, ids=name)
def test_a_decision_has_its_three_parts(path: Path) -> None:
    text = path.read_text()
    number = int(path.name[:4])
    assert text.startswith(f"# {number}. ")
    assert re.findall(r"(?m)^## (.*)$", text) == ["Context", "Decision", "Consequences"]
    assert len(text) <= 4500, "a record is short"


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(path.name[:4]) for path in RECORDS] == list(range(1, len(RECORDS) + 1))


def test_exit_codes_are_documented() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, MvmnixError)]
    page = (ROOT / "docs/reference/exit-codes.md").read_text()
    assert all(f"\n| {kind.exit_code} |" in page for kind in kinds)


def test_the_changelog_knows_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    assert re.search(rf"(?m)^## \[{re.escape(__version__)}\]", (ROOT / "CHANGELOG.md").read_text())


def test_the_license_is_the_one_that_is_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    words = (ROOT / "LICENSE").read_text().split()
    assert (project["license"], words[:4]) == ("Apache-2.0", ["Apache", "License", "Version", "2.0,"])


def test_the_nouns_are_where_the_architecture_says() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    rows = re.findall(r"(?m)^\| (`[^|]*) \|[^|]*\|[^|]*\| `([\w/]+)(?:\.py|/)`", page)
    assert len(rows) > 10
    home = {"FlakeRef": "model", "Image": "model", "Source": "model"}
    for nouns, module in rows:
        for noun in re.findall(r"`(\w+)[`\[]", nouns):
            where = home.get(noun, module.replace("/", "."))
            assert hasattr(importlib.import_module(f"mvmnix.{where}"), noun), (noun, where)
