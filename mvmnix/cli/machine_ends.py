"""`mvm stop`, `kill`, `rm`: ends machines from outside, and takes away what is left of them."""

import click

from mvmnix.api.machine_store import open_machine_store
from mvmnix.cli.telling import TERMINAL
from mvmnix.launch.records import registry

_MACHINES = click.argument("machines", nargs=-1, required=True, metavar="MACHINE...")


@click.command()
@_MACHINES
@click.option(
    "--patience", default=15.0, show_default=True, metavar="SECONDS", help="After that, its supervisor is killed."
)
def stop(machines: tuple[str, ...], patience: float) -> None:
    """Stop each MACHINE, by id or name: ask its guest, then end it. Prints its id."""
    with open_machine_store(TERMINAL) as here:
        for machine in [registry.find(here, text).status.machine for text in machines]:
            registry.stop(here, machine, patience=patience)
            _settled()
            click.echo(machine)


@click.command()
@_MACHINES
def kill(machines: tuple[str, ...]) -> None:
    """End each MACHINE now, without asking its guest; its receipt says so. Prints its id."""
    with open_machine_store(TERMINAL) as here:
        for machine in [registry.find(here, text).status.machine for text in machines]:
            registry.kill(here, machine)
            _settled()
            click.echo(machine)


@click.command()
@_MACHINES
@click.option("--force", "-f", is_flag=True, help="End those that run, without asking their guests.")
def rm(machines: tuple[str, ...], force: bool) -> None:
    """Remove each MACHINE that has ended: its logs, plan and receipt. Prints its id.

    The audit log keeps what it has: start and end, and the digests of plan and receipt.
    """
    with open_machine_store(TERMINAL) as here:
        for entry in [registry.find(here, text) for text in machines]:
            machine = entry.status.machine
            if force and entry.alive:
                registry.kill(here, machine)
                _settled()
            registry.remove(here, machine)
            click.echo(machine)


def _settled() -> None:
    """Have the end written down of a machine whose supervisor had to be killed."""
    with open_machine_store(TERMINAL):
        pass
