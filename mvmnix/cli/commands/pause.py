"""`mvm pause`, `resume`: pause a machine's guest, and resume it."""

import click

from mvmnix.api import Pause, Resume, change_machines
from mvmnix.cli.completers import running_machine
from mvmnix.cli.output import TERMINAL

_MACHINES = click.argument("machines", nargs=-1, required=True, metavar="MACHINE...", shell_complete=running_machine)


@click.command()
@_MACHINES
def pause(machines: tuple[str, ...]) -> None:
    """Pause each MACHINE until `mvm resume`; its memory stays, and its plan's wall time goes on.

    Prints its id.
    """
    _change(machines, Pause())


@click.command()
@_MACHINES
def resume(machines: tuple[str, ...]) -> None:
    """Resume each paused MACHINE. Prints its id."""
    _change(machines, Resume())


def _change(machines: tuple[str, ...], asked: Pause | Resume) -> None:
    for machine in change_machines(machines, asked, TERMINAL):
        click.echo(machine)
