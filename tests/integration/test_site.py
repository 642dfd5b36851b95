"""The built site, opened in a browser from its files: it asks nobody, is small, can be read, and its search finds."""

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pytest

from tests.browser import Browser, browser
from tests.patience import until
from tests.repository import ROOT
from tools.site.__main__ import write_sources

pytestmark = pytest.mark.integration

QUESTIONS = tomllib.loads((ROOT / "tests/integration/site_questions.toml").read_text())["question"]
#: Bytes of all files together.
LIMIT = 5_000_000
SOME_PAGES = ("index", "tutorial/first-guest", "how-to/run-commands", "reference/command-line", "search")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` builds it: a link that leads nowhere fails."""
    out = tmp_path_factory.mktemp("site") / "site"
    built = subprocess.run(
        [sys.executable, "-m", "tools.site", out], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (built.returncode, built.stderr) == (0, ""), built.stderr
    return out


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


def test_it_is_small(site: Path) -> None:
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < LIMIT


def test_generated_texts_are_in_it(site: Path) -> None:
    """And no mark is left where one belongs."""
    pages = {path.relative_to(site): path.read_text() for path in site.rglob("*.html")}
    assert not [name for name, text in pages.items() if "generated:" in text]
    for name, text in {
        "reference/command-line": "mvm snapshot create",
        "reference/reason-codes/plan-expired": "mvm explain plan-expired",
        "reference/schemas": "signers[].identity-regexp",
        "reference/sdk": "TimedOut",
        "reference/claims": "docs/explanation/threat-model.md:",
    }.items():
        assert text in pages[Path(f"{name}.html")], name


def test_generated_pages_claim_nothing_that_nothing_shows(tmp_path: Path) -> None:
    """As `make lint` reads those that are kept."""
    write_sources(tmp_path / "docs")
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "claims.toml", tmp_path)
    argv = [sys.executable, "-P", "-m", "mvmnix.cli", "lint", "claims", "docs"]
    linted = subprocess.run(
        argv, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.parametrize("name", SOME_PAGES)
def test_nobody_is_asked_and_nothing_is_wider_than_the_window(site: Path, window: Browser, name: str) -> None:
    for width in (360, 1280):
        window.window(width, 800)
        window.go(f"file://{site}/{name}.html")
        assert window.run("return document.documentElement.scrollWidth") <= width, width
    assert not [url for url in window.requests() if not url.startswith((f"file://{site}/", "data:"))]
    assert not window.complaints()


def test_no_directory_is_taken_for_an_older_site(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    refused = subprocess.run([sys.executable, "-m", "tools.site", tmp_path], cwd=ROOT, capture_output=True, check=False)
    assert (refused.returncode, (tmp_path / "kept").exists()) == (2, True)


def test_it_is_light_or_dark_as_the_reader_prefers(site: Path, window: Browser) -> None:
    colours = []
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        window.scheme(scheme)
        window.go(f"file://{site}/explanation/concepts.html")
        colours.append(window.run("return getComputedStyle(document.body).backgroundColor"))
    assert len({*colours}) == 2


def found(site: Path, window: Browser, text: str) -> Sequence[str]:
    """The pages that the search box's answer has, in its order."""
    window.go(f"file://{site}/search.html?q={quote(text)}")
    hits = "return [...document.querySelectorAll('ul.search > li > a')].map(link => link.href)"
    until(lambda: "Search finished" in window.run("return document.querySelector('#search-results').innerText"))
    names = [url.removeprefix(f"file://{site}/").partition(".html")[0] for url in window.run(hits)]
    return [*dict.fromkeys(names)]


def test_the_search_answers_what_users_of_other_tools_ask(site: Path, window: Browser) -> None:
    answers = {it["text"]: it["answers"] for it in QUESTIONS}
    first = {text: found(site, window, text)[:3] for text in answers}
    missed = {text: pages for text, pages in first.items() if not {*pages} & {*answers[text]}}
    assert len(QUESTIONS) >= 20
    assert len(missed) <= len(QUESTIONS) // 10, missed
    for question in QUESTIONS:
        assert all((site / f"{page}.html").is_file() for page in question["answers"]), question


def test_a_word_that_no_page_has_finds_nothing(site: Path, window: Browser) -> None:
    window.go(f"file://{site}/search.html?q=zyxwvut")
    until(lambda: "did not match" in window.run("return document.querySelector('#search-results').innerText"))
