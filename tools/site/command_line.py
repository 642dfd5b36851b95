"""The help text of each command, as text and as a section of the site's page of the command line."""

import contextlib
import io
import os
from unittest import mock

import click

from mvmnix.cli.main import cli


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


def text() -> str:
    """Return a section for each command, in Markdown.

    For a new interpreter: click remembers in a command how it was first called for help.
    """
    return "\n".join(f"## {' '.join(('mvm', *words))}\n\n```text\n{help_of(*words)}```\n" for words in commands())
