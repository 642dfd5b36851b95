"""Writes the second half of docs/command-line.md from the help texts: `python -m tests.unit.command_line_page`.

With the argument `-` the whole page goes to stdout instead.
"""

import contextlib
import io
import os
import subprocess
import sys
from unittest import mock

import click

from mvmnix.cli.main import cli
from tests.repository import ROOT

PAGE = ROOT / "docs/command-line.md"
#: What stands above this line of the page is written by hand, what follows it by `page`.
MARK = "<!-- From here on written by tests/unit/command_line_page.py, from the help texts. -->\n"


def help_of(*words: str) -> str:
    """What `mvm WORDS --help` prints into a terminal of 80 columns."""
    said = io.StringIO()
    with mock.patch.dict(os.environ, {"COLUMNS": "80"}), contextlib.redirect_stdout(said):
        cli.main(args=[*words, "--help"], prog_name="mvm", standalone_mode=False)
    return said.getvalue()


def commands() -> list[tuple[str, ...]]:
    """Every command and each of its subcommands, in the order of the page; the first is `mvm` itself."""
    found: list[tuple[str, ...]] = [()]
    context = click.Context(cli, info_name="mvm")
    for name in cli.list_commands(context):
        found.append((name,))
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            found.extend((name, inner) for inner in command.list_commands(context))
    return found


def page(text: str) -> str:
    """The page with the help texts of today; `text` is the page as it is."""
    written, mark, _ = text.partition(MARK)
    if not mark:
        raise ValueError(f"the page lacks the line {MARK!r}")
    parts = [f"## {' '.join(('mvm', *words))}\n\n```text\n{help_of(*words)}```\n" for words in commands()]
    return written + MARK + "\n" + "\n".join(parts)


def fresh_page() -> str:
    """The page as a new interpreter writes it: click remembers in a command how it was first called for help."""
    argv = [sys.executable, "-m", "tests.unit.command_line_page", "-"]
    return subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    today = page(PAGE.read_text())
    if sys.argv[1:] == ["-"]:
        sys.stdout.write(today)
    else:
        PAGE.write_text(today)
