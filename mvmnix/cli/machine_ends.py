"""`mvm stop`, `kill`, `rm`: ends machines from outside, and takes away what is left of them."""

import click

from mvmnix.api.machines import kill_machines, remove_machines, stop_machines
from mvmnix.cli.telling import TERMINAL

_MACHINES = click.argument("machines", nargs=-1, required=True, metavar="MACHINE...")


@click.command()
@_MACHINES
@click.option(
    "--patience", default=15.0, show_default=True, metavar="SECONDS", help="After that, its supervisor is killed."
)
def stop(machines: tuple[str, ...], patience: float) -> None:
    """Stop each MACHINE, by id or name: ask its guest, then end it. Prints its id."""
    for machine in stop_machines(machines, TERMINAL, patience=patience):
        click.echo(machine)


@click.command()
@_MACHINES
def kill(machines: tuple[str, ...]) -> None:
    """End each MACHINE now, without asking its guest; its receipt says so. Prints its id."""
    for machine in kill_machines(machines, TERMINAL):
        click.echo(machine)


@click.command()
@_MACHINES
@click.option("--force", "-f", is_flag=True, help="End those that run, without asking their guests.")
def rm(machines: tuple[str, ...], force: bool) -> None:
    """Remove each MACHINE that has ended: its logs, plan and receipt. Prints its id.

    The audit log keeps what it has: start and end, and the digests of plan and receipt.
    """
    for machine in remove_machines(machines, TERMINAL, force=force):
        click.echo(machine)
