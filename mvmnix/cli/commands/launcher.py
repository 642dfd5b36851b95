"""`mvm launcher`: shows the processes that start machines for callers, and ends them."""

import click

from mvmnix.api import list_launchers, open_context, stop_launchers
from mvmnix.cli.options.output_format import OutputFormat, format_options
from mvmnix.cli.output import TERMINAL, table


@click.group()
def launcher() -> None:
    """The processes that start machines; one begins when a start needs it, and ends after an idle minute."""


@launcher.command()
@format_options()
def ls(output: OutputFormat) -> None:
    """List the launchers that run. There is one for each kind of caller: docs/explanation/no-daemon.md."""
    with open_context(TERMINAL) as context:
        found = list_launchers(context.roots)
    records = [{"key": each.key, "process": each.process} for each in found]
    output.show("launchers", records, lambda: table(("KEY", "PROCESS"), [(it.key, str(it.process)) for it in found]))


@launcher.command()
def stop() -> None:
    """End the launchers that run, and print the process id of each. Machines go on; the next start begins another."""
    with open_context(TERMINAL) as context:
        for each in stop_launchers(context.roots):
            click.echo(each.process)
