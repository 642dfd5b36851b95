"""`mvm restore`, `fork`, `thaw`: starts machines that go on from snapshots."""

import click

from mvmnix.api import (
    MOST_FORKS,
    StartOptions,
    fork_machine,
    open_context,
    put_in_order,
    restore_snapshot,
    thaw_machine,
)
from mvmnix.cli.completers import ended_machine, running_machine
from mvmnix.cli.output import TERMINAL, tell
from mvmnix.errors import MvmnixError


@click.command()
@click.argument("machine", shell_complete=ended_machine)
@click.option("--name", default="", help="A name for the machine. Default: the one that it had.")
def thaw(machine: str, name: str) -> None:
    """Start a machine that goes on from where MACHINE was cooled, in the background, and print its id.

    It is `mvm restore` of the snapshot that MACHINE ended with, which is kept.
    """
    with open_context(TERMINAL) as context:
        put_in_order(context.roots, context.machines, TERMINAL)
        click.echo(thaw_machine(context, machine, StartOptions(name=name)))


@click.command()
@click.argument("machine", shell_complete=running_machine)
@click.option("-n", "count", type=click.IntRange(1, MOST_FORKS), default=1, show_default=True, help="How many.")
def fork(machine: str, count: int) -> int:
    """Start machines that go on from where the running MACHINE is, which goes on, too. Prints the id of each.

    Each passes the gate, is logged and has entropy of its own. Where some don't start, the exit code is that of the
    first.
    """
    with open_context(TERMINAL) as context:
        put_in_order(context.roots, context.machines, TERMINAL)
        outcomes = fork_machine(context, machine, count)
    codes = list[int]()
    for each in outcomes:
        if isinstance(each, MvmnixError):
            codes.append(tell(each))
        else:
            click.echo(each)
    return codes[0] if codes else 0


@click.command()
@click.argument("snapshot", metavar="SNAPSHOT")
@click.option("--name", default="", help="A name for the machine. Default: two random words.")
def restore(snapshot: str, name: str) -> None:
    """Start a machine that goes on from SNAPSHOT, in the background, and print its id.

    Snapshot and plan pass the gate anew: the plan's window, today's policy and what is revoked count.
    """
    with open_context(TERMINAL) as context:
        put_in_order(context.roots, context.machines, TERMINAL)
        click.echo(restore_snapshot(context, snapshot, StartOptions(name=name)))
