"""`mvm pause`, `resume`: have a machine's guest stand still, and go on."""

import click

from mvmnix.api import Pause, Resume, change
from mvmnix.api.machine_store import open_machine_store
from mvmnix.cli.telling import TERMINAL
from mvmnix.launch.records import registry

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
    with open_machine_store(TERMINAL) as here:
        for machine in [registry.find(here, text).status.machine for text in machines]:
            change(here, machine, asked)
            click.echo(machine)
