"""Builds the documents as a site in a directory, with the pages that are generated: `make docs`."""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.repository import ROOT, tracked
from tools.site import benchmarks, claims, command_line, reason_codes, schemas, sdk

#: Where a kept page has one of these lines, the generated text of that name takes its place.
_MARK: Final = re.compile(r"(?m)^<!-- generated: ([a-z-]+) -->$")
#: Of code: an element around each word, which has a purpose in one with hyphens; classes without a style.
_CODE: Final = re.compile(
    r'<span class="pre">([^<-]*)</span>|(?<=<code class=")docutils (?=literal)|(?<=literal) notranslate'
)
#: The figures that are shown unless others are named.
MEASURED: Final = ROOT / "bench/measured.json"
_INDEX: Final = Path("docs/index.md")
_LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)\s:#]+)(?:#[\w-]*)?\)")


def generators(junit: Sequence[Path], report: Path) -> Mapping[str, Callable[[], str]]:
    """Return what makes each generated text."""
    return {
        "benchmarks": lambda: benchmarks.text(report),
        "claims": lambda: claims.text(junit),
        "command-line": command_line.text,
        "reason-codes": reason_codes.text,
        "schemas": schemas.text,
        "sdk": sdk.text,
    }


def write_sources(directory: Path, junit: Sequence[Path] = (), report: Path = MEASURED) -> None:
    """Write all pages in Markdown, the generated ones among them."""
    made = generators(junit, report)
    for path in (each for each in tracked() if each.parts[0] == "docs" and not (ROOT / each).is_symlink()):
        target = directory / path.relative_to("docs")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            text = _MARK.sub(lambda found: made[found[1]](), (ROOT / path).read_text())
            text = _without_links_out(text, path.parent)
            target.write_text(f"{text}\n{_contents(text)}" if path == _INDEX else text)
        else:
            shutil.copyfile(ROOT / path, target)
    for name, text in reason_codes.pages().items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)


def _contents(index: str) -> str:
    """Return the lists of pages for the sidebar: for each section of the index, what it links to."""
    sections = [section.partition("\n") for section in index.split("\n## ")[1:]]
    lists = {title: dict.fromkeys(target for _, target in _LINK.findall(text)) for title, _, text in sections}
    return "\n".join(
        f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{'\n'.join(pages)}\n```\n" for title, pages in lists.items()
    )


def _without_links_out(text: str, directory: Path) -> str:
    """Return a page with words alone where it links to files of the repository that are not in the site."""

    def link(found: re.Match[str]) -> str:
        target = (ROOT / directory / found[2]).resolve()
        return found[0] if target.is_relative_to(ROOT / "docs") else found[1]

    return _LINK.sub(link, text)


def shrink(site: Path) -> None:
    """Remove what no reader gets to see: indentation, what wraps words in code, and maps of style sheets."""
    for page in site.rglob("*.html"):
        parts = re.split(r"(?s)(<(?:pre|script|svg)\b.*?</(?:pre|script|svg)>)", page.read_text())
        parts[::2] = (re.sub(r"\n\s+", "\n", _CODE.sub(r"\1", part)) for part in parts[::2])
        page.write_text("".join(parts))
    for path in site.rglob("*.map"):
        path.unlink()


def main() -> None:
    """Build the site; a warning of Sphinx's, such as a link that leads nowhere, fails."""
    parser = argparse.ArgumentParser(prog="python -m tools.site", description=__doc__)
    parser.add_argument(
        "--junit", type=Path, action="append", default=[], help="results of tests, for the list of claims"
    )
    parser.add_argument(
        "--bench", type=Path, default=MEASURED, metavar="REPORT", help="report.json of `python -m bench report`"
    )
    parser.add_argument("out", type=Path, nargs="?", default=ROOT / "build/site")
    arguments = parser.parse_args()
    if arguments.out.exists():
        if not (arguments.out / ".buildinfo").is_file():
            parser.error(f"{arguments.out} is there, and is not a site that was built")
        shutil.rmtree(arguments.out)
    with tempfile.TemporaryDirectory() as directory:
        write_sources(Path(directory), arguments.junit, arguments.bench)
        sphinx = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going", "-j", "auto"]
        options = ["-E", "-c", ROOT / "tools/site", "-d", f"{directory}/.trees", directory, arguments.out]
        done = subprocess.run([*sphinx, *options], check=False)
    shrink(arguments.out)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
