"""Writes the manual page of each command into a directory: `python -m tests.unit.man_pages DIRECTORY`."""

import sys
from pathlib import Path

from mvmnix.cli.commands.man import commands, page
from mvmnix.cli.main import cli


def write(directory: Path) -> None:
    """One file for each page; those of the same names are replaced."""
    directory.mkdir(parents=True, exist_ok=True)
    for words in ((), *commands(cli)):
        (directory / f"{'-'.join(('mvm', *words))}.1").write_text(page(cli, words))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
