"""`mvm help`, `mvm version`: the help of a command, and versions."""

import platform

import click

from mvmnix import __version__
from mvmnix.cli.commands.man import context_of
from mvmnix.cli.options.output_format import OutputFormat, format_options


@click.command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def help_(context: click.Context, words: tuple[str, ...]) -> None:
    """Print the help of COMMAND, as its option --help does, or of mvm itself.

    As a manual page: mvm man COMMAND | man -l -
    """
    click.echo(context_of(context.find_root().command, words).get_help())


@click.command()
@format_options()
def version(output: OutputFormat) -> None:
    """Print the versions of mvm, Python and the kernel. `mvm doctor` looks at hypervisors and Nix."""
    found = {"mvm": __version__, "python": platform.python_version(), "kernel": platform.release()}
    output.show_one("version", found, lambda: click.echo("".join(f"{k} {v}\n" for k, v in found.items()), nl=False))
