"""`mvm pause`, `resume`: have a machine's guest stand still, and go on."""

import click

from mvmnix.api import Pause, Resume
from mvmnix.api.machines import change_machines
from mvmnix.cli.telling import TERMINAL

_MACHINES = click.argument("machines", nargs=-1, required=True, metavar="MACHINE...")


@click.command()
@_MACHINES
def pause(machines: tuple[str, ...]) -> None:
    """Have each MACHINE stand still until `mvm resume`; its memory stays, and its plan's wall time goes on.

    Prints its id.
    """
    _change(machines, Pause())


@click.command()
@_MACHINES
def resume(machines: tuple[str, ...]) -> None:
    """Have each paused MACHINE go on. Prints its id."""
    _change(machines, Resume())


def _change(machines: tuple[str, ...], asked: Pause | Resume) -> None:
    for machine in change_machines(machines, asked, TERMINAL):
        click.echo(machine)
